//! Hostile bytes as timestamp metadata.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| campaign::fuzz::timestamp(data));
