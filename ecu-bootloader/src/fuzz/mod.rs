//! Fuzz targets' logic. Whatever the input, nothing panics and what the targets assert holds: this
//! module says what must not happen by panicking, so the lints of the core do not apply to it.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod ecu;
mod flash;
mod images;
mod script;
mod stored;

pub use ecu::Factory;
pub use script::{mailbox, uds};
pub use stored::journal;

#[cfg(test)]
mod tests;
