//! The bootloader on an emulated board, from the host's side.
//!
//! [`keys::Keys`] are made when a test runs; [`flash`] is the memory of a provisioned ECU;
//! [`qemu::Board`] runs `ecu-bootloader/boards` in turns with the host, so that every run is the same
//! and instructions can be counted; [`tester`] updates it as a workshop would.
#![forbid(unsafe_code)]

pub mod flash;
pub mod footprint;
mod hostile;
pub mod images;
pub mod keys;
pub mod qemu;
pub mod tester;
