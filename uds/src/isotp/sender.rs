//! The sending half: segmentation under the peer's flow control (clauses 9.2 to 9.4, 9.8).

use super::pdu::{Bytes, FlowControl, FlowStatus, Pdu};
use super::{Config, Direction, Error, SendError, StMin};
use crate::time::Instant;

/// ```text
///            start            SF handed out
///   Idle ───────────► Start ─────────────────────────────► Finishing ──► Idle (sent)
///                       │ FF                                   ▲
///                       ▼            CTS                       │ last CF
///               AwaitFlowControl ─────────► Consecutive ───────┘
///                 │  ▲ ▲  │ WAIT               │
///                 │  │ └──┘                    │ block done
///  N_Bs, OVFLW, ──┘  └─────────────────────────┘
///  reserved status, too many WAIT: Idle (failed)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// A SingleFrame or FirstFrame is due.
    Start,
    /// N_Bs runs as soon as the frame before counts as sent.
    AwaitFlowControl {
        deadline: Option<Instant>,
    },
    /// ConsecutiveFrames are due.
    Consecutive {
        /// Frames left of the block; `None` for no limit.
        left: Option<u8>,
        /// End of STmin; `None` until the frame before counts as sent.
        not_before: Option<Instant>,
    },
    /// The last frame is handed out, not yet confirmed.
    Finishing,
}

pub(super) struct Sender<T> {
    storage: T,
    /// Bytes of the message in `storage`.
    len: usize,
    /// Bytes handed out.
    offset: usize,
    sequence_number: u8,
    /// FlowControl.WAIT in a row.
    waits: u8,
    st_min: StMin,
    state: State,
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Sender<T> {
    pub(super) fn new(storage: T) -> Self {
        Self {
            storage,
            len: 0,
            offset: 0,
            sequence_number: 0,
            waits: 0,
            st_min: StMin::ZERO,
            state: State::Idle,
        }
    }

    pub(super) fn start(&mut self, pdu: &[u8]) -> Result<(), SendError> {
        if self.state != State::Idle {
            return Err(SendError::Busy);
        }
        if pdu.is_empty() {
            return Err(SendError::Empty);
        }
        let storage = self.storage.as_mut();
        // FF_DL has 32 bits.
        let room = storage
            .len()
            .min(usize::try_from(u32::MAX).unwrap_or(usize::MAX));
        let len = pdu.len();
        let target = storage
            .get_mut(..len)
            .filter(|_| len <= room)
            .ok_or(SendError::TooLong { len, room })?;
        target.copy_from_slice(pdu);
        self.len = len;
        self.offset = 0;
        self.sequence_number = 0;
        self.waits = 0;
        self.state = State::Start;
        Ok(())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    pub(super) fn abort(&mut self) {
        self.state = State::Idle;
    }

    /// A FlowControl of the peer, or its reserved status. Ignored unless one is awaited.
    pub(super) fn handle_flow_control(
        &mut self,
        now: Instant,
        config: &Config,
        fc: Result<FlowControl, u8>,
    ) -> Result<(), Error> {
        if !matches!(self.state, State::AwaitFlowControl { .. }) {
            return Ok(());
        }
        let result = self.apply(now, config, fc);
        if result.is_err() {
            self.abort();
        }
        result
    }

    fn apply(
        &mut self,
        now: Instant,
        config: &Config,
        fc: Result<FlowControl, u8>,
    ) -> Result<(), Error> {
        let fc = fc.map_err(Error::InvalidFlowStatus)?;
        match fc.status {
            FlowStatus::ContinueToSend => {
                self.waits = 0;
                self.st_min = fc.st_min;
                self.state = State::Consecutive {
                    left: (fc.block_size > 0).then_some(fc.block_size),
                    not_before: Some(now),
                };
                Ok(())
            }
            FlowStatus::Wait if self.waits >= config.wft_max => {
                Err(Error::WaitOverrun(Direction::Send))
            }
            FlowStatus::Wait => {
                self.waits = self.waits.saturating_add(1);
                self.state = State::AwaitFlowControl {
                    deadline: Some(now + config.timeouts.n_bs),
                };
                Ok(())
            }
            FlowStatus::Overflow => Err(Error::PeerOverflow),
        }
    }

    /// Writes the next frame's bytes, if one is due. It counts as sent with [`Sender::on_transmitted`].
    pub(super) fn poll_transmit(
        &mut self,
        now: Instant,
        config: &Config,
        bytes: &mut Bytes,
    ) -> Option<()> {
        match self.state {
            State::Start => self.first_or_single(config, bytes),
            State::Consecutive {
                left,
                not_before: Some(not_before),
            } if now >= not_before => self.consecutive(now, config, left, bytes),
            _ => None,
        }
    }

    fn first_or_single(&mut self, config: &Config, bytes: &mut Bytes) -> Option<()> {
        let message = self.storage.as_ref().get(..self.len)?;
        if message.len() <= config.single_frame_len() {
            self.state = State::Finishing;
            Pdu::Single(message).emit(bytes);
            return Some(());
        }
        let len = u32::try_from(message.len()).ok()?;
        let pci = if len > 0xFFF { 6 } else { 2 };
        let room = config
            .frame_len()
            .saturating_sub(config.addressing.overhead())
            .saturating_sub(pci);
        let data = message.get(..room)?;
        Pdu::First { len, data }.emit(bytes);
        self.offset = room;
        self.sequence_number = 1;
        self.state = State::AwaitFlowControl { deadline: None };
        Some(())
    }

    fn consecutive(
        &mut self,
        now: Instant,
        config: &Config,
        left: Option<u8>,
        bytes: &mut Bytes,
    ) -> Option<()> {
        let room = config
            .frame_len()
            .saturating_sub(config.addressing.overhead())
            .saturating_sub(1);
        let end = self.offset.saturating_add(room).min(self.len);
        let data = self.storage.as_ref().get(self.offset..end)?;
        Pdu::Consecutive {
            sequence_number: self.sequence_number,
            data,
        }
        .emit(bytes);
        self.offset = end;
        self.sequence_number = self.sequence_number.wrapping_add(1) & 0xF;
        let left = left.map(|left| left.saturating_sub(1));
        self.state = if end == self.len {
            State::Finishing
        } else if left == Some(0) {
            State::AwaitFlowControl { deadline: None }
        } else {
            State::Consecutive {
                left,
                not_before: (self.st_min == StMin::ZERO).then_some(now),
            }
        };
        Some(())
    }

    /// The driver sent one of this half's frames; `unconfirmed` more are on their way. Whether the
    /// message is sent with it.
    pub(super) fn on_transmitted(
        &mut self,
        now: Instant,
        config: &Config,
        unconfirmed: usize,
    ) -> bool {
        match &mut self.state {
            State::Finishing if unconfirmed == 0 => {
                self.state = State::Idle;
                return true;
            }
            State::AwaitFlowControl { deadline } => {
                *deadline = Some(now + config.timeouts.n_bs);
            }
            State::Consecutive { not_before, .. } if self.st_min != StMin::ZERO => {
                *not_before = Some(now + self.st_min.duration());
            }
            _ => {}
        }
        false
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::AwaitFlowControl { deadline } => deadline,
            State::Consecutive { not_before, .. } => not_before,
            State::Idle | State::Start | State::Finishing => None,
        }
    }

    /// N_Bs.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        match self.state {
            State::AwaitFlowControl {
                deadline: Some(deadline),
            } if now >= deadline => {
                self.abort();
                Err(Error::TimeoutBs)
            }
            _ => Ok(()),
        }
    }
}
