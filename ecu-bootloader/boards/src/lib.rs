//! What the boards have in common: memory as flash, memory as CAN controller, and the loop that a
//! bootloader is.

#![no_std]
#![allow(unsafe_code)]

pub mod can;
pub mod flash;
mod memory;
pub mod serve;
pub mod ticks;
