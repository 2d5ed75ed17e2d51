//! Hostile bytes as an ECU's report.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecu_image::fuzz::ecu_report(data));
