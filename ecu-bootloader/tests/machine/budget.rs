//! The RAM budget of `docs/spec/bootloader.md`.

use crate::bench::Machine;

#[test]
fn the_machine_fits_its_ram_budget() {
    let bytes = std::mem::size_of::<Machine>();
    println!("{bytes} bytes");
    assert!(bytes <= 24 * 1024, "{bytes} bytes");
}
