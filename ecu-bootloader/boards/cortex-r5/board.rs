//! Start, exceptions, and the loop.

use core::arch::{asm, global_asm};
use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::ptr::{addr_of, addr_of_mut};

use board_shell::machine::{self, Memory, Parts, Verifier};
use board_shell::provision::{self, Provision};
use board_shell::report;
#[cfg(not(feature = "shell"))]
use boards::can::Controller;
use boards::flash::RamFlash;
use boards::serve::decide;
#[cfg(not(feature = "shell"))]
use boards::ticks::Ticks;
use ecu_bootloader::Event;
use uds::time::Instant;

type Machine = machine::Machine<Flash>;

/// Where the linker script has the flash.
pub(crate) type Flash = RamFlash<0x2100_0000>;
/// Two mailboxes.
#[cfg(not(feature = "shell"))]
const CONTROLLER: usize = 0x21E0_2000;

// The stack is painted so that what was never used can be told: only a host that drives the board asks.
#[cfg(feature = "shell")]
macro_rules! paint {
    () => {
        r#"
    ldr r0, =stack_bottom
    ldr r1, =0x5AA55AA5
1:  cmp r0, sp
    strlo r1, [r0], #4
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

// The cycle counter counts cycles, or for a host each 64th.
#[cfg(feature = "shell")]
macro_rules! counting {
    () => {
        "orr r0, r0, #9"
    };
}
#[cfg(not(feature = "shell"))]
macro_rules! counting {
    () => {
        "orr r0, r0, #1"
    };
}

// The vectors and the start, in Arm state. The floating-point unit is on, since the ABI uses it.
global_asm!(
    r#"
    .syntax unified
    .section .vectors, "ax"
    .arm
    b reset
    .rept 7
    b faulted
    .endr
faulted:                     // In a mode whose stack pointer nobody has set.
    ldr sp, =stack_top
    bl fault

    .section .text.start, "ax"
    .arm
    .global reset
    .type reset, %function
reset:
    mrc p15, 0, r0, c1, c0, 0
    bic r0, r0, #0x2000      // SCTLR.V: the vectors are those at 0, wherever the reset was.
    mcr p15, 0, r0, c1, c0, 0
    mrc p15, 0, r0, c1, c0, 2
    orr r0, r0, #0xF00000
    mcr p15, 0, r0, c1, c0, 2
    isb
    mov r0, #0x40000000
    vmsr fpexc, r0
    mrc p15, 0, r0, c9, c12, 0
    "#,
    counting!(),
    r#"
    mcr p15, 0, r0, c9, c12, 0
    mov r0, #0x80000000
    mcr p15, 0, r0, c9, c12, 1
    ldr sp, =stack_top
    "#,
    paint!(),
    r#"
    ldr r0, =bss_start
    ldr r1, =bss_end
    mov r2, #0
3:  cmp r0, r1
    strlo r2, [r0], #4
    blo 3b
    bl board_main
    .global board_stop
    .type board_stop, %function
board_stop:
    b board_stop
    "#
);

// Places that the linker script and the start name.
unsafe extern "C" {
    static mut PROVISION: [u8; provision::LEN];
    static ROOTS: provision::Roots;
    static mut REPORT: [u32; 2];
    fn board_stop() -> !;
}

/// The machine and its buffers. They are set anew by every start.
#[unsafe(link_section = ".bss.machine")]
static mut MACHINE: MaybeUninit<Machine> = MaybeUninit::uninit();
static mut MEMORY: Memory = Memory::new();
static mut VERIFIER: Verifier = Verifier::idle();

#[inline(never)]
fn set_report(word: u32, misused: u32) {
    let report = addr_of_mut!(REPORT).cast::<u32>();
    // SAFETY: one thread; the host reads when the board has stopped.
    unsafe {
        report.write_volatile(word);
        report.add(1).write_volatile(misused);
    }
}

/// The cycle counter.
fn cycles() -> u32 {
    let cycles;
    // SAFETY: reading PMCCNTR has no effect.
    unsafe { asm!("mrc p15, 0, {}, c9, c13, 0", out(reg) cycles) };
    cycles
}

/// What the start calls.
#[unsafe(no_mangle)]
extern "C" fn board_main() {
    set_report(report::RUNNING, 0);
    // SAFETY: this is the only place that takes the block, and it is taken once a start.
    #[cfg_attr(not(feature = "shell"), allow(unused_mut))]
    let mut provision = Provision(unsafe { &mut *addr_of_mut!(PROVISION) });
    // SAFETY: the memory that the linker script has for the flash, used through this alone.
    let flash = unsafe { Flash::new() };
    let Some(ecu) = made(flash, &provision) else {
        return set_report(report::UNPROVISIONED, 0);
    };
    ecu.start(provision.now(), provision.cause(), provision.retained());
    #[cfg(feature = "shell")]
    if provision.wants_shell() {
        return boards::host::drive(ecu, flash, &mut provision, cycles);
    }
    boot(ecu, flash, provision.now());
    #[cfg(not(feature = "shell"))]
    serve(ecu, flash);
}

/// Runs to the boot decision, reports it and enters what boots.
#[inline(never)]
fn boot(ecu: &mut Machine, flash: Flash, now: Instant) {
    let (event, misused) = decide(ecu, flash, now);
    let word = event.as_ref().map_or(report::STAYS, report::of_event);
    set_report(word, misused);
    if let Some(Event::Boot(target)) = event {
        // SAFETY: nothing of this program is used again. The vectors stay: where they are, and how
        // they become the application's, is the chip's.
        unsafe { asm!("bx {}", in(reg) target.payload_address(), options(noreturn)) }
    }
}

/// Serves the bus until an image is to be started, or the board reset.
#[cfg(not(feature = "shell"))]
fn serve(ecu: &mut Machine, flash: Flash) {
    // SAFETY: two mailboxes in memory that nobody else uses.
    let can = unsafe { Controller::new(CONTROLLER) };
    // 400 MHz, as such a controller may have.
    let mut clock = Ticks::new(400, cycles(), cycles);
    let event = boards::serve::serve(ecu, flash, can, || clock.now());
    set_report(report::of_event(&event), 0);
}

/// Makes the machine; what that takes of the stack is free again behind it.
#[inline(never)]
fn made(flash: Flash, provision: &Provision<'_>) -> Option<&'static mut Machine> {
    if !provision.is_there() {
        return None;
    }
    // SAFETY: the roots are written at provisioning, and never after it.
    let (roots, verifier) = unsafe { (&*addr_of!(ROOTS), &mut *addr_of_mut!(VERIFIER)) };
    let parts = Parts::new(flash, provision, roots, verifier);
    // SAFETY: this is the only place that takes the memory, and it is taken once a start.
    let ecu = unsafe { &mut *addr_of_mut!(MACHINE) };
    // SAFETY: as above.
    Some(ecu.write(Machine::over(parts, unsafe { &mut *addr_of_mut!(MEMORY) })))
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    set_report(report::PANIC, 0);
    // SAFETY: it only loops.
    unsafe { board_stop() }
}

/// Every exception that is not the reset.
#[unsafe(no_mangle)]
extern "C" fn fault() -> ! {
    set_report(report::FAULT, 0);
    // SAFETY: it only loops.
    unsafe { board_stop() }
}
