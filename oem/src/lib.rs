//! The OEM side: keys, pack, release, bundle and serve.
//!
//! The binary `oem` is [`run::main`]; everything it does is a function here. A repository is one
//! folder: what is published, and `keys/` with all that is secret ([`repo`]). Every file is replaced
//! whole or not at all ([`files`]), and a release is verified as its vehicles will verify it before
//! the first file changes ([`release`]).
//!
//! For tests of receivers that must refuse forged input, three doors are open:
//! [`grant::issue`] makes a grant with any content, [`keys::SigningKey::sign_document`] signs any
//! statement, and [`release::plan`], [`release::Plan::sign`] and [`release::Signed::publish`] can be
//! called without [`release::Signed::check`] between them.

#![forbid(unsafe_code)]

pub mod audit;
pub mod bundle;
pub mod cli;
pub mod ddi;
pub mod draft;
pub mod error;
pub mod files;
pub mod firmware;
pub mod fleet;
pub mod grant;
pub mod image;
pub mod init;
pub mod inspect;
pub mod keys;
pub mod keyset;
pub mod leaks;
pub mod manifest;
pub mod pack;
pub mod publish;
pub mod release;
pub mod repo;
pub mod revoke;
pub mod root;
pub mod rotate;
pub mod run;
pub mod serve;
pub mod time;
pub mod tls;
mod turn;
pub mod vault;
pub mod vehicle;

pub use error::{Error, ExitCode};
