//! The bench: bus hubs, virtual ECUs, backend and TCU of one vehicle, and its scenarios.
//!
//! Everything runs as the programs that users run; the bench only starts them, breaks things, and
//! looks at the outcome from outside: heartbeats on the bus and the TCU's report.

#![forbid(unsafe_code)]

pub mod backend;
pub mod bench;
pub mod bus;
pub mod busshare;
pub mod cli;
pub mod display;
pub mod ecu;
pub mod forge;
pub mod hub;
pub mod kills;
pub mod memory;
pub mod monitor;
pub mod process;
pub mod programs;
pub mod relay;
pub mod report;
pub mod scenario;
pub mod tcu;
pub mod vehicle;
