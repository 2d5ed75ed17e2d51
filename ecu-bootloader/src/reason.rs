//! Why something was refused: the reason in FD02. On the wire it is 0x72 alone.

/// Reasons of FD02. The numbers are stable: each half of a number is a byte of FD02.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// Nothing failed yet.
    None = 0,
    /// The grant is malformed; detail: offset of the field.
    GrantMalformed = 0x11,
    /// The grant's MAC is wrong.
    GrantMac = 0x12,
    /// The grant is for another ECU.
    GrantSerial = 0x13,
    /// The grant is for another image than the header that follows.
    GrantImage = 0x14,
    /// The grant's sequence was used before; detail: its low 32 bits.
    GrantReplayed = 0x15,
    /// The wrapped content key fails its integrity check, or is for another cipher.
    GrantKey = 0x16,
    /// The header is malformed; detail: offset of the field.
    HeaderMalformed = 0x21,
    /// The key set has no such key for the header's algorithm, or policy refuses its size.
    HeaderKey = 0x22,
    /// The signature is wrong.
    HeaderSignature = 0x23,
    /// The image is for other hardware.
    HeaderHardware = 0x24,
    /// The image is for another logical block; detail: the block.
    HeaderBlock = 0x25,
    /// The image is not linked for a slot that is free; detail: its slot set.
    HeaderSlot = 0x26,
    /// The security counter is below the floor; detail: the counter.
    HeaderCounter = 0x27,
    /// The image, its table or a page does not fit this ECU; detail: bytes.
    HeaderSize = 0x28,
    /// The length of the metadata download is not that of grant, header and table.
    MetadataLength = 0x29,
    /// The security counter is further above the floor than the board allows; detail: the counter.
    HeaderJump = 0x2A,
    /// The key set has revoked the key that signed the image.
    HeaderKeyRevoked = 0x2B,
    /// A table page has not the digest that the header names; detail: its index.
    TablePage = 0x31,
    /// A page has not the digest that the table names; detail: its number.
    Page = 0x32,
    /// The digest of the ciphertext is wrong.
    CiphertextDigest = 0x33,
    /// The digest of the plaintext is wrong.
    PlaintextDigest = 0x34,
    /// The slot holds another image than the journal says.
    OtherImage = 0x35,
    /// The second look before the boot did not find what the first had found: disturbed.
    SecondLook = 0x36,
    /// An image on trial, or healthy and not yet sealed, must be sealed or reverted first.
    Pending = 0x41,
    /// The grant's erases are used up.
    ErasesUsedUp = 0x42,
    /// The factory image could not take over while the only update slot is replaced.
    NoFallback = 0x43,
    /// The flash refused an operation; detail: address.
    Flash = 0x51,
    /// The journal could not be written.
    Journal = 0x52,
    /// The monotonic counter did not rise.
    Counter = 0x53,
    /// The journal has no authentic record: the ECU is not provisioned.
    NotProvisioned = 0x54,
    /// The key set in use, or the one just written, cannot be read with the digest it should have.
    KeySetUnreadable = 0x61,
    /// The received key set is malformed; detail: offset of the field.
    KeySetMalformed = 0x62,
    /// The received key set is for other hardware.
    KeySetHardware = 0x63,
    /// The received key set is not newer than the one in use; detail: its version.
    KeySetVersion = 0x64,
    /// A signature of the received key set is wrong, or fewer than two of the roots have signed;
    /// detail: how many were right.
    KeySetSignatures = 0x65,
    /// The received key set lacks the key of an image that must stay bootable; detail: its slot.
    KeySetOrphan = 0x66,
}

impl Reason {
    /// Its two bytes of FD02, as a number.
    #[must_use]
    pub const fn code(self) -> u16 {
        let number = self as u8;
        u16::from_be_bytes([number >> 4, number & 0xF])
    }
}

/// A reason with its detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// What the reason's documentation says, or zero.
    pub detail: u32,
}

impl Failure {
    /// Nothing failed yet.
    pub const NONE: Self = Self::new(Reason::None);

    /// A reason without detail.
    #[must_use]
    pub const fn new(reason: Reason) -> Self {
        Self { reason, detail: 0 }
    }

    /// A reason with a detail; a detail that 32 bits do not hold saturates.
    #[must_use]
    pub fn with(reason: Reason, detail: impl TryInto<u32>) -> Self {
        Self {
            reason,
            detail: detail.try_into().unwrap_or(u32::MAX),
        }
    }

    /// The bytes of FD02.
    #[must_use]
    pub const fn encode(self) -> [u8; 6] {
        let [a, b] = self.reason.code().to_be_bytes();
        let [c, d, e, f] = self.detail.to_be_bytes();
        [a, b, c, d, e, f]
    }
}
