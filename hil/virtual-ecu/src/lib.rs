//! A whole ECU as a machine in virtual time and as a Linux process.

#![forbid(unsafe_code)]

pub mod app;
pub mod link;
