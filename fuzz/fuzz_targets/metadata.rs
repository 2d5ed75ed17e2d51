//! Hostile bytes as Uptane metadata.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| campaign::fuzz::metadata(data));
