//! The bootloader for a Cortex-R5F: QEMU's `xlnx-zcu102`, whose second cluster has them. What a chip
//! needs besides (clocks, memory protection, its own CAN controller and flash) is not here.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(unsafe_code)]

#[cfg(target_os = "none")]
mod board;

/// On anything but bare metal there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
