//! An ECU's bootloader on a bench in virtual time, and the proof that power may fail anywhere in its
//! life.
//!
//! [`bench`] has the machine, a modelled flash and a tester at the other end of the CAN frames;
//! [`images`] makes keys, images and grants when a test runs; [`tester`] is the tester's part of
//! `docs/spec/ecu-profile.md`.
//!
//! A bench is for tests: what must not happen panics there, and its data are small numbers.

#![forbid(unsafe_code)]
#![allow(missing_docs, clippy::cast_possible_truncation)]

pub mod bench;
pub mod images;
pub mod tester;
