//! Hostile files as the refresh of a repository.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| campaign::fuzz::refresh(data));
