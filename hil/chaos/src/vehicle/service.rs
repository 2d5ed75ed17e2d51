//! The TCU as a service: started again whenever it ends before the campaign does, with a backend
//! that counts its reports.

use std::collections::BTreeMap;

use ecu_bootloader::state::{SlotRecord, SlotState};
use tcu::engine::{CampaignState, Journal as _, Phase, Record};
use tcu::ports::StoredReport;
use tcu::vehicle::{Transaction, Vehicle as _};
use uds::time::{Duration, Instant};

use super::{Campaign, Interruption, Ledger, World};
use crate::disk::Loss;

/// Between two runs of a TCU that left its vehicle incomplete.
const AGAIN: Duration = Duration::from_secs(2);
/// Runs within which a campaign must end.
const RUNS: u32 = 12;

/// Counts reports by their ids.
#[derive(Debug, Default)]
pub struct Backend {
    reports: BTreeMap<String, StoredReport>,
    /// How they came, once each.
    order: Vec<String>,
    /// Deliveries, repetitions included.
    deliveries: u64,
}

impl Backend {
    fn receive(&mut self, report: StoredReport) -> Result<(), String> {
        self.deliveries += 1;
        match self.reports.get(&report.id) {
            Some(known) if *known != report => {
                return Err(format!("two reports have the id {}", report.id));
            }
            Some(_) => {}
            None => {
                self.order.push(report.id.clone());
                self.reports.insert(report.id.clone(), report);
            }
        }
        Ok(())
    }

    /// The phases that were reported, in the order of their arrival.
    #[must_use]
    pub fn phases(&self) -> Vec<Phase> {
        let report = |id| self.reports.get(id).map(|report| report.phase);
        self.order.iter().filter_map(report).collect()
    }

    /// The last report.
    #[must_use]
    pub fn last(&self) -> Option<&StoredReport> {
        self.order.last().and_then(|id| self.reports.get(id))
    }
}

/// What runs the TCU.
#[derive(Debug)]
pub struct Service {
    campaign: Campaign,
    /// When the TCU starts again.
    pub(super) starts: Option<Instant>,
    runs: u32,
    /// How it ended.
    pub(super) ended: Option<CampaignState>,
    /// What did not hold on the way.
    pub(super) violation: Option<String>,
    backend: Backend,
}

impl World {
    /// Starts a TCU for a campaign, its journal on a disk; it is started again until the campaign
    /// has ended.
    ///
    /// # Panics
    /// When the journal cannot be made.
    pub fn serve(&mut self, campaign: &Campaign) {
        let ledger = Ledger::on_disk(&campaign.plan).expect("a journal");
        self.service = Some(Service {
            campaign: campaign.clone(),
            starts: None,
            runs: 1,
            ended: None,
            violation: None,
            backend: Backend::default(),
        });
        self.start_tcu_with(campaign, ledger);
        self.frames = 0;
    }

    /// The campaign to its end; what does not hold, in words.
    ///
    /// # Errors
    /// That.
    pub fn run_service(&mut self) -> Result<CampaignState, String> {
        self.run_until("the campaign ends", |world| {
            let service = world.service.as_ref();
            service.is_none_or(|service| service.ended.is_some() || service.violation.is_some())
        });
        let service = self.service.as_ref().ok_or("no service")?;
        match &service.violation {
            Some(violation) => Err(violation.clone()),
            None => service.ended.ok_or_else(|| "no end".into()),
        }
    }

    /// The backend.
    #[must_use]
    pub fn backend(&self) -> Option<&Backend> {
        self.service.as_ref().map(|service| &service.backend)
    }

    /// The TCU loses power.
    pub(super) fn lose_tcu(&mut self, pause: Duration, loss: Loss) {
        if self.tcu.is_none() {
            return;
        }
        let ledger = self.stop_tcu();
        let Some(service) = &mut self.service else {
            return;
        };
        service.starts = Some(self.now + pause);
        let checked = ledger.after_power_loss(loss).and_then(|ledger| {
            self.check_announced(ledger.records())?;
            Ok(ledger)
        });
        match checked {
            Ok(ledger) => self.ledger = Some(ledger),
            Err(error) => self.fail(error),
        }
    }

    /// What has begun is in the journal: each job that was started on an ECU, and COMMIT where an
    /// ECU is sealed.
    fn check_announced(&self, records: &[Record]) -> Result<(), String> {
        for (index, ecu) in self.ecus.iter().enumerate() {
            let start =
                |record: &&Record| matches!(record, Record::Start { ecu, .. } if *ecu == index);
            let announced = records.iter().filter(start).count();
            if ecu.started > announced {
                let started = ecu.started;
                return Err(format!(
                    "{started} jobs began on ECU {index}, {announced} are journaled"
                ));
            }
        }
        self.check_sealed(records)
    }

    fn check_sealed(&self, records: &[Record]) -> Result<(), String> {
        let Some(service) = &self.service else {
            return Ok(());
        };
        if records.contains(&Record::Commit) {
            return Ok(());
        }
        for (index, planned) in service.campaign.plan.ecus.iter().enumerate() {
            let Some(state) = self.ecu_state(index) else {
                continue;
            };
            let sealed =
                |slot: &SlotRecord| slot.state == SlotState::Sealed && slot.digest == planned.image;
            if [state.a, state.b].iter().any(sealed) {
                return Err(format!("ECU {index} is sealed without COMMIT"));
            }
        }
        Ok(())
    }

    /// The OEM grants the same image again to the ECUs that need it.
    fn grant_again(&mut self) {
        let (Some(service), Some(tcu)) = (&mut self.service, &mut self.tcu) else {
            return;
        };
        let needing: Vec<usize> = tcu.engine().needing_grants().collect();
        for ecu in needing {
            let Some(grant) = service
                .campaign
                .spare_grants
                .get_mut(ecu)
                .and_then(Vec::pop)
            else {
                service
                    .violation
                    .get_or_insert("too many grants are needed".into());
                return;
            };
            let record = Record::Regrant { ecu, grant };
            // A journal that fails here is seen by whoever looks after it.
            let _ = tcu.journal_mut().append(&record, None);
        }
    }

    /// Starts a TCU that is due, looks after one that has ended, and delivers reports.
    pub(super) fn supervise(&mut self) {
        let Some(service) = &mut self.service else {
            return;
        };
        if service.starts.is_some_and(|at| self.now >= at) {
            service.starts = None;
            if let Some(ledger) = self.ledger.take() {
                let campaign = service.campaign.clone();
                self.start_tcu_with(&campaign, ledger);
                self.arm_disk();
            }
        }
        self.deliver_reports();
        let Some(tcu) = &self.tcu else { return };
        if tcu.journal().is_off() {
            let loss = match self.interruptions.front() {
                Some(Interruption::Disk { loss, .. }) => *loss,
                _ => Loss::Nothing,
            };
            self.lose_tcu(Duration::from_millis(200), loss);
            self.happened();
        } else if let Some(error) = tcu.error() {
            let error = error.to_string();
            self.fail(format!("the journal failed: {error}"));
        } else if tcu.is_finished() {
            let state = tcu.finished();
            self.reports_due = true;
            self.deliver_reports();
            let off = |tcu: &Transaction<Ledger>| tcu.journal().is_off();
            if !self.tcu.as_ref().is_some_and(off) {
                self.on_run_ended(state);
            }
        }
    }

    fn fail(&mut self, violation: String) {
        if let Some(service) = &mut self.service {
            service.violation.get_or_insert(violation);
        }
    }

    /// A disk fault that was armed while no TCU ran.
    fn arm_disk(&mut self) {
        if matches!(self.interruptions.front(), Some(Interruption::Disk { .. })) {
            self.arm();
        }
    }

    fn on_run_ended(&mut self, state: Option<CampaignState>) {
        let Some(service) = &mut self.service else {
            return;
        };
        match state {
            Some(CampaignState::Incomplete) if service.runs >= RUNS => {
                service.violation = Some(format!("incomplete after {RUNS} runs"));
            }
            Some(CampaignState::Incomplete) => {
                service.runs += 1;
                service.starts = Some(self.now + AGAIN);
                self.grant_again();
                let off = |tcu: &Transaction<Ledger>| tcu.journal().is_off();
                if !self.tcu.as_ref().is_some_and(off) {
                    self.ledger = Some(self.stop_tcu());
                }
            }
            Some(state) => service.ended = Some(state),
            None => service.violation = Some("a run without an end".into()),
        }
    }

    /// Delivers what waits. Every other confirmation is lost on its way, so that reports come twice.
    fn deliver_reports(&mut self) {
        let (Some(service), Some(tcu)) = (&mut self.service, &mut self.tcu) else {
            return;
        };
        if !std::mem::take(&mut self.reports_due) || tcu.error().is_some() {
            return;
        }
        let reports = tcu.journal().undelivered().unwrap_or_default();
        for report in reports {
            let id = report.id.clone();
            if let Err(error) = service.backend.receive(report) {
                service.violation.get_or_insert(error);
            }
            let confirmed = service.backend.deliveries.is_multiple_of(2)
                || tcu
                    .finished()
                    .is_some_and(|state| state != CampaignState::Incomplete);
            if confirmed && tcu.journal_mut().delivered(&id).is_err() {
                return;
            }
        }
    }
}
