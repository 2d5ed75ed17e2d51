//! Hostile bytes as root metadata.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| campaign::fuzz::root(data));
