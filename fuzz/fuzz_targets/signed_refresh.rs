//! Hostile statements, signed, as two refreshes of a repository.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| campaign::fuzz::signed_refresh(data));
