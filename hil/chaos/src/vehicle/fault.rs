//! What interrupts a vehicle, and when.

use ecu_bootloader::boot::ResetCause;
use uds::time::Duration;

use super::World;
use crate::disk::Loss;

/// Enough for an image that is not sealed, and fewer than a sealed one endures.
const CRASHES: u8 = 4;

/// An interruption. Frames and operations are counted from 0, from where it is armed: the beginning
/// of the campaign, or the interruption before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// The TCU loses power when this frame is over, and starts again after the pause.
    Kill {
        /// Of all buses.
        frame: u64,
        /// Until it starts again.
        pause: Duration,
        /// What becomes of its journal.
        loss: Loss,
    },
    /// The TCU loses power in this operation of its journal's disk.
    Disk {
        /// Which.
        operation: u64,
        /// What becomes of its journal.
        loss: Loss,
    },
    /// Nobody receives this frame.
    Drop {
        /// Of all buses.
        frame: u64,
    },
    /// The frame after this one on the same bus is destroyed: an error frame, and a repetition.
    Corrupt {
        /// Of all buses.
        frame: u64,
    },
    /// The bus of this frame carries nothing for some time, this frame included.
    BusOff {
        /// Of all buses.
        frame: u64,
        /// For how long.
        time: Duration,
    },
    /// An ECU loses power in a flash operation and has it again a little later.
    Cut {
        /// Its index.
        ecu: usize,
        /// Of its flash.
        operation: u64,
        /// Before, in or after it.
        when: nor::When,
    },
    /// An ECU resets by its watchdog when this frame is over, and again each time its application
    /// starts, so often that an image that is not sealed is given up.
    Crash {
        /// Its index.
        ecu: usize,
        /// Of all buses.
        frame: u64,
    },
    /// An ECU loses power when this frame is over, for some time.
    Absent {
        /// Its index.
        ecu: usize,
        /// Of all buses.
        frame: u64,
        /// For how long.
        time: Duration,
    },
}

/// What becomes of a frame that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Delivered,
    Lost,
    /// It is still to be sent when its bus works again.
    Held,
}

impl Interruption {
    /// The frame that it waits for.
    const fn frame(self) -> Option<u64> {
        match self {
            Self::Kill { frame, .. }
            | Self::Drop { frame }
            | Self::Corrupt { frame }
            | Self::BusOff { frame, .. }
            | Self::Crash { frame, .. }
            | Self::Absent { frame, .. } => Some(frame),
            Self::Disk { .. } | Self::Cut { .. } => None,
        }
    }

    /// Whether it alone may make a campaign fail: an image that crashes is given up, and so is an
    /// ECU that is away too long.
    #[must_use]
    pub const fn may_fail_a_campaign(self) -> bool {
        matches!(self, Self::Crash { .. } | Self::Absent { .. })
    }

    /// Whether images may be sent again as a whole: an ECU that lost one gets it again.
    #[must_use]
    pub const fn loses_an_image(self) -> bool {
        matches!(self, Self::Crash { .. })
    }
}

impl World {
    /// Lets these interruptions happen, each armed when the one before has happened.
    pub fn interrupt(&mut self, interruptions: &[Interruption]) {
        self.interruptions = interruptions.iter().copied().collect();
        self.arm();
    }

    /// Nothing is interrupted any more: what was to happen later does not.
    pub(super) fn spare(&mut self) {
        self.interruptions.clear();
        for ecu in &self.ecus {
            ecu.machine.chip().with(nor::Nor::disarm);
        }
    }

    /// How many interruptions have not happened.
    #[must_use]
    pub fn pending_interruptions(&self) -> usize {
        self.interruptions.len()
    }

    /// Arms the next interruption.
    pub(super) fn arm(&mut self) {
        self.armed_at = self.frames;
        match self.interruptions.front() {
            Some(Interruption::Cut {
                ecu,
                operation,
                when,
            }) => self.ecus[*ecu].machine.chip().with(|nor| {
                nor.arm(nor::Cut {
                    operation: nor.operations() + operation,
                    when: *when,
                });
            }),
            Some(Interruption::Disk { operation, .. }) => {
                let ledger = self.tcu.as_ref().map(tcu::vehicle::Transaction::journal);
                if let Some(disk) = ledger.or(self.ledger.as_ref()).and_then(|l| l.disk()) {
                    disk.fail_at(disk.operations() + operation);
                }
            }
            _ => {}
        }
    }

    /// The interruption in front has happened.
    pub(super) fn happened(&mut self) {
        self.interruptions.pop_front();
        self.arm();
    }

    /// A frame of this bus is over: does the armed interruption happen?
    pub(super) fn on_frame(&mut self, bus: usize) -> Fate {
        let number = self.frames - self.armed_at;
        self.frames += 1;
        let Some(armed) = self.interruptions.front().copied() else {
            return Fate::Delivered;
        };
        if armed.frame() != Some(number) {
            return Fate::Delivered;
        }
        let fate = match armed {
            Interruption::Kill { pause, loss, .. } => {
                self.lose_tcu(pause, loss);
                Fate::Delivered
            }
            Interruption::Drop { .. } => Fate::Lost,
            Interruption::Corrupt { .. } => {
                self.buses[bus].bus.destroy_next();
                Fate::Delivered
            }
            Interruption::BusOff { time, .. } => {
                self.buses[bus].off_until = Some(self.now + time);
                Fate::Held
            }
            Interruption::Crash { ecu, .. } => {
                self.ecus[ecu].crashes = CRASHES;
                self.ecus[ecu].machine.reset(self.now, ResetCause::Watchdog);
                Fate::Delivered
            }
            Interruption::Absent { ecu, time, .. } => {
                self.ecus[ecu].machine.power_cut();
                self.ecus[ecu].power_returns = Some(self.now + time);
                Fate::Delivered
            }
            Interruption::Disk { .. } | Interruption::Cut { .. } => Fate::Delivered,
        };
        self.happened();
        fate
    }
}
