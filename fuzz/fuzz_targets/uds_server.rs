//! Hostile scripts against the UDS server machine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| uds::server::fuzz::server(data));
