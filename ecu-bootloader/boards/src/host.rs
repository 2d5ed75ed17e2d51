//! Driven by a host: the shell over two FIFOs, a timer, and the painted stack.

use core::ptr::addr_of;

use board_shell::machine::Machine;
use board_shell::provision::Provision;
use board_shell::shell::{Host, Restart, Shell};

use crate::flash::RamFlash;
use crate::semihosting::{self, File};

// Places that a board's linker script and start name.
unsafe extern "C" {
    static stack_bottom: u32;
    static stack_top: u32;
    fn reset() -> !;
}

/// What the start paints the stack with.
const PAINT: u32 = 0x5AA5_5AA5;

/// Serves the host until a reset, then starts anew as after one. `ticks` is a timer that counts up and
/// wraps.
pub fn drive<const BASE: u32>(
    ecu: &mut Machine<RamFlash<BASE>>,
    flash: RamFlash<BASE>,
    provision: &mut Provision<'_>,
    ticks: impl FnMut() -> u32,
) {
    let host = (File::source(c"to-board"), File::sink(c"from-board"));
    let (Some(source), Some(sink)) = host else {
        return;
    };
    let line = Line {
        source,
        sink,
        ticks,
    };
    let mut shell = Shell::new(line, flash, provision.now());
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

/// FIFOs of the host.
struct Line<T> {
    source: File,
    sink: File,
    ticks: T,
}

impl<T: FnMut() -> u32> Host for Line<T> {
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
        (self.ticks)()
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
