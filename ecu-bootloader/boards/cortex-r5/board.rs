//! Start, exceptions, and the loop.

use core::arch::{asm, global_asm};
use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::ptr::{addr_of, addr_of_mut};

use board_shell::machine::{self, Memory, Parts, Verifier};
use board_shell::provision::{self, Provision};
use board_shell::report;
use boards::can::Controller;
use boards::flash::RamFlash;
use boards::serve::{decide, serve};
use boards::ticks::Ticks;

type Machine = machine::Machine<Flash>;

/// Where the linker script has the flash.
pub(crate) type Flash = RamFlash<0x0840_0000>;
/// Two mailboxes.
const CONTROLLER: usize = 0x0860_2000;

// The vectors and the start, in Arm state. The floating-point unit is on, since the ABI uses it.
global_asm!(
    r#"
    .syntax unified
    .section .vectors, "ax"
    .arm
    b reset
    .rept 7
    b fault
    .endr

    .section .text.start, "ax"
    .arm
    .global reset
    .type reset, %function
reset:
    mrc p15, 0, r0, c1, c0, 2
    orr r0, r0, #0xF00000
    mcr p15, 0, r0, c1, c0, 2
    isb
    mov r0, #0x40000000
    vmsr fpexc, r0
    mrc p15, 0, r0, c9, c12, 0
    orr r0, r0, #1
    mcr p15, 0, r0, c9, c12, 0
    mov r0, #0x80000000
    mcr p15, 0, r0, c9, c12, 1
    ldr sp, =stack_top
    ldr r0, =data_start
    ldr r1, =data_end
    ldr r2, =data_load
2:  cmp r0, r1
    ldrlo r3, [r2], #4
    strlo r3, [r0], #4
    blo 2b
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

fn set_report(word: u32, misused: u32) {
    // SAFETY: one thread; the host reads when the board has stopped.
    unsafe { addr_of_mut!(REPORT).write_volatile([word, misused]) };
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
    // SAFETY: this is the only place that takes the block, and it is taken once a start.
    let provision = Provision(unsafe { &mut *addr_of_mut!(PROVISION) });
    // SAFETY: the memory that the linker script has for the flash, used through this alone.
    let flash = unsafe { Flash::new() };
    let Some(ecu) = made(flash, &provision) else {
        return set_report(report::UNPROVISIONED, 0);
    };
    ecu.start(provision.now(), provision.cause(), provision.handover());
    let (event, misused) = decide(ecu, flash, provision.now());
    set_report(
        event.as_ref().map_or(report::STAYS, report::of_event),
        misused,
    );
    // SAFETY: two mailboxes in memory that nobody else uses.
    let can = unsafe { Controller::new(CONTROLLER) };
    // 400 MHz, as such a controller may have.
    let mut clock = Ticks::new(400, cycles(), cycles);
    let event = serve(ecu, flash, can, || clock.now());
    set_report(report::of_event(&event), 0);
}

/// Makes the machine; what that takes of the stack is free again behind it.
#[inline(never)]
fn made(flash: Flash, provision: &Provision<'_>) -> Option<&'static mut Machine> {
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
