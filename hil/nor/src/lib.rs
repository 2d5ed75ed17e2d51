//! NOR flash with physics: erase before write, geometry, timings, power cuts and torn operations.
//!
//! [`Nor`] behaves as a chip does: an erase sets one whole sector to `0xFF`, a program changes only
//! erased words, both take the datasheet's time, which is returned to the caller as a simulated
//! duration and never slept. What a careless driver would get away with on a bench (programming a
//! word twice, writing to a sector whose erase was interrupted) is refused and counted.
//!
//! A test arms a [`Cut`] at any operation; a process keeps its flash in a file that survives
//! `kill -9`. Randomness is seeded.

#![forbid(unsafe_code)]

mod cut;
mod flash;
mod geometry;
mod store;
mod typed;

pub use cut::{Cut, Tear, When};
pub use flash::{FlashError, Nor};
pub use geometry::{Geometry, Region, Sector};
pub use store::{FileStore, MemoryStore, Store};
pub use typed::{Typed, TypedMismatch};
