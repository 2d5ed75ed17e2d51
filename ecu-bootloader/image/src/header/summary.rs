//! What is kept of a header: its beginning, read where it lies.

use super::{Algorithm, HeaderView, LIMP_HOME, Layout};
use crate::id::{ImageVersion, IvSeed, KeyId, PageSize, SecurityCounter, SlotSet};
use crate::wire::Fixed;

/// What an ECU keeps of a header, beside the digests of the table pages: its beginning. Of a well-formed
/// header the fields are those of a [`Header`](super::Header).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary([u8; Self::LEN]);

impl Summary {
    /// As far as there is anything but digests of table pages and the signature.
    const LEN: usize = 212;

    /// Of no image.
    pub const NONE: Self = Self([0; Self::LEN]);

    const fn fields(&self) -> Fixed<'_, { Self::LEN }> {
        Fixed(&self.0)
    }

    /// Becomes that of a header.
    pub fn read(&mut self, view: HeaderView<'_>) {
        self.0 = *view.beginning();
    }

    /// The slots the image is linked for.
    #[must_use]
    pub fn slots(&self) -> SlotSet {
        SlotSet(self.fields().u16(42))
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> ImageVersion {
        let r = self.fields();
        ImageVersion {
            major: r.u16(44),
            minor: r.u16(46),
            patch: r.u32(48),
        }
    }

    /// Compared with the ECU's floor.
    #[must_use]
    pub fn security_counter(&self) -> SecurityCounter {
        SecurityCounter(self.fields().u32(52))
    }

    /// Where the plaintext is linked to run.
    #[must_use]
    pub fn load_address(&self) -> u64 {
        self.fields().u64(56)
    }

    /// Lengths and pages.
    #[must_use]
    pub fn layout(&self) -> Layout {
        let r = self.fields();
        Layout {
            payload_len: r.u32(64),
            page_size: PageSize(r.u32(72)),
            page_count: r.u32(76),
        }
    }

    /// The image may run in limp-home although its counter is below the floor.
    #[must_use]
    pub fn limp_home(&self) -> bool {
        self.fields().u16(86) & LIMP_HOME != 0
    }

    /// The key that signed.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        KeyId(self.fields().array(88))
    }

    /// Start of all page IVs.
    #[must_use]
    pub fn iv_seed(&self) -> IvSeed {
        IvSeed(self.fields().array(96))
    }

    /// SHA-256 of salt and plaintext.
    #[must_use]
    pub fn plaintext_digest(&self) -> &[u8; 32] {
        self.fields().field(144)
    }

    /// SHA-256 of all ciphertext pages.
    #[must_use]
    pub fn ciphertext_digest(&self) -> &[u8; 32] {
        self.fields().field(176)
    }

    /// What made the signature; RSA for any other.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        Algorithm::from_code(self.fields().u16(84)).unwrap_or(Algorithm::RsaPssSha256)
    }

    /// Bytes of the signature.
    #[must_use]
    pub fn signature_len(&self) -> usize {
        self.fields().u16(210).into()
    }
}

/// The beginning of a header that was parsed before, or whose digest is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderStart(pub [u8; Self::LEN]);

impl HeaderStart {
    /// Its bytes.
    pub const LEN: usize = 128;
    /// Of no header.
    pub const NONE: Self = Self([0; Self::LEN]);

    /// Its version.
    #[must_use]
    pub fn version(&self) -> ImageVersion {
        let r = Fixed(&self.0);
        ImageVersion {
            major: r.u16(44),
            minor: r.u16(46),
            patch: r.u32(48),
        }
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_size(&self) -> u32 {
        Fixed(&self.0).u32(72)
    }

    /// Number of pages.
    #[must_use]
    pub fn page_count(&self) -> u32 {
        Fixed(&self.0).u32(76)
    }

    /// The key that signed.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        KeyId(Fixed(&self.0).array(88))
    }
}
