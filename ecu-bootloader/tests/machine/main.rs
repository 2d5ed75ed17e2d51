//! The bootloader over its frames, against a modelled flash, on a virtual clock.

// Test data are small numbers; modules of a test binary share by `pub`.
#![allow(unreachable_pub, clippy::cast_possible_truncation)]

mod access;
#[cfg(feature = "attestation")]
mod attestation;
#[cfg(feature = "authentication")]
mod authentication;
mod budget;
mod element;
mod hostile;
mod keysets;
mod matrix;
mod powercut;
mod refusals;
mod second_look;
mod sessions;
mod trials;
mod update;
mod work;

use ::powercut::{bench, images, tester};
