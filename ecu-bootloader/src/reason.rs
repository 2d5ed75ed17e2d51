//! Why something was refused: the reason in FD02. On the wire it is 0x72 alone.

/// Reasons of FD02. The numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Reason {
    /// Nothing failed yet.
    None = 0,
    /// The grant is malformed; detail: offset of the field.
    GrantMalformed = 0x0101,
    /// The grant's MAC is wrong.
    GrantMac = 0x0102,
    /// The grant is for another ECU.
    GrantSerial = 0x0103,
    /// The grant is for another image than the header that follows.
    GrantImage = 0x0104,
    /// The grant's sequence was used before; detail: its low 32 bits.
    GrantReplayed = 0x0105,
    /// The wrapped content key fails its integrity check, or is for another cipher.
    GrantKey = 0x0106,
    /// The header is malformed; detail: offset of the field.
    HeaderMalformed = 0x0201,
    /// The key set has no such key for the header's algorithm, or policy refuses its size.
    HeaderKey = 0x0202,
    /// The signature is wrong.
    HeaderSignature = 0x0203,
    /// The image is for other hardware.
    HeaderHardware = 0x0204,
    /// The image is for another logical block; detail: the block.
    HeaderBlock = 0x0205,
    /// The image is not linked for a slot that is free; detail: its slot set.
    HeaderSlot = 0x0206,
    /// The security counter is below the floor; detail: the counter.
    HeaderCounter = 0x0207,
    /// The image, its table or a page does not fit this ECU; detail: bytes.
    HeaderSize = 0x0208,
    /// The length of the metadata download is not that of grant, header and table.
    MetadataLength = 0x0209,
    /// The security counter is further above the floor than the board allows; detail: the counter.
    HeaderJump = 0x020A,
    /// The key set has revoked the key that signed the image.
    HeaderKeyRevoked = 0x020B,
    /// A table page has not the digest that the header names; detail: its index.
    TablePage = 0x0301,
    /// A page has not the digest that the table names; detail: its number.
    Page = 0x0302,
    /// The digest of the ciphertext is wrong.
    CiphertextDigest = 0x0303,
    /// The digest of the plaintext is wrong.
    PlaintextDigest = 0x0304,
    /// The slot holds another image than the journal says.
    OtherImage = 0x0305,
    /// The second look before the boot did not find what the first had found: disturbed.
    SecondLook = 0x0306,
    /// An image on trial, or healthy and not yet sealed, must be sealed or reverted first.
    Pending = 0x0401,
    /// The grant's erases are used up.
    ErasesUsedUp = 0x0402,
    /// The factory image could not take over while the only update slot is replaced.
    NoFallback = 0x0403,
    /// The flash refused an operation; detail: address.
    Flash = 0x0501,
    /// The journal could not be written.
    Journal = 0x0502,
    /// The monotonic counter did not rise.
    Counter = 0x0503,
    /// The journal has no authentic record: the ECU is not provisioned.
    NotProvisioned = 0x0504,
    /// The key set in use, or the one just written, cannot be read with the digest it should have.
    KeySetUnreadable = 0x0601,
    /// The received key set is malformed; detail: offset of the field.
    KeySetMalformed = 0x0602,
    /// The received key set is for other hardware.
    KeySetHardware = 0x0603,
    /// The received key set is not newer than the one in use; detail: its version.
    KeySetVersion = 0x0604,
    /// A signature of the received key set is wrong, or fewer than two of the roots have signed;
    /// detail: how many were right.
    KeySetSignatures = 0x0605,
    /// The received key set lacks the key of an image that must stay bootable; detail: its slot.
    KeySetOrphan = 0x0606,
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
        let [a, b] = (self.reason as u16).to_be_bytes();
        let [c, d, e, f] = self.detail.to_be_bytes();
        [a, b, c, d, e, f]
    }
}
