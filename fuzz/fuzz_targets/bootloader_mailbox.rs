//! Hostile messages of the application against the boot services.
#![no_main]

use std::sync::LazyLock;

use ecu_bootloader::fuzz::Factory;

static FACTORY: LazyLock<Factory> = LazyLock::new(Factory::new);

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecu_bootloader::fuzz::mailbox(&FACTORY, data));
