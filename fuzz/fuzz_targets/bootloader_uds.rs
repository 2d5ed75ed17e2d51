//! Hostile scripts of requests, time, power cuts and flash errors against a whole ECU.
#![no_main]

use std::sync::LazyLock;

use ecu_bootloader::fuzz::Factory;

static FACTORY: LazyLock<Factory> = LazyLock::new(Factory::new);

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecu_bootloader::fuzz::uds(&FACTORY, data));
