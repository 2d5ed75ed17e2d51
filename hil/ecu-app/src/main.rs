//! The firmware that is flashed in tests.
//!
//! In the role of an ECU's application it sends a heartbeat with its version, tests itself, hosts
//! the diagnostic services of the ECU profile's "app" column, and passes the others to the boot
//! services. It is an ordinary Linux program that the virtual ECU executes from its slot; frames,
//! boot services and watchdog are the packets of one inherited socket.

#![no_std]
#![no_main]

mod app;
mod config;
mod diagnostics;
#[allow(unreachable_pub)] // Public in the library that it is shared with.
#[path = "../../virtual-ecu/src/link.rs"]
mod link;
mod mailbox;
mod services;
mod system;

use core::ffi::c_int;

/// Called by the C runtime.
// SAFETY: no other symbol of this program is called `main`.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    system::run()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    system::crash()
}
