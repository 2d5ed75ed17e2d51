//! Hostile bytes as one ISO-TP frame.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| uds::isotp::fuzz::isotp_pdu(data));
