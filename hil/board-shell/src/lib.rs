//! What emulated boards share: the values of provisioning, the machine with its parts, and the shell
//! by which a host drives it. Nothing here touches hardware.

#![no_std]
#![forbid(unsafe_code)]

pub mod flash;
pub mod machine;
pub mod provision;
pub mod report;
pub mod shell;
