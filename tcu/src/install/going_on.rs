//! A transaction that goes on from its journal, and is driven to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use campaign::VerifiedCampaign;
use campaign::ids::EcuName;
use campaign::vehicle::Ecu;
use ecu_image::ImageDigest;
use rand::RngExt;

use super::{Context, setup};
use crate::engine::{
    CampaignState, Engine, Journal as _, Member, Plan, PlannedEcu, Record, Report, Together,
};
use crate::error::Error;
use crate::fetch::{self, Artifact, Origin};
use crate::flash::{Job, Outcome};
use crate::journal::SqliteJournal;
use crate::link::Links;
use crate::output::{Line, Output};
use crate::state::State;
use crate::vehicle::{Event, Transaction};
use crate::{engine, flash, link, validate};

/// How often a missing interface is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Why an ECU's image is not in the cache, by the ECU's index.
pub(super) type Lost = BTreeMap<usize, String>;

impl Context {
    /// Goes on with a campaign whose ECUs need fresh grants, where `origin` has them by now.
    pub(super) async fn grant_again(
        &self,
        origin: &(impl Origin + ?Sized),
        report: Report,
        state: &State,
        output: &mut Output,
    ) -> Result<Report, Error> {
        let stands = || -> Result<_, Error> {
            let mut journal = state.journal()?;
            let entry = journal.last()?.filter(|entry| !entry.finished);
            let engine =
                entry.map(|entry| Engine::new(entry.plan, self.policy.clone(), &entry.records, 0));
            Ok((journal, engine))
        };
        let needs = |engine: Engine| engine.needing_grants().next().is_some();
        if !stands()?.1.is_some_and(needs) {
            return Ok(report);
        }
        let campaign = match self.verify(origin, state, output, &mut None).await {
            Ok(campaign) => campaign,
            Err(error) => {
                tracing::warn!(%error, "no fresh grants for the ECUs that need them");
                return Ok(report);
            }
        };
        // Meanwhile somebody may have given an ECU up.
        let (mut journal, engine) = stands()?;
        let grants = engine.map(|engine| validate::fresh_grants(&engine, &campaign.ecus));
        let grants = grants.unwrap_or_default();
        if grants.is_empty() {
            return Ok(report);
        }
        for grant in &grants {
            journal.append(grant, None)?;
        }
        drop(journal);
        let goes_on = self.go_on(origin, state, output).await?;
        Ok(goes_on.unwrap_or(report))
    }

    /// Finishes the campaign that the journal holds, if there is one; ECUs that need a fresh grant get
    /// it from `origin`, where that has it by now.
    ///
    /// # Errors
    ///
    /// As for [`Context::install`].
    pub async fn resume(
        &self,
        origin: &(impl Origin + ?Sized),
        state: &State,
        output: &mut Output,
    ) -> Result<Option<Report>, Error> {
        match self.go_on(origin, state, output).await? {
            Some(report) => self
                .grant_again(origin, report, state, output)
                .await
                .map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn go_on(
        &self,
        origin: &(impl Origin + ?Sized),
        state: &State,
        output: &mut Output,
    ) -> Result<Option<Report>, Error> {
        let mut journal = state.journal()?;
        let Some(entry) = journal.last()?.filter(|entry| !entry.finished) else {
            return Ok(None);
        };
        output.line(&Line::Campaign {
            detail: format!("campaign {} goes on", entry.plan.campaign),
        });
        let engine = Engine::new(entry.plan.clone(), self.policy.clone(), &entry.records, 0);
        let lost = self.mend_cache(origin, &engine, state, output).await?;
        if let Some(desk) = &self.desk {
            desk.resume(&entry.plan)?;
        }
        // From now on nobody gives an ECU up behind this run.
        let Some(entry) = journal.last()? else {
            return Ok(None);
        };
        self.transact(entry.plan, &entry.records, lost, journal, state, output)
            .await
            .map(Some)
    }

    /// Runs the transaction from where `records` end, and has its end recorded.
    pub(super) async fn transact(
        &self,
        plan: Plan,
        records: &[Record],
        lost: Lost,
        journal: SqliteJournal,
        state: &State,
        output: &mut Output,
    ) -> Result<Report, Error> {
        let result = self
            .drive(plan, records, &lost, journal, state, output)
            .await;
        if let Some(desk) = &self.desk {
            match &result {
                Ok(report) => desk.end(report),
                Err(error) => desk.abandon(error),
            }
        }
        result
    }

    pub(super) async fn drive(
        &self,
        plan: Plan,
        records: &[Record],
        lost: &Lost,
        journal: SqliteJournal,
        state: &State,
        output: &mut Output,
    ) -> Result<Report, Error> {
        let seed = crate::random().random();
        let engine = Engine::new(plan, self.policy.clone(), records, seed);
        let names: Vec<String> = engine
            .plan()
            .ecus
            .iter()
            .map(|ecu| ecu.name.clone())
            .collect();
        let committed = engine.phase() == engine::Phase::Sealing;
        output.begin(&engine.plan().campaign, &names, committed);
        let mut with_bus = Vec::new();
        let mut setups = Vec::new();
        let mut unreachable = Vec::new();
        for (index, planned) in engine.plan().ecus.iter().enumerate() {
            let ecu = self.ecu(&planned.name);
            let ecu = ecu.map_err(|error| unreachable.push(error)).ok();
            let bus = engine.buses().iter().position(|bus| *bus == planned.bus);
            let bus = bus.unwrap_or(0);
            let target = match planned.unchanged {
                true => None,
                false => Some(target(planned, lost.get(&index), state)),
            };
            with_bus.push((ecu, bus));
            setups.push(setup(ecu, bus, target));
        }
        let mut held = self.lines.hold(names.clone()).await;
        let (links, missing) = self.links(&with_bus).await;
        unreachable.extend(missing);
        for error in &unreachable {
            tracing::warn!(%error, "its ECUs are silent");
        }
        let mut transaction = Transaction::new(engine, self.jobs(setups, &self.flash), journal);
        let mut show = |event| {
            if let (Event::Phase(phase), Some(desk)) = (&event, &self.desk) {
                desk.phase(*phase);
            }
            output.event(event, &names);
        };
        let mut control = self.control.clone();
        let driven =
            link::drive(&mut transaction, &links, &mut held, &mut control, &mut show).await;
        if let Some(error) = transaction.error() {
            return Err(engine::JournalError(error.0.clone()).into());
        }
        let mut report = transaction.report();
        match driven {
            Ok(()) if report.campaign.state != CampaignState::Incomplete => {}
            Ok(()) => {
                let why = unreachable.iter().map(|error| format!("; {error}"));
                let why: String = why.collect();
                report.campaign.reason = Some(format!("run again to go on{why}"));
            }
            Err(error @ Error::Stopped) => report.campaign.reason = Some(error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(report)
    }

    /// The connections that there are. An interface that is missing is waited for as long as an ECU
    /// that is silent: it may come up late.
    async fn links(&self, ecus: &[(Option<&Ecu>, usize)]) -> (Links, Vec<Error>) {
        let start = tokio::time::Instant::now();
        let mut control = self.control.clone();
        loop {
            let (links, missing) = Links::open_present(&self.vehicle, ecus, self.transport);
            let waits = start.elapsed() < self.flash.patience && !control.borrow().stop;
            if missing.is_empty() || !waits {
                return (links, missing);
            }
            // What is open would be in the way of the next try.
            drop(links);
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = control.wait_for(|control| control.stop) => {}
            }
        }
    }

    /// Fetches images again that are still to be sent and are not in the cache as they should be. What
    /// cannot be fetched is a matter of its ECU alone.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    pub(super) async fn mend_cache(
        &self,
        origin: &(impl Origin + ?Sized),
        engine: &Engine,
        state: &State,
        output: &mut Output,
    ) -> Result<Lost, Error> {
        let mut lost = Lost::new();
        for (ecu, sha256, length) in engine.images_wanted() {
            let file = std::fs::metadata(state.image(&sha256));
            let artifact = Artifact {
                path: campaign::layout::artifact_path(&sha256),
                length: match length {
                    0 => file.map_or(0, |file| file.len()),
                    length => length,
                },
                sha256,
            };
            if fetch::is_cached(&artifact, &state.cache()) {
                continue;
            }
            output.line(&Line::Campaign {
                detail: format!("{} is not in the cache any more", artifact.path),
            });
            let mut control = self.control.clone();
            let again = async {
                let source = origin.open(self.ca.as_deref())?;
                super::fetch(&source, &artifact, state, output).await
            };
            let again = tokio::select! {
                again = again => again,
                _ = control.wait_for(|control| control.stop) => return Err(Error::Stopped),
            };
            if let Err(error) = again {
                tracing::warn!(%error, "an image is lost");
                let why = format!("lost from the cache, and not fetched again: {error}");
                lost.insert(ecu, why);
            }
        }
        Ok(lost)
    }

    /// What the ECUs that the campaign leaves alone say, as far as they answer.
    pub(super) async fn ask_others(
        &self,
        ecus: &[&Ecu],
        output: &mut Output,
    ) -> Result<BTreeMap<EcuName, Outcome>, Error> {
        let others = self.vehicle.ecus().iter();
        let others: Vec<&Ecu> = others
            .filter(|ecu| ecus.iter().all(|asked| asked.name != ecu.name))
            .collect();
        if others.is_empty() {
            return Ok(BTreeMap::new());
        }
        let found = self.inventory(&others, Job::Inventory, output).await?;
        let names = others.iter().map(|ecu| ecu.name.clone());
        let said = names
            .zip(found)
            .filter_map(|(name, found)| Some((name, found.ok()?)));
        Ok(said.collect())
    }

    /// What images ask of one another, with what all ECUs run now.
    pub(super) fn together(
        &self,
        campaign: &VerifiedCampaign,
        said: &BTreeMap<EcuName, Outcome>,
    ) -> Together {
        if campaign.rules.is_empty() {
            return Together::default();
        }
        let ecus = self.vehicle.ecus().iter().map(|ecu| {
            let says = said.get(&ecu.name);
            Member {
                name: ecu.name.to_string(),
                hardware_id: ecu.hardware_id,
                image: says.map_or(ImageDigest::ZERO, |says| says.status.running.0),
                version: says.and_then(|says| says.version.clone()),
            }
        });
        Together {
            ecus: ecus.collect(),
            rules: campaign.rules.clone(),
        }
    }
}

/// What an ECU gets; a file that has changed since it was verified is refused.
pub(super) fn target(planned: &PlannedEcu, lost: Option<&String>, state: &State) -> flash::Target {
    let target = match &planned.restore {
        None => validate::target(&state.image(&planned.artifact), planned),
        Some(restore) => {
            let before = PlannedEcu {
                image: planned.from.image,
                grant: restore.grant.clone(),
                key_set: None,
                ..planned.clone()
            };
            validate::target(&state.image(&restore.artifact), &before)
        }
    };
    let packed = lost.map_or(target.packed, |why| Err(why.clone()));
    flash::Target { packed, ..target }
}
