//! What an ECU of the profile says about itself: data identifiers FD00, FD01 and FD02
//! (`docs/spec/ecu-profile.md`), and the numbers of its routines.

use std::fmt;

use ecu_image::ImageDigest;
use serde::{Deserialize, Serialize};
use uds::service::{Did, RoutineId};

/// Programming progress.
pub const DID_PROGRESS: Did = Did(0xFD00);
/// Boot status.
pub const DID_BOOT_STATUS: Did = Did(0xFD01);
/// Last failure, access-protected.
pub const DID_LAST_FAILURE: Did = Did(0xFD02);
/// Key set in use.
pub const DID_KEY_SET: Did = Did(0xFD03);

/// checkProgrammingPreconditions.
pub const ROUTINE_PRECONDITIONS: RoutineId = RoutineId(0x0203);
/// checkMemory.
pub const ROUTINE_CHECK: RoutineId = RoutineId(0x0202);
/// activate.
pub const ROUTINE_ACTIVATE: RoutineId = RoutineId(0x0210);
/// seal.
pub const ROUTINE_SEAL: RoutineId = RoutineId(0x0212);
/// revert.
pub const ROUTINE_REVERT: RoutineId = RoutineId(0x0213);
/// reportState.
pub const ROUTINE_REPORT: RoutineId = RoutineId(0x0214);

/// The virtual address of `grant ‖ header ‖ table pages`.
pub const METADATA_ADDRESS: u32 = 0xF000_0000;
/// The virtual address of a key set.
pub const KEY_SET_ADDRESS: u32 = 0xF100_0000;

/// How far programming has come, in FD00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProgressState {
    /// No metadata.
    Idle,
    /// Grant, header and table are accepted.
    Accepted,
    /// Erased, receiving pages.
    Receiving,
    /// All pages are durable.
    Durable,
    /// The whole image was checked.
    Staged,
}

/// FD00.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How far programming has come.
    pub state: ProgressState,
    /// The image that the ECU is receiving.
    pub image: ImageDigest,
    /// Ciphertext offset at which the next RequestDownload continues.
    pub next_offset: u32,
    /// How many times the slot may still be erased under this grant.
    pub erases_left: u8,
}

impl Progress {
    /// Reads the 51 bytes after the identifier; `None` where they are not a progress record.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 51] = bytes.try_into().ok()?;
        let state = match bytes[0] {
            0 => ProgressState::Idle,
            1 => ProgressState::Accepted,
            2 => ProgressState::Receiving,
            3 => ProgressState::Durable,
            4 => ProgressState::Staged,
            _ => return None,
        };
        Some(Self {
            state,
            image: digest_at(bytes, 2),
            next_offset: u32::from_be_bytes([bytes[46], bytes[47], bytes[48], bytes[49]]),
            erases_left: bytes[50],
        })
    }
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootPhase {
    /// The bootloader.
    Bootloader,
    /// The application.
    Application,
}

/// Why the ECU runs what it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootReason {
    /// Nothing special.
    Normal,
    /// An image is on trial.
    Trial,
    /// The image before the last.
    FellBackToPrevious,
    /// The factory image.
    FellBackToFactory,
    /// A factory image below the floor, with limited function.
    LimpHome,
    /// A tester asked for the programming session.
    ProgrammingRequest,
    /// Nothing could be booted.
    Recovery,
    /// Nothing is decided yet: the bootloader still verifies.
    Starting,
}

impl fmt::Display for BootReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Trial => "trial",
            Self::FellBackToPrevious => "fell back to the previous image",
            Self::FellBackToFactory => "fell back to the factory image",
            Self::LimpHome => "limp-home",
            Self::ProgrammingRequest => "programming request",
            Self::Recovery => "recovery, nothing bootable",
            Self::Starting => "starting",
        })
    }
}

/// The state of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    /// Nothing in it.
    Empty,
    /// A download is under way.
    Receiving,
    /// Complete and checked.
    Staged,
    /// Being tried.
    Trial,
    /// Its self-test passed.
    Healthy,
    /// Final: the floor has risen.
    Sealed,
    /// Tried and given up, or reverted.
    Rejected,
    /// The factory image.
    Factory,
}

impl SlotState {
    fn parse(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Empty,
            1 => Self::Receiving,
            2 => Self::Staged,
            3 => Self::Trial,
            4 => Self::Healthy,
            5 => Self::Sealed,
            6 => Self::Rejected,
            7 => Self::Factory,
            _ => return None,
        })
    }
}

/// FD01.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootStatus {
    /// Who answers.
    pub phase: BootPhase,
    /// Why it runs what it runs.
    pub reason: BootReason,
    /// The running image, its slot's state; zero where nothing runs.
    pub running: (ImageDigest, SlotState),
    /// The other update slot's image and state.
    pub other: (ImageDigest, SlotState),
    /// How many update slots the ECU has; where it does not say, it has two.
    pub update_slots: u8,
    /// The lowest security counter that may be installed.
    pub floor: u32,
    /// The sequence of the last grant that the ECU accepted.
    pub grant_sequence: u64,
}

impl BootStatus {
    /// Reads the 84 bytes after the identifier; `None` where they are not a boot status.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 84] = bytes.try_into().ok()?;
        let phase = match (bytes[0], bytes[1]) {
            (1, 0) => BootPhase::Bootloader,
            (1, 1) => BootPhase::Application,
            _ => return None,
        };
        let reason = match bytes[3] {
            0 => BootReason::Normal,
            1 => BootReason::Trial,
            2 => BootReason::FellBackToPrevious,
            3 => BootReason::FellBackToFactory,
            4 => BootReason::LimpHome,
            5 => BootReason::ProgrammingRequest,
            6 => BootReason::Recovery,
            7 => BootReason::Starting,
            _ => return None,
        };
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&bytes[12..20]);
        Some(Self {
            phase,
            reason,
            running: (digest_at(bytes, 20), SlotState::parse(bytes[4])?),
            other: (digest_at(bytes, 52), SlotState::parse(bytes[5])?),
            update_slots: if bytes[7] == 0 { 2 } else { bytes[7] },
            floor: u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
            grant_sequence: u64::from_be_bytes(sequence),
        })
    }

    /// The state of the slot that holds `image`, and whether it is the running one.
    #[must_use]
    pub fn find(&self, image: &ImageDigest) -> Option<(SlotState, bool)> {
        if self.running.0 == *image {
            Some((self.running.1, true))
        } else if self.other.0 == *image {
            Some((self.other.1, false))
        } else {
            None
        }
    }
}

/// 32 bytes at `offset`; the callers' records are longer.
fn digest_at(bytes: &[u8], offset: usize) -> ImageDigest {
    let mut digest = [0; 32];
    digest.copy_from_slice(&bytes[offset..offset + 32]);
    ImageDigest(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_boot_status_is_read_field_by_field() {
        let mut bytes = [0; 84];
        bytes[..8].copy_from_slice(&[1, 1, 2, 1, 3, 5, 2, 0]);
        bytes[8..12].copy_from_slice(&7u32.to_be_bytes());
        bytes[12..20].copy_from_slice(&9u64.to_be_bytes());
        bytes[20..52].fill(0xAA);
        bytes[52..].fill(0xBB);
        let status = BootStatus::parse(&bytes).unwrap();
        assert_eq!(status.phase, BootPhase::Application);
        assert_eq!(status.reason, BootReason::Trial);
        assert_eq!((status.floor, status.grant_sequence), (7, 9));
        assert_eq!(status.update_slots, 2, "it does not say");
        bytes[7] = 1;
        assert_eq!(BootStatus::parse(&bytes).unwrap().update_slots, 1);
        assert_eq!(
            status.find(&ImageDigest([0xAA; 32])),
            Some((SlotState::Trial, true))
        );
        assert_eq!(
            status.find(&ImageDigest([0xBB; 32])),
            Some((SlotState::Sealed, false))
        );
        assert_eq!(status.find(&ImageDigest([0xCC; 32])), None);
    }

    #[test]
    fn a_progress_record_is_read_field_by_field() {
        let mut bytes = [0; 51];
        bytes[0] = 2;
        bytes[2..34].fill(0xAA);
        bytes[46..50].copy_from_slice(&8192u32.to_be_bytes());
        bytes[50] = 8;
        let progress = Progress::parse(&bytes).unwrap();
        assert_eq!(progress.state, ProgressState::Receiving);
        assert_eq!(progress.image, ImageDigest([0xAA; 32]));
        assert_eq!((progress.next_offset, progress.erases_left), (8192, 8));
    }

    #[test]
    fn unknown_states_and_other_lengths_are_refused() {
        let mut bytes = [0; 84];
        bytes[..2].copy_from_slice(&[1, 1]);
        assert!(BootStatus::parse(&bytes).is_some());
        assert!(BootStatus::parse(&bytes[..83]).is_none());
        bytes[5] = 8;
        assert!(BootStatus::parse(&bytes).is_none());
        assert!(Progress::parse(&[5; 51]).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = (BootStatus::parse(&bytes), Progress::parse(&bytes));
        }
    }
}
