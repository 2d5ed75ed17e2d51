//! An ECU's bootloader on a bench in virtual time, and the proof that power may fail anywhere in its
//! life.
//!
//! [`mod@bench`] has the machine, a modelled flash and a tester at the other end of the CAN frames;
//! [`images`] makes keys, images and grants when a test runs; [`tester`] is the tester's part of
//! `docs/spec/ecu-profile.md`. [`life`] is everything that happens to an ECU, [`proof`] cuts its power
//! at every operation of that, [`check`] says what must hold, [`cli`] is the program. [`work`] counts
//! what the machine's cryptography does.
//!
//! A bench is for tests: what must not happen panics there, and its data are small numbers.

#![forbid(unsafe_code)]
#![allow(clippy::cast_possible_truncation)]

// What these three offer says its name; they are for tests.
#[allow(missing_docs)]
pub mod bench;
pub mod check;
pub mod cli;
#[allow(missing_docs)]
pub mod images;
pub mod life;
pub mod proof;
#[allow(missing_docs)]
pub mod tester;
pub mod verifier;
pub mod work;
