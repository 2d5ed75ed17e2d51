//! The bootloader over its frames, against a modelled flash, on a virtual clock.

#![allow(unreachable_pub)]

mod bench;
mod images;
mod powercut;
mod tester;
mod update;
