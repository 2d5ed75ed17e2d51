//! A whole ECU as a machine in virtual time and as a Linux process.
//!
//! [`machine::Machine`] is the ECU: bootloader, flash chip and whatever runs in the slot, in frames
//! and time. The caller's clock drives it; [`scripted`] applications follow that clock too. The
//! program `virtual-ecu` is the same machine on the real clock, with [`process`] applications: what
//! is flashed is a native program, and booting executes exactly the bytes of the slot.

#![forbid(unsafe_code)]

pub mod app;
pub mod application;
pub mod board;
pub mod chip;
pub mod cli;
pub mod event;
pub mod hardware;
pub mod link;
pub mod machine;
pub mod process;
pub mod provision;
pub mod run;
pub mod scripted;

/// Exit code of `virtual-ecu run` after a power cut that `--power-cut-at-op` asked for.
pub const POWER_CUT_EXIT_CODE: i32 = 75;
