//! Hostile bytes as targets metadata.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| campaign::fuzz::targets(data));
