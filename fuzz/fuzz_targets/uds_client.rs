#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| uds::client::fuzz::client(data));
