//! The services of ISO 14229-1: identifiers and codecs of requests and responses.
//!
//! A codec parses a PDU once into a borrowed value that can always be written back.

mod ids;

pub use ids::{
    BlockSequenceCounter, Did, RoutineId, SecurityLevel, ServiceId, Session, SubFunction,
};
