//! Start, exceptions, and the two ways to run: until the boot decision, or driven by a host.

use core::arch::global_asm;
use core::panic::PanicInfo;
use core::ptr::{self, addr_of, addr_of_mut};

use board_shell::flash::MemoryFlash as _;
use board_shell::machine::{self, FLASH_LEN, Parts, layout};
use board_shell::provision::{self, Provision};
use board_shell::report;
use board_shell::shell::{Host, Restart, Shell};
use ecu_bootloader::Event;
use ecu_bootloader::layout::Layout;
use uds::time::Instant;

use crate::flash::RamFlash;
use crate::semihosting::{self, File};

type Machine = machine::Machine<RamFlash>;

/// Where the linker script has the flash.
const FLASH_BASE: u32 = 0x2100_0000;
const LAYOUT: Layout = match layout(FLASH_BASE) {
    Ok(layout) => layout,
    Err(_) => panic!("the flash map is not sound"),
};

// The vector table, the start, and where every run ends. The stack is painted so that what was
// never used can be told.
global_asm!(
    r#"
    .syntax unified
    .section .vectors, "a"
    .word stack_top
    .word reset
    .rept 14
    .word fault
    .endr

    .section .text.start, "ax"
    .global reset
    .type reset, %function
    .thumb_func
reset:
    ldr r0, =0xE000ED88      // CPACR: full access to the floating-point unit.
    ldr r1, [r0]
    orr r1, r1, #0xF00000
    str r1, [r0]
    dsb
    isb
    ldr r0, =stack_top       // Also after a jump from a run before.
    mov sp, r0
    ldr r0, =stack_bottom
    ldr r1, =0x5AA55AA5
1:  cmp r0, sp
    ittt lo
    strlo r1, [r0]
    addlo r0, #4
    blo 1b
    ldr r0, =data_start
    ldr r1, =data_end
    ldr r2, =data_load
2:  cmp r0, r1
    ittt lo
    ldrlo r3, [r2], #4
    strlo r3, [r0], #4
    blo 2b
    ldr r0, =bss_start
    ldr r1, =bss_end
    movs r2, #0
3:  cmp r0, r1
    itt lo
    strlo r2, [r0], #4
    blo 3b
    bl board_main
    b board_stop

    .global enter            // The program with its vector table here.
    .type enter, %function
    .thumb_func
enter:
    ldr r1, [r0]
    mov sp, r1
    ldr pc, [r0, #4]

    .global board_stop
    .type board_stop, %function
    .thumb_func
board_stop:
    b board_stop
    "#
);

// Places that the linker script names.
unsafe extern "C" {
    /// What a host writes before the start.
    static mut PROVISION: [u8; provision::LEN];
    /// The pinned roots, which a host writes before the start.
    static ROOTS: provision::Roots;
    /// How the start ended: a word of [`report`], the misuses of the flash.
    static mut REPORT: [u32; 2];
    static stack_bottom: u32;
    static stack_top: u32;
    fn board_stop() -> !;
    fn enter(vectors: u32) -> !;
    fn reset() -> !;
}

const PAINT: u32 = 0x5AA5_5AA5;

fn set_report(word: u32, misused: u32) {
    // SAFETY: one thread; the host reads when the board has stopped.
    unsafe { addr_of_mut!(REPORT).write_volatile([word, misused]) };
}

fn stop() -> ! {
    // SAFETY: it only loops.
    unsafe { board_stop() }
}

/// What the start calls.
#[unsafe(no_mangle)]
extern "C" fn board_main() {
    set_report(report::RUNNING, 0);
    // SAFETY: this is the only place that takes the block, and it is taken once a start.
    let mut provision = Provision(unsafe { &mut *addr_of_mut!(PROVISION) });
    // SAFETY: the memory of `FLASH`, which is used through this alone.
    let flash = unsafe { RamFlash::new(FLASH_BASE, FLASH_LEN) };
    let parts = if provision.is_there() {
        // SAFETY: the host writes the roots before the start, and nobody after it.
        Parts::new(LAYOUT, flash, &provision, unsafe { &ROOTS })
    } else {
        None
    };
    let Some(parts) = parts else {
        return set_report(report::UNPROVISIONED, 0);
    };
    let mut ecu = Machine::new(parts);
    ecu.start(provision.now(), provision.cause(), provision.handover());
    if provision.wants_shell() {
        drive(&mut ecu, flash, &mut provision);
    } else {
        boot(&mut ecu, flash, provision.now());
    }
}

/// Runs to the boot decision, reports it and enters what boots.
fn boot(ecu: &mut Machine, mut flash: RamFlash, now: Instant) {
    let mut misused = 0;
    loop {
        let mut moved = ecu.poll(now, 1);
        if let Some(result) = ecu.poll_flash().map(|op| flash.perform(op)) {
            misused += u32::from(result.is_err());
            ecu.on_flash_done(now, result);
            moved = true;
        }
        if let Some(event) = ecu.poll_event() {
            set_report(report::of_event(&event), misused);
            if let Event::Boot(target) = event {
                // SAFETY: nothing of this program is used again.
                unsafe { enter(target.payload_address()) }
            }
            return;
        }
        if !moved {
            return set_report(report::STAYS, misused);
        }
    }
}

/// Serves the host until a reset, then starts anew as after one.
fn drive(ecu: &mut Machine, flash: RamFlash, provision: &mut Provision<'_>) {
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

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    set_report(report::PANIC, 0);
    stop()
}

/// Every exception that is not the reset.
#[unsafe(no_mangle)]
extern "C" fn fault() -> ! {
    set_report(report::FAULT, 0);
    stop()
}
