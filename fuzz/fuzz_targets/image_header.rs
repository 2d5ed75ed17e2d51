//! Hostile bytes as an image header.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecu_image::fuzz::image_header(data));
