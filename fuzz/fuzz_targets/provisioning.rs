//! Hostile bytes as an ECU's provisioning file.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecu_image::fuzz::provisioning(data));
