//! Hostile scripts against the UDS client machine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| uds::client::fuzz::client(data));
