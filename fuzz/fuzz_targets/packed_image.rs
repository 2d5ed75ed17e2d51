//! Hostile bytes as a whole packed image.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecu_image::fuzz::packed_image(data));
