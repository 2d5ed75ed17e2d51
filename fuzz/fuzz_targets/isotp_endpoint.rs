//! Hostile scripts against an ISO-TP endpoint.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| uds::isotp::fuzz::isotp_endpoint(data));
