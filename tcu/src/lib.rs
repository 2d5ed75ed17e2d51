//! The telematics unit: inventory, verification and the vehicle transaction.

#![forbid(unsafe_code)]

pub mod engine;
pub mod flash;
pub mod profile;
pub mod vehicle;
