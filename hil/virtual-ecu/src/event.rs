//! What a virtual ECU reports, in words.

use std::fmt;

use ecu_bootloader::boot::{BootReason, ResetCause};
use ecu_bootloader::layout::SlotId;

use crate::application::Exit;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The bootloader has decided.
    Boot {
        /// The slot whose program was started; `None` where the bootloader stays.
        slot: Option<SlotId>,
        /// Why.
        reason: BootReason,
    },
    /// The application ended by itself; a reset follows.
    ApplicationEnded(Exit),
    /// The ECU resets.
    Reset {
        /// Why.
        cause: ResetCause,
    },
    /// The flash lost power in an operation; the ECU is off.
    PowerCut {
        /// The number of the operation.
        operation: u64,
    },
}

pub(crate) const fn slot_name(slot: SlotId) -> &'static str {
    match slot {
        SlotId::Factory => "factory",
        SlotId::A => "a",
        SlotId::B => "b",
    }
}

pub(crate) const fn reason_name(reason: BootReason) -> &'static str {
    match reason {
        BootReason::Normal => "normal",
        BootReason::Trial => "trial",
        BootReason::FellBackToPrevious => "previous",
        BootReason::FellBackToFactory => "factory",
        BootReason::LimpHome => "limp-home",
        BootReason::Programming => "programming",
        BootReason::Recovery => "recovery",
    }
}

pub(crate) const fn cause_name(cause: ResetCause) -> &'static str {
    match cause {
        ResetCause::PowerOn => "power-on",
        ResetCause::Watchdog => "watchdog",
        ResetCause::Software => "software",
        ResetCause::Crash => "crash",
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot {
                slot: Some(slot),
                reason,
            } => write!(
                f,
                "boots slot {} ({})",
                slot_name(*slot),
                reason_name(*reason)
            ),
            Self::Boot { slot: None, reason } => {
                write!(f, "stays in the bootloader ({})", reason_name(*reason))
            }
            Self::ApplicationEnded(exit) => write!(f, "the application ended: {exit}"),
            Self::Reset { cause } => write!(f, "resets ({})", cause_name(*cause)),
            Self::PowerCut { operation } => {
                write!(f, "loses power in flash operation {operation}")
            }
        }
    }
}
