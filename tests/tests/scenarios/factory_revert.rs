//! The running slot loses bits.

#[test]
fn worn_flash_ends_in_the_factory_firmware() {
    e2e::play("factory-revert");
}
