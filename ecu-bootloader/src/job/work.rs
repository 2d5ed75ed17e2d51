//! What a job waits for, what follows, and what it answers.

use crate::boot::BootReason;
#[cfg(feature = "key-set-update")]
use crate::keyset::Signatures;
use crate::layout::SlotId;
use crate::server::Routine;

/// A positive response that a job leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The application reported a passed self-test.
    SelfTest,
    /// `71 01 id 00`.
    Routine(Routine),
    /// `74 20 maxNumberOfBlockLength`.
    Download,
    /// `76 counter`.
    Block(u8),
    /// `77`.
    Exit,
    /// `6E F15A`.
    Written,
    /// `62 ..`, with the progress now known.
    Read,
    /// `67 01 seed`.
    Seed,
    /// Access is granted: `67 02`, or `67 01` and zeros where it was before.
    Unlocked(u8),
    /// `69 05 ..` with a challenge.
    #[cfg(feature = "authentication")]
    Challenge,
    /// `69 06 ..`: access is granted.
    #[cfg(feature = "authentication")]
    Authenticated,
    /// `69 00 10`: access is locked.
    #[cfg(feature = "authentication")]
    DeAuthenticated,
    /// `69 08 03`.
    #[cfg(feature = "authentication")]
    AuthenticationMethod,
}

/// The DIDs of a ReadDataByIdentifier request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dids {
    pub(crate) ids: [u16; 8],
    pub(crate) len: usize,
    pub(crate) session: u8,
    pub(crate) unlocked: bool,
}

impl Dids {
    /// None.
    pub(crate) const NONE: Self = Self {
        ids: [0; 8],
        len: 0,
        session: 0,
        unlocked: false,
    };
}

/// What the machine waits for. Four bytes in the default profile, so that it is handed on in a register.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Idle,
    /// The journal to hold the next state.
    Commit(Then),
    /// The eraser to finish.
    Erase(Then),
    /// Every queued page to be programmed.
    Drain(Then),
    /// A page buffer to become free.
    Room(Then),
    /// The signature of the head in RAM.
    Signature,
    /// The signature of a tester's proof.
    #[cfg(feature = "authentication")]
    Proof,
    /// The signatures of the key set in RAM.
    #[cfg(feature = "key-set-update")]
    KeySet(Signatures),
    /// The verification of the slot of the head at hand.
    Verify(Purpose),
    /// The first stored page that is not what the table says.
    Scan(Then),
}

/// What a verification is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The boot decision.
    Boot,
    /// 31 0202.
    Check,
    /// 31 FF01.
    Dependencies,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Answer(Answer),
    Decide,
    Boot(SlotId, BootReason),
    Stay(BootReason),
    EraseMetadata,
    ProgramHead,
    MetadataStored,
    BeginErase,
    ErasePayload,
    PayloadErased,
    EraseFrontier,
    FrontierErased,
    RaiseCounter,
    StartTransfer,
    BeginCheck,
    ScanForRead,
    OpenBlock(Answer),
    #[cfg(feature = "key-set-update")]
    ProgramKeySet,
    #[cfg(feature = "key-set-update")]
    UseKeySet,
}

/// Where the machine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Reading the journal, verifying, deciding.
    Starting,
    /// Answering a tester.
    Serving(BootReason),
    /// The application runs.
    Application,
}

/// What the flash is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InFlight {
    Journal,
    Erase,
    Page,
}
