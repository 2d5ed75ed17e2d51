//! Hostile bytes as the director's answer about the time, under a hostile root.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| campaign::fuzz::attestation(data));
