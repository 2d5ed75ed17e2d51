//! Driven by a host: the shell over two FIFOs, a timer, and the painted stack.

use core::ptr::{self, addr_of};

use board_shell::provision::Provision;
use board_shell::shell::{Host, Restart, Shell};

use crate::board::{Flash, Machine};
use crate::semihosting::{self, File};

// Places that the linker script and the start name.
unsafe extern "C" {
    static stack_bottom: u32;
    static stack_top: u32;
    fn reset() -> !;
}

/// What the start paints the stack with.
const PAINT: u32 = 0x5AA5_5AA5;

/// Serves the host until a reset, then starts anew as after one.
pub(crate) fn drive(ecu: &mut Machine, flash: Flash, provision: &mut Provision<'_>) {
    let host = (File::source(c"to-board"), File::sink(c"from-board"));
    let (Some(source), Some(sink)) = host else {
        return;
    };
    start_timer();
    let mut shell = Shell::new(Line { source, sink }, flash, provision.now());
    let restart = shell.run(ecu);
    ecu.platform().retain(provision);
    let Some(Restart {
        cause,
        handover,
        now,
    }) = restart
    else {
        semihosting::exit();
        return;
    };
    provision.restart(cause, &handover, now);
    // SAFETY: the start sets the stack and all variables anew; nothing of before is used again.
    unsafe { reset() }
}

/// CMSDK timer 0: 25 MHz, counts down.
const TIMER: usize = 0x4000_0000;

/// Starts the timer.
fn start_timer() {
    // SAFETY: the registers CTRL and RELOAD of the timer, which nobody else uses.
    unsafe {
        ptr::with_exposed_provenance_mut::<u32>(TIMER + 8).write_volatile(u32::MAX);
        ptr::with_exposed_provenance_mut::<u32>(TIMER).write_volatile(1);
    }
}

fn timer() -> u32 {
    // SAFETY: the register VALUE of the timer; reading it has no effect.
    u32::MAX - unsafe { ptr::with_exposed_provenance::<u32>(TIMER + 4).read_volatile() }
}

/// FIFOs of the host.
struct Line {
    source: File,
    sink: File,
}

impl Host for Line {
    fn read(&mut self, mut bytes: &mut [u8]) -> Option<()> {
        while !bytes.is_empty() {
            let count = self.source.read(bytes);
            bytes = bytes.get_mut(count..).filter(|_| count != 0)?;
        }
        Some(())
    }

    fn write(&mut self, bytes: &[u8]) {
        self.sink.write(bytes);
    }

    fn ticks(&mut self) -> u32 {
        timer()
    }

    fn free_stack(&mut self) -> u32 {
        let (mut at, end) = (addr_of!(stack_bottom), addr_of!(stack_top));
        let mut free = 0;
        // SAFETY: between the bottom and the top there is the stack, which may be read while it is
        // used.
        while at < end && unsafe { at.read_volatile() } == PAINT {
            at = at.wrapping_add(1);
            free += 4;
        }
        free
    }
}
