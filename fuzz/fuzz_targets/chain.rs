//! Hostile bytes as a hash-chained record.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| campaign::fuzz::chain(data));
