//! The signed, encrypted image envelope, its page table and the install grant
//! (`docs/spec/image.md`): one definition for the OEM tool, the TCU and the ECU.
//!
//! Without features the crate is what an ECU needs: no allocation, no I/O, total on hostile bytes.
//! The feature `alloc` adds what the other two need: packing, whole-image verification, issuing of
//! grants, and the provisioning file of an ECU.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used,
        clippy::cast_possible_truncation
    )
)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
#[macro_use]
extern crate std;

pub mod compact;
pub mod crypto;
#[cfg(feature = "ecdsa-p256")]
pub mod ecdsa;
mod error;
#[cfg(feature = "fast-aes")]
mod fast;
#[cfg(any(all(test, feature = "alloc"), feature = "fuzz"))]
pub mod fuzz;
mod grant;
pub mod hardened;
mod hash;
mod header;
mod id;
pub mod keyset;
mod montgomery;
#[cfg(feature = "alloc")]
pub mod pack;
#[cfg(feature = "alloc")]
pub mod provision;
pub mod pss;
mod report;
#[cfg(feature = "alloc")]
mod serde_text;
pub mod signature;
mod table;
#[cfg(all(test, feature = "alloc"))]
mod testing;
#[cfg(feature = "alloc")]
pub mod verify;
mod wire;

pub use error::{FieldError, Offset, ParseError, Problem};
pub use grant::{GRANT_LEN, GRANT_MACED_LEN, Grant, GrantFlags, GrantView, WrappedKey};
pub use header::{
    Algorithm, Cipher, HEADER_LEN, Header, HeaderFlags, HeaderStart, HeaderView, Layout,
    PayloadKind, SIGNED_LEN, Signature, SignatureLen, Summary,
};
pub use id::{
    Digest, EcuSerial, HardwareId, ImageDigest, ImageVersion, IvSeed, KeyId, KeySetVersion,
    LogicalBlock, PageSize, Salt, SecurityCounter, SequenceNumber, Slot, SlotSet, TextError,
};
pub use report::{EcuReport, NONCE_LEN, REPORT_LEN, REPORT_MACED_LEN, RunState};
pub use table::{
    ENTRIES_PER_TABLE_PAGE, MAX_PAGES, MAX_TABLE_PAGES, TABLE_PAGE_LEN, TableDigests, TablePage,
};
