//! The bootloader on an emulated Cortex-M4: QEMU's `mps2-an386`, or any emulator that loads an ELF
//! file and runs Thumb code.
//!
//! A host writes `PROVISION` and `FLASH` before the start and reads `REPORT` when the board is at
//! `board_stop`. Without the shell nothing but the processor and memory is used.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(unsafe_code)]

#[cfg(target_os = "none")]
mod board;

/// On anything but bare metal there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
