//! Hostile bytes as UDS requests and responses.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| uds::service::fuzz::service(data));
