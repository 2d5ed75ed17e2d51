//! The bench: bus hubs, virtual ECUs, backend and TCU of one vehicle, and its scenarios.

#![forbid(unsafe_code)]

pub mod busshare;
pub mod hub;
pub mod vehicle;
