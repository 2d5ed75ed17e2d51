//! Hostile bytes as an install grant.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecu_image::fuzz::install_grant(data));
