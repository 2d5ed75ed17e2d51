//! Hostile bytes as what an ECU has stored: state, journal, mailbox message, handover.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecu_bootloader::fuzz::stored(data));
