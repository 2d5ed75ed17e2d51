//! What a host writes into the board's memory before it starts: keys, and what the start shall be.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 4 | magic `43 4E 42 50` ("CNBP") |
//! | 4 | 4 | 0: boot, report and enter the image or stop; 1: the shell |
//! | 8 | 4 | reset cause: 0 power on, 1 software, 2 watchdog, 3 crash |
//! | 12 | 4 | the monotonic counter, as in one-time-programmable memory |
//! | 16 | 4 × 16 | wrap, grant, journal and access key |
//! | 80 | 16 | the handover in retained RAM, or anything else |
//! | 96 | 4 | state of the seeds' generator |
//! | 100 | 8 | the time at the start in µs |
//! | 108 | 20 | anything |
//! | 128 | 2 × 384 | the pinned roots: RSA-3072 moduli, big-endian |

use ecu_bootloader::boot::ResetCause;
use ecu_bootloader::keys::SoftKeyStore;
use ecu_bootloader::mailbox::HANDOVER_LEN;
use ecu_image::crypto::{MacKey, WrapKey};
use uds::time::Instant;

/// Bytes of the block before the roots.
pub const LEN: usize = 128;
/// The pinned roots, as big-endian moduli.
pub type Roots = [[u8; 384]; 2];
const MAGIC: [u8; 4] = *b"CNBP";
const MODE: usize = 4;
const CAUSE: usize = 8;
/// Offset of the monotonic counter.
pub const COUNTER: usize = 12;
const KEYS: usize = 16;
const HANDOVER: usize = 80;
/// Offset of the state of the seeds' generator.
pub const SEEDS: usize = 96;
const NOW: usize = 100;

/// The block in memory.
#[derive(Debug)]
pub struct Provision<'m>(pub &'m mut [u8; LEN]);

impl Provision<'_> {
    /// Whether a host wrote the block.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.0.first_chunk() == Some(&MAGIC)
    }

    /// A word of the block; 0 outside.
    #[must_use]
    pub fn word(&self, at: usize) -> u32 {
        let rest = self.0.get(at..).unwrap_or(&[]);
        rest.first_chunk()
            .map_or(0, |word| u32::from_le_bytes(*word))
    }

    /// Writes a word of the block.
    pub fn set_word(&mut self, at: usize, value: u32) {
        let place = self.0.get_mut(at..).and_then(|rest| rest.first_chunk_mut());
        if let Some(place) = place {
            *place = value.to_le_bytes();
        }
    }

    /// Whether the host drives the board.
    #[must_use]
    pub fn wants_shell(&self) -> bool {
        self.word(MODE) == 1
    }

    /// Why the board started.
    #[must_use]
    pub fn cause(&self) -> ResetCause {
        match self.word(CAUSE) {
            0 => ResetCause::PowerOn,
            1 => ResetCause::Software,
            2 => ResetCause::Watchdog,
            _ => ResetCause::Crash,
        }
    }

    fn key(&self, index: usize) -> [u8; 16] {
        let at = KEYS.saturating_add(index.saturating_mul(16));
        let rest = self.0.get(at..).unwrap_or(&[]);
        rest.first_chunk().copied().unwrap_or([0; 16])
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> SoftKeyStore {
        SoftKeyStore::new(
            WrapKey::new(self.key(0)),
            MacKey::new(self.key(1)),
            MacKey::new(self.key(2)),
            MacKey::new(self.key(3)),
        )
    }

    /// What the application left for the bootloader.
    #[must_use]
    pub fn retained(&self) -> &[u8] {
        let end = HANDOVER.saturating_add(HANDOVER_LEN);
        self.0.get(HANDOVER..end).unwrap_or(&[])
    }

    /// The time at the start.
    #[must_use]
    pub fn now(&self) -> Instant {
        let rest = self.0.get(NOW..).unwrap_or(&[]);
        Instant::from_micros(rest.first_chunk().map_or(0, |now| u64::from_le_bytes(*now)))
    }

    /// Notes what the next start shall find.
    pub fn restart(&mut self, cause: u8, handover: &[u8; HANDOVER_LEN], now: Instant) {
        self.set_word(CAUSE, cause.into());
        let now = now.as_micros().to_le_bytes();
        let fields: [(usize, &[u8]); 2] = [(HANDOVER, handover), (NOW, &now)];
        for (at, bytes) in fields {
            let place = self.0.get_mut(at..at.saturating_add(bytes.len()));
            if let Some(place) = place {
                place.copy_from_slice(bytes);
            }
        }
    }
}
