//! Hostile bytes as a state and a journal, and scripts of writes that are cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecu_bootloader::fuzz::journal(data));
