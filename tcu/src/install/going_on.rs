//! A transaction that goes on from its journal, and is driven to its end.

use std::collections::BTreeMap;

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
use crate::fetch::Origin;
use crate::flash::{Job, Outcome};
use crate::journal::SqliteJournal;
use crate::link::Links;
use crate::output::{Line, Output};
use crate::state::State;
use crate::vehicle::{Event, Transaction};
use crate::{engine, flash, link, validate};

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
        Ok(self.go_on(state, output).await?.unwrap_or(report))
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
        match self.go_on(state, output).await? {
            Some(report) => self
                .grant_again(origin, report, state, output)
                .await
                .map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn go_on(
        &self,
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
        if let Some(desk) = &self.desk {
            desk.resume(&entry.plan)?;
        }
        // From now on nobody gives an ECU up behind this run.
        let Some(entry) = journal.last()? else {
            return Ok(None);
        };
        self.transact(entry.plan, &entry.records, journal, state, output)
            .await
            .map(Some)
    }

    /// Runs the transaction from where `records` end, and has its end recorded.
    pub(super) async fn transact(
        &self,
        plan: Plan,
        records: &[Record],
        journal: SqliteJournal,
        state: &State,
        output: &mut Output,
    ) -> Result<Report, Error> {
        let result = self.drive(plan, records, journal, state, output).await;
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
        for planned in &engine.plan().ecus {
            let ecu = self.ecu(&planned.name)?;
            let bus = engine.buses().iter().position(|bus| *bus == planned.bus);
            let bus = bus.unwrap_or(0);
            let target = match planned.unchanged {
                true => None,
                false => Some(self.target(planned, state)?),
            };
            with_bus.push((ecu, bus));
            setups.push(setup(ecu, bus, target));
        }
        let links = Links::open(&self.vehicle, &with_bus, self.transport)?;
        let mut transaction = Transaction::new(engine, self.jobs(setups, &self.flash), journal);
        let mut show = |event| {
            if let (Event::Phase(phase), Some(desk)) = (&event, &self.desk) {
                desk.phase(*phase);
            }
            Line::of(event, &names)
                .into_iter()
                .for_each(|line| output.line(&line));
        };
        let mut control = self.control.clone();
        let driven = link::drive(&mut transaction, &links, &mut control, &mut show).await;
        if let Some(error) = transaction.error() {
            return Err(engine::JournalError(error.0.clone()).into());
        }
        let mut report = transaction.report();
        match driven {
            Ok(()) if report.campaign.state != CampaignState::Incomplete => {}
            Ok(()) => report.campaign.reason = Some("run again to go on".into()),
            Err(error @ Error::Stopped) => report.campaign.reason = Some(error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(report)
    }

    /// An image that was verified when it was planned; a file changed since is refused.
    pub(super) fn target(
        &self,
        planned: &PlannedEcu,
        state: &State,
    ) -> Result<flash::Target, Error> {
        let Some(restore) = &planned.restore else {
            return validate::target(&state.image(&planned.artifact), planned);
        };
        let before = PlannedEcu {
            image: planned.from.image,
            grant: restore.grant.clone(),
            key_set: None,
            ..planned.clone()
        };
        validate::target(&state.image(&restore.artifact), &before)
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
