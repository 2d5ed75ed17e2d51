//! Hostile bytes as a vehicle configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| campaign::fuzz::vehicle(data));
