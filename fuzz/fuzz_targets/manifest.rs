//! A hostile vehicle version manifest.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| campaign::fuzz::manifest(data));
