//! Hostile bytes as snapshot metadata.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| campaign::fuzz::snapshot(data));
