//! Start, exceptions, and the two ways to run: until the boot decision, or driven by a host.

use core::arch::global_asm;
use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::ptr::{self, addr_of, addr_of_mut};

use board_shell::machine::{self, Memory, Parts, Verifier};
use board_shell::provision::{self, Provision};
use board_shell::report;
use boards::flash::RamFlash;
#[cfg(not(feature = "shell"))]
use boards::ticks::Ticks;
use ecu_bootloader::Event;
use uds::time::Instant;

pub(crate) type Machine = machine::Machine<Flash>;

/// Where the linker script has the flash.
pub(crate) type Flash = RamFlash<0x2100_0000>;

// The stack is painted so that what was never used can be told: only a host that drives the board asks.
#[cfg(feature = "shell")]
macro_rules! paint {
    () => {
        r#"
    ldr r0, =stack_bottom
    ldr r1, =0x5AA55AA5
1:  cmp r0, sp
    ittt lo
    strlo r1, [r0]
    addlo r0, #4
    blo 1b
    "#
    };
}
#[cfg(not(feature = "shell"))]
macro_rules! paint {
    () => {
        ""
    };
}

// The vector table, the start, and where every run ends.
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
    "#,
    paint!(),
    r#"
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
    ldr r1, =0xE000ED08      // VTOR (Armv7-M ARM, B3.2.5): interrupts and faults are the program's own.
    str r0, [r1]
    dsb
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
    fn board_stop() -> !;
    fn enter(vectors: u32) -> !;
}

#[inline(never)]
fn set_report(word: u32, misused: u32) {
    let report = addr_of_mut!(REPORT).cast::<u32>();
    // SAFETY: one thread; the host reads when the board has stopped.
    unsafe {
        report.write_volatile(word);
        report.add(1).write_volatile(misused);
    }
}

fn stop() -> ! {
    // SAFETY: it only loops.
    unsafe { board_stop() }
}

/// The machine and its buffers. They are set anew by every start.
#[unsafe(link_section = ".bss.machine")]
static mut MACHINE: MaybeUninit<Machine> = MaybeUninit::uninit();
static mut MEMORY: Memory = Memory::new();
static mut VERIFIER: Verifier = Verifier::idle();

/// What the start calls.
#[unsafe(no_mangle)]
extern "C" fn board_main() {
    set_report(report::RUNNING, 0);
    // SAFETY: this is the only place that takes the block, and it is taken once a start.
    #[cfg_attr(not(feature = "shell"), allow(unused_mut))]
    let mut provision = Provision(unsafe { &mut *addr_of_mut!(PROVISION) });
    // SAFETY: the memory of `FLASH`, which is used through this alone.
    let flash = unsafe { Flash::new() };
    let Some(ecu) = made(flash, &provision) else {
        return set_report(report::UNPROVISIONED, 0);
    };
    ecu.start(provision.now(), provision.cause(), provision.retained());
    #[cfg(feature = "shell")]
    if provision.wants_shell() {
        start_timer();
        return boards::host::drive(ecu, flash, &mut provision, || !timer());
    }
    boot(ecu, flash, provision.now());
    #[cfg(not(feature = "shell"))]
    serve(ecu, flash);
}

/// Makes the machine; what that takes of the stack is free again behind it.
#[inline(never)]
fn made(flash: Flash, provision: &Provision<'_>) -> Option<&'static mut Machine> {
    if !provision.is_there() {
        return None;
    }
    // SAFETY: the host writes the roots before the start, and nobody after it.
    let (roots, verifier) = unsafe { (&*addr_of!(ROOTS), &mut *addr_of_mut!(VERIFIER)) };
    let parts = Parts::new(flash, provision, roots, verifier);
    // SAFETY: this is the only place that takes the memory, and it is taken once a start.
    let ecu = unsafe { &mut *addr_of_mut!(MACHINE) };
    // SAFETY: as above.
    Some(ecu.write(Machine::over(parts, unsafe { &mut *addr_of_mut!(MEMORY) })))
}

/// Runs to the boot decision, reports it and enters what boots.
#[inline(never)]
fn boot(ecu: &mut Machine, flash: Flash, now: Instant) {
    let (event, misused) = boards::serve::decide(ecu, flash, now);
    let word = event.as_ref().map_or(report::STAYS, report::of_event);
    set_report(word, misused);
    if let Some(Event::Boot(target)) = event {
        // SAFETY: nothing of this program is used again.
        unsafe { enter(target.payload_address()) }
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

/// Serves the bus until an image is to be started or the board reset, which stops the emulator.
#[cfg(not(feature = "shell"))]
fn serve(ecu: &mut Machine, flash: Flash) {
    // SAFETY: two mailboxes in the memory that a host has.
    let can = unsafe { boards::can::Controller::new(CONTROLLER) };
    let mut clock = Ticks::new(25, !timer(), || !timer());
    let event = boards::serve::serve(ecu, flash, can, || clock.now());
    set_report(report::of_event(&event), 0);
}

/// Two mailboxes.
#[cfg(not(feature = "shell"))]
const CONTROLLER: usize = 0x21E0_2000;

/// CMSDK timer 0: 25 MHz.
const TIMER: usize = 0x4000_0000;

#[cfg(feature = "shell")]
fn start_timer() {
    // SAFETY: the registers CTRL and RELOAD of the timer, which nobody else uses.
    unsafe {
        ptr::with_exposed_provenance_mut::<u32>(TIMER + 8).write_volatile(u32::MAX);
        ptr::with_exposed_provenance_mut::<u32>(TIMER).write_volatile(1);
    }
}

/// It counts down.
fn timer() -> u32 {
    // SAFETY: the register VALUE of the timer; reading it has no effect.
    unsafe { ptr::with_exposed_provenance::<u32>(TIMER + 4).read_volatile() }
}
