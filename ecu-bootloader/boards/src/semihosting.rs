//! Arm semihosting: files and the end of the run, through the debugger or emulator.

use core::arch::asm;

const OPEN: usize = 0x01;
const WRITE: usize = 0x05;
const READ: usize = 0x06;
const EXIT: usize = 0x18;
const READ_BINARY: usize = 1;
const WRITE_BINARY: usize = 5;
/// ADP_Stopped_ApplicationExit.
const APPLICATION_EXIT: usize = 0x2_0026;

// What a debugger waits for, in Thumb state: profile M has no supervisor call of that kind.
#[cfg(profile_m)]
macro_rules! trap {
    () => {
        "bkpt 0xAB"
    };
}
#[cfg(not(profile_m))]
macro_rules! trap {
    () => {
        "svc 0xAB"
    };
}

fn call(operation: usize, argument: usize) -> isize {
    let result;
    // SAFETY: the emulator reads the argument block and writes the buffer that it names, both of
    // which the callers below own.
    unsafe {
        asm!(trap!(), inlateout("r0") operation => result, in("r1") argument, out("lr") _, options(nostack));
    }
    result
}

/// A file of the host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File(usize);

impl File {
    fn open(name: &core::ffi::CStr, mode: usize) -> Option<Self> {
        let block = [name.as_ptr() as usize, mode, name.count_bytes()];
        usize::try_from(call(OPEN, block.as_ptr() as usize))
            .ok()
            .map(Self)
    }

    /// To read from.
    pub(crate) fn source(name: &core::ffi::CStr) -> Option<Self> {
        Self::open(name, READ_BINARY)
    }

    /// To write to.
    pub(crate) fn sink(name: &core::ffi::CStr) -> Option<Self> {
        Self::open(name, WRITE_BINARY)
    }

    /// Reads some bytes; how many.
    pub(crate) fn read(self, bytes: &mut [u8]) -> usize {
        let block = [self.0, bytes.as_mut_ptr() as usize, bytes.len()];
        // The answer is how many bytes are missing.
        let missing = usize::try_from(call(READ, block.as_ptr() as usize)).unwrap_or(bytes.len());
        bytes.len().saturating_sub(missing)
    }

    /// Writes all bytes.
    pub(crate) fn write(self, bytes: &[u8]) {
        let block = [self.0, bytes.as_ptr() as usize, bytes.len()];
        call(WRITE, block.as_ptr() as usize);
    }
}

/// Ends the emulator.
pub(crate) fn exit() {
    call(EXIT, APPLICATION_EXIT);
}
