//! NOR flash with physics: erase before write, geometry, timings, power cuts and torn operations.
//!
//! [`Nor`] behaves as a chip does: an erase sets one whole sector to `0xFF` (or `0x00`, as the
//! geometry says), a program changes only erased words, both take the datasheet's time, which is returned to the caller as a simulated
//! duration and never slept. What a careless driver would get away with on a bench (programming a
//! word twice, writing to a sector whose erase was interrupted) is refused and counted.
//!
//! Where the geometry says so, each word has an error-correcting code (programmed once whatever its
//! value, an error where a cut tore it) and a bank cannot be read while it is being changed.
//!
//! A test arms a [`Cut`] at any operation; [`Extent::tears`] lists every way in which it can tear; a process keeps its flash in a file that survives
//! `kill -9`. Randomness is seeded.

#![forbid(unsafe_code)]

mod cut;
mod flash;
mod geometry;
mod marks;
mod store;
mod typed;

pub use cut::{Cut, Extent, Marginal, SEEDED_TEARS, Tear, When};
pub use flash::{FlashError, Nor, Watched};
pub use geometry::{Geometry, Region, Sector};
pub use store::{FileStore, MemoryStore, Store};
pub use typed::{Typed, TypedMismatch};
