//! The tool through its public surface and its program, on a desk of its own per test.

mod algorithms;
mod audit;
mod cli;
mod common;
mod ddi;
mod keyset;
mod manifest;
mod people;
mod release;
mod rest;
mod roots;
mod serve;
mod swupdate;
mod time;
mod vault;
