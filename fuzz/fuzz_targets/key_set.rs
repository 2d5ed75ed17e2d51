//! Hostile bytes as a key set.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecu_image::fuzz::key_set(data));
