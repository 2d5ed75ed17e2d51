//! What the boards have in common: memory as flash, memory as CAN controller, the loop that a
//! bootloader is, and with the feature `shell` the line to a host that drives an emulated board.

#![no_std]
#![allow(unsafe_code)]

pub mod can;
pub mod flash;
#[cfg(all(target_os = "none", feature = "shell"))]
pub mod host;
mod memory;
#[cfg(all(target_os = "none", feature = "shell"))]
mod semihosting;
pub mod serve;
pub mod ticks;
