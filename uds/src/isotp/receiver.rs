//! The receiving half: reassembly and flow control (clauses 9.2 to 9.4, 9.6.5, 9.8).

use super::pdu::{FlowControl, FlowStatus};
use super::{Config, Direction, Error};
use crate::time::Instant;

/// ```text
///          FF                      CTS handed out
///   Idle ─────► FlowControlDue ─────────────────────► Consecutive ──► Idle (received)
///    │                ▲  ▲                               │  last CF
///    │ FF while held  │  └───────────────────────────────┘
///    ▼                │           block done
///  Waiting ───────────┘
///    (a WAIT every N_Br)   released
/// ```
/// Every new SingleFrame or FirstFrame ends what is in progress (clause 9.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// FlowControl.CTS is to be handed out.
    FlowControlDue,
    /// The storage is held; the next FlowControl is a WAIT at this time.
    Waiting {
        next: Instant,
        sent: u8,
    },
    /// N_Cr runs as soon as the FlowControl counts as sent.
    Consecutive {
        deadline: Option<Instant>,
        /// Frames left of the block; `None` for no limit.
        left: Option<u8>,
    },
}

/// What a frame did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Nothing,
    Started { len: usize },
    Complete,
    Failed(Error),
}

/// A FirstFrame that waits for the storage.
#[derive(Clone, Copy)]
struct Parked {
    data: [u8; 64],
    len: usize,
}

pub(super) struct Receiver<R> {
    storage: R,
    /// Bytes of the message, received or in progress.
    len: usize,
    offset: usize,
    sequence_number: u8,
    /// RX_DL: length of every frame of the message but the last.
    frame_len: usize,
    /// Whether `storage` keeps a complete message that the caller wants to keep.
    held: bool,
    parked: Parked,
    /// An OVFLW is to be handed out.
    overflow_due: bool,
    state: State,
}

impl<R: AsRef<[u8]> + AsMut<[u8]>> Receiver<R> {
    pub(super) fn new(storage: R) -> Self {
        Self {
            storage,
            len: 0,
            offset: 0,
            sequence_number: 0,
            frame_len: 0,
            held: false,
            parked: Parked {
                data: [0; 64],
                len: 0,
            },
            overflow_due: false,
            state: State::Idle,
        }
    }

    /// The last message received; empty while another one comes in.
    pub(super) fn message(&self) -> &[u8] {
        match self.state {
            State::Idle | State::Waiting { .. } => {
                self.storage.as_ref().get(..self.offset).unwrap_or(&[])
            }
            State::FlowControlDue | State::Consecutive { .. } => &[],
        }
    }

    pub(super) fn hold(&mut self) {
        self.held = !self.message().is_empty();
    }

    /// Gives the storage up; a message that waited for it goes on.
    /// Nothing happens where nothing is held.
    pub(super) fn release(&mut self) {
        if !self.held {
            return;
        }
        self.held = false;
        self.offset = 0;
        if matches!(self.state, State::Waiting { .. }) {
            let parked = self.parked;
            self.store(parked.data.get(..parked.len).unwrap_or(&[]));
            self.state = State::FlowControlDue;
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Whether a FlowControl has to be sent before anything else comes in.
    pub(super) const fn owes_flow_control(&self) -> bool {
        matches!(self.state, State::FlowControlDue | State::Waiting { .. })
    }

    pub(super) fn abort(&mut self) {
        if !self.held {
            self.offset = 0;
        }
        self.overflow_due = false;
        self.state = State::Idle;
    }

    /// Ends what is in progress for a new message: the error to report, if there was any.
    pub(super) fn interrupt(&mut self) -> Option<Error> {
        let busy = !self.is_idle();
        self.abort();
        busy.then_some(Error::UnexpectedPdu)
    }

    pub(super) fn handle_single(&mut self, data: &[u8]) -> Progress {
        if self.held {
            return Progress::Failed(Error::Held);
        }
        self.offset = 0;
        if self.store(data) {
            Progress::Complete
        } else {
            Progress::Failed(Error::TooLong {
                len: u32::try_from(data.len()).unwrap_or(u32::MAX),
            })
        }
    }

    /// `frame_len` is the length of the frame, address and control information included.
    pub(super) fn handle_first(
        &mut self,
        now: Instant,
        len: u32,
        data: &[u8],
        frame_len: usize,
    ) -> Progress {
        let room = self.storage.as_ref().len();
        let Some(bytes) = usize::try_from(len).ok().filter(|len| *len <= room) else {
            self.overflow_due = true;
            return Progress::Failed(Error::TooLong { len });
        };
        self.sequence_number = 1;
        self.frame_len = frame_len;
        self.len = bytes;
        if self.held {
            if let Some(parked) = self.parked.data.get_mut(..data.len()) {
                parked.copy_from_slice(data);
                self.parked.len = data.len();
            }
            self.state = State::Waiting { next: now, sent: 0 };
        } else {
            self.offset = 0;
            self.store(data);
            self.state = State::FlowControlDue;
        }
        Progress::Started { len: bytes }
    }

    /// `data` is the frame without address and control information, `frame_len` its whole length.
    pub(super) fn handle_consecutive(
        &mut self,
        now: Instant,
        config: &Config,
        sequence_number: u8,
        data: &[u8],
        frame_len: usize,
    ) -> Progress {
        let State::Consecutive { left, .. } = self.state else {
            return Progress::Nothing;
        };
        let missing = self.len.saturating_sub(self.offset);
        let last = missing <= data.len();
        if !last && frame_len != self.frame_len || frame_len > self.frame_len {
            return Progress::Nothing;
        }
        if sequence_number != self.sequence_number {
            let expected = self.sequence_number;
            self.abort();
            return Progress::Failed(Error::WrongSequenceNumber {
                expected,
                got: sequence_number,
            });
        }
        self.store(data.get(..missing).unwrap_or(data));
        self.sequence_number = self.sequence_number.wrapping_add(1) & 0xF;
        if last {
            self.state = State::Idle;
            return Progress::Complete;
        }
        let left = left.map(|left| left.saturating_sub(1));
        self.state = if left == Some(0) {
            State::FlowControlDue
        } else {
            State::Consecutive {
                deadline: Some(now + config.timeouts.n_cr),
                left,
            }
        };
        Progress::Nothing
    }

    /// Appends to the message; `false` where it does not fit.
    fn store(&mut self, data: &[u8]) -> bool {
        let room = self.storage.as_mut().get_mut(self.offset..);
        let Some(room) = room.and_then(|room| room.get_mut(..data.len())) else {
            return false;
        };
        room.copy_from_slice(data);
        self.offset = self.offset.saturating_add(data.len());
        true
    }

    /// The FlowControl that is due. It counts as sent with [`Receiver::on_transmitted`].
    pub(super) fn poll_transmit(&mut self, now: Instant, config: &Config) -> Option<FlowControl> {
        let answer = |status| FlowControl {
            status,
            block_size: config.block_size,
            st_min: config.st_min,
        };
        if self.overflow_due {
            self.overflow_due = false;
            return Some(answer(FlowStatus::Overflow));
        }
        match self.state {
            State::FlowControlDue => {
                self.state = State::Consecutive {
                    deadline: None,
                    left: (config.block_size > 0).then_some(config.block_size),
                };
                Some(answer(FlowStatus::ContinueToSend))
            }
            State::Waiting { next, sent } if now >= next && sent < config.wft_max => {
                self.state = State::Waiting {
                    next: now + config.timeouts.n_br,
                    sent: sent.saturating_add(1),
                };
                Some(answer(FlowStatus::Wait))
            }
            _ => None,
        }
    }

    /// The driver sent one of this half's frames.
    pub(super) fn on_transmitted(&mut self, now: Instant, config: &Config) {
        if let State::Consecutive { deadline, .. } = &mut self.state {
            *deadline = Some(now + config.timeouts.n_cr);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Consecutive { deadline, .. } => deadline,
            State::Waiting { next, .. } => Some(next),
            State::Idle | State::FlowControlDue => None,
        }
    }

    /// N_Cr, and the end of patience with the holder of the storage.
    pub(super) fn handle_timeout(&mut self, now: Instant, config: &Config) -> Result<(), Error> {
        let error = match self.state {
            State::Consecutive {
                deadline: Some(deadline),
                ..
            } if now >= deadline => Error::TimeoutCr,
            State::Waiting { next, sent } if now >= next && sent >= config.wft_max => {
                Error::WaitOverrun(Direction::Receive)
            }
            _ => return Ok(()),
        };
        self.abort();
        Err(error)
    }
}
