//! The tool through its public surface and its program, on a desk of its own per test.

mod cli;
mod common;
mod release;
mod serve;
