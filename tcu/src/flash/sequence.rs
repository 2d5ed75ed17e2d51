//! What follows from each response.
//!
//! ```text
//! stage:    status > 10 03 > 0203 > 10 02 > access > F15A > FD03 > key set > FD00 > metadata > erase
//!           > pages > check > dependencies > reset > boot
//!           (FD03 says whether the key set is needed, FD00 from where on the image is)
//! activate: status > 10 03 > 10 02 > access > 0210 > reset
//! healthy:  status, again and again > version
//! seal:     status > 10 03 > access > 0212 > status > version
//! revert:   status > 10 03 > access > 0213 > reset > boot > version
//! report:   status > 0214
//! ```

use ecu_image::REPORT_LEN;
use uds::nrc::Nrc;
use uds::service::{
    Pdu, ReadDataByIdentifierResponse, RequestDownloadResponse, RoutineControlResponse,
    SecurityAccessResponse, TransferDataResponse,
};
use uds::time::Instant;

use super::{Event, Flash, Job, Outcome, RequestError, State, Step, Transfer, What};
use crate::profile::{BootPhase, BootReason, BootStatus, Progress, ProgressState, SlotState};

type Next = Result<State, What>;

fn send(step: Step) -> Next {
    Ok(State::Send(step))
}

fn wrong(what: &str) -> What {
    What::WrongContent(what.to_owned())
}

impl Flash {
    /// What follows from a positive response.
    pub(super) fn on_positive(&mut self, now: Instant, step: Step, pdu: &[u8]) -> Next {
        match step {
            Step::BootStatus => {
                let status = self.read_status(pdu)?;
                self.on_status(now, status)
            }
            Step::AwaitBoot => {
                let status = self.read_status(pdu)?;
                self.on_booted(now, status)
            }
            Step::AwaitHealthy => {
                let status = self.read_status(pdu)?;
                self.on_health(now, status)
            }
            Step::Serial => {
                self.serial = Some(text(pdu)?);
                send(Step::Hardware)
            }
            Step::Hardware => {
                self.hardware = Some(text(pdu)?);
                send(Step::Version)
            }
            Step::Version => {
                self.version = Some(text(pdu)?);
                match self.job {
                    Job::Precheck => send(Step::ExtendedSession),
                    _ => self.finish(),
                }
            }
            Step::ExtendedSession => send(match self.job {
                Job::Stage | Job::Precheck => Step::Preconditions,
                Job::Activate => Step::ProgrammingSession,
                _ => Step::RequestSeed,
            }),
            Step::Preconditions => match routine_status(pdu)? {
                0 if self.job == Job::Precheck => self.finish(),
                0 => send(Step::ProgrammingSession),
                unmet => Err(What::Preconditions(unmet)),
            },
            Step::ProgrammingSession => {
                self.programming = true;
                send(Step::RequestSeed)
            }
            Step::RequestSeed => {
                let response = parse::<SecurityAccessResponse<'_>>(pdu)?;
                self.seed = response.seed.to_vec();
                // A seed of zeros says that access is granted already (clause 10.4).
                if self.seed.iter().all(|byte| *byte == 0) {
                    self.on_unlocked()
                } else {
                    send(Step::SendKey)
                }
            }
            Step::SendKey => self.on_unlocked(),
            Step::Fingerprint => send(match self.target()?.key_set {
                Some(_) => Step::KeySet,
                None => Step::Progress,
            }),
            Step::LastFailure => self.on_last_failure(Some(pdu)),
            Step::Activate => {
                expect_done(pdu)?;
                send(Step::Reset)
            }
            Step::Seal => {
                expect_done(pdu)?;
                send(Step::BootStatus)
            }
            Step::Revert => {
                expect_done(pdu)?;
                send(Step::Reset)
            }
            Step::Reset => self.on_reset(now),
            Step::Report => {
                self.report = Some(Box::new(report(pdu)?));
                self.finish()
            }
            _ => self.on_programming(step, pdu),
        }
    }

    /// The part of the sequence between FD00 and FF01.
    fn on_programming(&mut self, step: Step, pdu: &[u8]) -> Next {
        match step {
            Step::KeySet => self.on_key_set(pdu),
            Step::KeySetDownload => {
                let end = self.key_set_len()?;
                self.transfer = Transfer::new(0, end, self.max_block(pdu)?, 0);
                self.next_block(step)
            }
            Step::KeySetExit => send(Step::Progress),
            Step::Progress => self.on_progress(pdu),
            Step::MetadataDownload => {
                let end = self.metadata_stream_len()?;
                self.transfer = Transfer::new(0, end, self.max_block(pdu)?, 0);
                self.next_block(step)
            }
            Step::PayloadDownload => {
                let packed = self.packed()?;
                let (page, end) = (packed.page_size, packed.payload_len());
                self.transfer = Transfer::new(self.durable, end, self.max_block(pdu)?, page);
                self.next_block(step)
            }
            Step::KeySetBlock | Step::MetadataBlock | Step::PayloadBlock => {
                self.on_block(step, pdu)
            }
            Step::MetadataExit => {
                self.durable = 0;
                send(Step::Erase)
            }
            Step::Erase => {
                expect_done(pdu)?;
                send(Step::PayloadDownload)
            }
            Step::PayloadExit => send(Step::Check),
            Step::Check => {
                expect_done(pdu)?;
                send(Step::Dependencies)
            }
            _ => {
                expect_done(pdu)?;
                send(Step::Reset)
            }
        }
    }

    fn read_status(&mut self, pdu: &[u8]) -> Result<BootStatus, What> {
        let status = BootStatus::parse(record(pdu)?).ok_or_else(|| wrong("FD01 is malformed"))?;
        self.status = Some(status);
        Ok(status)
    }

    /// Where the ECU stands decides what the job still has to do.
    fn on_status(&mut self, now: Instant, status: BootStatus) -> Next {
        if status.reason == BootReason::Starting {
            let latest = now + self.policy.boot_timeout;
            self.deadline.get_or_insert(latest);
            return self.look_again(now, Step::BootStatus);
        }
        match self.job {
            Job::Inventory | Job::Precheck => return send(Step::Serial),
            Job::Report => return send(Step::Report),
            _ => {}
        }
        let found = status.find(&self.target()?.image);
        self.touched |= found.is_some();
        match self.job {
            Job::Stage => match found {
                Some((SlotState::Staged | SlotState::Trial, _)) => self.finish(),
                Some((SlotState::Healthy | SlotState::Sealed, true)) => self.finish(),
                Some((SlotState::Healthy | SlotState::Sealed, false)) if !is_up(&status) => {
                    self.finish()
                }
                // Before the ECU leaves its application for nothing.
                _ => self.packed().and_then(|_| send(Step::ExtendedSession)),
            },
            Job::Activate => match found {
                Some((SlotState::Trial | SlotState::Healthy | SlotState::Sealed, true)) => {
                    self.finish()
                }
                Some((SlotState::Staged, false)) => send(Step::ExtendedSession),
                // Activated, but the reset was lost; or the bootloader answers, which runs nothing.
                Some((SlotState::Trial, false)) => send(Step::Reset),
                Some((SlotState::Healthy | SlotState::Sealed, false)) if !is_up(&status) => {
                    send(Step::Reset)
                }
                Some((SlotState::Rejected, false)) => Err(What::FellBack(status.reason)),
                _ => Err(wrong("the image is not staged")),
            },
            Job::AwaitHealthy => {
                self.deadline = Some(now + self.policy.health_timeout);
                self.on_health(now, status)
            }
            Job::Seal => match found {
                Some((SlotState::Sealed, true)) => send(Step::Version),
                Some((SlotState::Healthy, true)) => send(Step::ExtendedSession),
                Some((SlotState::Trial, true)) => Err(wrong("the image is still on trial")),
                // A bootloader that was left in a programming session runs nothing.
                _ if !is_up(&status) => send(Step::Reset),
                _ => Err(What::NotRunning),
            },
            Job::Revert => on_status_to_revert(found, &status),
            Job::Inventory | Job::Precheck | Job::Report => send(Step::Serial),
        }
    }

    /// After a reset: has the ECU come back as it should?
    fn on_booted(&mut self, now: Instant, status: BootStatus) -> Next {
        let found = status.find(&self.target()?.image);
        match (self.job, found) {
            (Job::Stage, Some((SlotState::Staged, _))) => self.finish(),
            (Job::Revert, Some((SlotState::Empty | SlotState::Rejected, false)) | None)
                if is_up(&status) =>
            {
                send(Step::Version)
            }
            (Job::Seal, _) if is_up(&status) => self.on_status(now, status),
            (Job::Activate, Some((SlotState::Rejected, false))) => {
                Err(What::FellBack(status.reason))
            }
            (Job::Activate, Some((_, true))) => self.finish(),
            _ => self.look_again(now, Step::AwaitBoot),
        }
    }

    /// Is the new image healthy, or given up?
    fn on_health(&mut self, now: Instant, status: BootStatus) -> Next {
        match status.find(&self.target()?.image) {
            Some((SlotState::Healthy | SlotState::Sealed, true)) => send(Step::Version),
            Some((SlotState::Rejected, _)) => Err(What::FellBack(status.reason)),
            Some((SlotState::Empty, _)) | None if is_up(&status) => {
                Err(What::FellBack(status.reason))
            }
            _ => self.look_again(now, Step::AwaitHealthy),
        }
    }

    /// Pauses before the next look at a booting ECU, unless the time is up.
    fn look_again(&mut self, now: Instant, step: Step) -> Next {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Err(match step {
                Step::AwaitHealthy => What::NotHealthy,
                _ => wrong("the ECU has not come back as expected"),
            });
        }
        Ok(State::Pause(now + self.policy.poll_interval, step))
    }

    /// Access is granted: on with the job.
    fn on_unlocked(&mut self) -> Next {
        self.unlocked = true;
        self.unlock_by = None;
        send(match self.job {
            Job::Activate => Step::Activate,
            Job::Seal => Step::Seal,
            Job::Revert => Step::Revert,
            _ => Step::Fingerprint,
        })
    }

    /// `51 01`, or silence after `11 01`: the ECU starts again.
    fn on_reset(&mut self, now: Instant) -> Next {
        self.unlocked = false;
        self.programming = false;
        if self.job == Job::Activate {
            return self.finish();
        }
        self.deadline = Some(now + self.policy.boot_timeout);
        Ok(State::Pause(
            now + self.policy.poll_interval,
            Step::AwaitBoot,
        ))
    }

    /// FD03 says whether the ECU holds a key set as new as the campaign's.
    fn on_key_set(&mut self, pdu: &[u8]) -> Next {
        let held = record(pdu)?.first_chunk::<4>();
        let held = held.ok_or_else(|| wrong("FD03 is malformed"))?;
        let offered = self.target()?.key_set.as_ref();
        let offered = offered.and_then(|set| Some(set.parsed().ok()?.version.get()));
        send(match offered {
            Some(version) if u32::from_be_bytes(*held) < version => Step::KeySetDownload,
            _ => Step::Progress,
        })
    }

    /// FD00 says from where on the ECU wants the image.
    fn on_progress(&mut self, pdu: &[u8]) -> Next {
        let progress = Progress::parse(record(pdu)?).ok_or_else(|| wrong("FD00 is malformed"))?;
        let (target, packed) = (self.target()?, self.packed()?);
        let (page, total) = (packed.page_size, packed.payload_len());
        if progress.image != target.image || progress.state == ProgressState::Idle {
            return send(Step::MetadataDownload);
        }
        self.touched = true;
        let offset = progress.next_offset;
        if progress.state == ProgressState::Accepted {
            self.durable = 0;
            return send(Step::Erase);
        }
        if offset > total || offset.checked_rem(page) != Some(0) {
            return Err(wrong("FD00 names an offset that is no page's"));
        }
        if self.attempt == 1 && self.bytes == 0 {
            // What an earlier job brought, of which no record was left if the power failed.
            self.bytes = u64::from(offset);
        }
        #[cfg(feature = "deliberate-bugs")]
        let offset = match crate::bugs::has(crate::bugs::Bug::UnconfirmedPage) {
            true if offset > 0 && offset < total => offset + page,
            _ => offset,
        };
        if offset > self.durable {
            // The ECU came further since the last start, so the starts count anew.
            self.attempt = 1;
        }
        self.durable = offset;
        send(
            if progress.state >= ProgressState::Durable || offset == total {
                Step::Check
            } else {
                Step::PayloadDownload
            },
        )
    }

    /// Bytes of data that one block may carry, for the ECU and for the transport.
    fn max_block(&self, pdu: &[u8]) -> Result<u32, What> {
        let asked = parse::<RequestDownloadResponse>(pdu)?.max_block_length;
        let carried = self.policy.max_request_len.saturating_sub(2) as u64;
        match u32::try_from(asked.data().min(carried)) {
            Ok(len) if len > 0 => Ok(len),
            _ => Err(wrong("maxNumberOfBlockLength leaves no room for data")),
        }
    }

    /// The next block of the download, or its end.
    fn next_block(&self, step: Step) -> Next {
        let (block, exit) = match step {
            Step::KeySetDownload | Step::KeySetBlock => (Step::KeySetBlock, Step::KeySetExit),
            Step::MetadataDownload | Step::MetadataBlock => {
                (Step::MetadataBlock, Step::MetadataExit)
            }
            _ => (Step::PayloadBlock, Step::PayloadExit),
        };
        let left = self
            .transfer
            .is_some_and(|transfer| transfer.block().is_some());
        send(if left { block } else { exit })
    }

    fn on_block(&mut self, step: Step, pdu: &[u8]) -> Next {
        let Some(transfer) = &mut self.transfer else {
            return Err(wrong("no transfer"));
        };
        let block = transfer.block();
        let response = parse::<TransferDataResponse<'_>>(pdu)?;
        if block.is_none_or(|(counter, ..)| response.counter.0 != counter) {
            return Err(wrong("another block sequence counter is acknowledged"));
        }
        let done = transfer.advance();
        if let (Step::PayloadBlock, Some((.., len))) = (step, block) {
            self.bytes += u64::from(len);
            let total = self.packed()?.payload_len();
            self.events.push_back(Event::Transferred { done, total });
        }
        self.next_block(step)
    }

    /// FD02: reason and detail of the refusal, where the ECU tells.
    fn on_last_failure(&mut self, pdu: Option<&[u8]>) -> Next {
        let (reason, detail) = match pdu.map(record).transpose()? {
            Some(&[r0, r1, d0, d1, d2, d3]) => (
                u16::from_be_bytes([r0, r1]),
                u32::from_be_bytes([d0, d1, d2, d3]),
            ),
            _ => (0, 0),
        };
        Err(What::ProgrammingFailure { reason, detail })
    }

    /// What follows where there was no positive response.
    pub(super) fn on_failed_request(
        &mut self,
        now: Instant,
        step: Step,
        error: RequestError,
    ) -> Next {
        match step {
            // An ECU that boots or tests itself may be silent, locked or busy until the deadline.
            Step::AwaitBoot | Step::AwaitHealthy => self.look_again(now, step),
            Step::BootStatus if self.job == Job::AwaitHealthy => {
                self.deadline = Some(now + self.policy.health_timeout);
                self.look_again(now, Step::AwaitHealthy)
            }
            // Somebody's wrong keys: the ECU counts the delay from its start, so it is left on.
            Step::RequestSeed if error == DELAYED => {
                let latest = now + self.policy.longest_lockout;
                if now >= *self.unlock_by.get_or_insert(latest) {
                    return Err(What::Request(error));
                }
                Ok(State::Pause(now + self.policy.lockout, step))
            }
            // It may reset before its answer is out; the next look tells.
            Step::Reset if !matches!(error, RequestError::Negative(_)) => {
                if self.job == Job::Activate {
                    self.deadline = Some(now + self.policy.boot_timeout);
                    return Ok(State::Pause(
                        now + self.policy.poll_interval,
                        Step::AwaitBoot,
                    ));
                }
                self.on_reset(now)
            }
            // The version is for the report alone.
            Step::Version if !matches!(self.job, Job::Inventory | Job::Precheck) => self.finish(),
            Step::LastFailure => self.on_last_failure(None),
            _ => Err(What::Request(error)),
        }
    }

    fn finish(&mut self) -> Next {
        let status = self.status.ok_or_else(|| wrong("no boot status"))?;
        Ok(State::Done(Ok(Outcome {
            status,
            version: self.version.take(),
            serial: self.serial.take(),
            hardware: self.hardware.take(),
            report: self.report.take(),
        })))
    }
}

/// requiredTimeDelayNotExpired.
const DELAYED: RequestError = RequestError::Negative(Nrc::REQUIRED_TIME_DELAY_NOT_EXPIRED.0);

/// What is left to revert.
fn on_status_to_revert(found: Option<(SlotState, bool)>, status: &BootStatus) -> Next {
    match found {
        Some((SlotState::Sealed, true)) => Err(What::AlreadySealed),
        // Nothing of the image is left; a session that still programs ends with a reset.
        Some((SlotState::Empty | SlotState::Rejected, false)) | None => send(if is_up(status) {
            Step::Version
        } else {
            Step::Reset
        }),
        Some(_) => send(Step::ExtendedSession),
    }
}

/// Whether the ECU runs what it will go on running: an application, or a bootloader without one.
fn is_up(status: &BootStatus) -> bool {
    status.phase == BootPhase::Application || status.reason == BootReason::Recovery
}

/// The ASCII record of a positive response to `22`.
fn text(pdu: &[u8]) -> Result<String, What> {
    let record = record(pdu)?;
    let printable = (1..=64).contains(&record.len()) && record.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(record) {
        Ok(text) if printable => Ok(text.to_owned()),
        _ => Err(wrong("an identification is not printable ASCII")),
    }
}

/// The status byte of `71 01 id status`.
fn routine_status(pdu: &[u8]) -> Result<u8, What> {
    let response = parse::<RoutineControlResponse<'_>>(pdu)?;
    let status = response.status.first().copied();
    status.ok_or_else(|| wrong("a routine result without status"))
}

/// The report of `71 01 0214 status report`.
fn report(pdu: &[u8]) -> Result<[u8; REPORT_LEN], What> {
    let response = parse::<RoutineControlResponse<'_>>(pdu)?;
    let report = match response.status {
        [0, report @ ..] => report.try_into().ok(),
        _ => None,
    };
    report.ok_or_else(|| wrong("a report of another length, or of another status than 00"))
}

/// A routine that only reports success.
fn expect_done(pdu: &[u8]) -> Result<(), What> {
    match routine_status(pdu)? {
        0 => Ok(()),
        status => Err(What::WrongContent(format!("routine status 0x{status:02X}"))),
    }
}

/// The record of a positive response to `22`.
fn record(pdu: &[u8]) -> Result<&[u8], What> {
    Ok(parse::<ReadDataByIdentifierResponse<'_>>(pdu)?.data)
}

fn parse<'a, P: Pdu<'a>>(pdu: &'a [u8]) -> Result<P, What> {
    P::parse(pdu).map_err(|error| What::WrongContent(error.to_string()))
}
