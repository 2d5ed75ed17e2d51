//! The commands: what they do, in order, with the machines and the ports.

mod going_on;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use campaign::VerifiedCampaign;
use campaign::time::Nonce;
use campaign::vehicle::{Ecu, Vehicle};
use ecu_image::Digest;
use ecu_image::crypto::MacKey;
use ecu_image::verify::Policy as ImagePolicy;
use rand::RngExt;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::admission::{self, Started};
use crate::desk::Desk;
use crate::engine::{
    self, CampaignReport, CampaignState, EcuReport, EcuResult, Engine, Plan, PlannedEcu, Record,
    Report,
};
use crate::error::{Error, Exit};
use crate::fetch::{Artifact, Origin, Source};
use crate::flash::{self, Job, Outcome};
use crate::lines::Lines;
use crate::link::{self, Links, Transport};
use crate::manifest::Asked;
use crate::output::{Line, Output};
use crate::planner::{self, Battery, Explanation, Means};
use crate::state::State;
use crate::validate;
use crate::vehicle::{Control, EcuSetup, Event, Inventory, Jobs};
use going_on::Lost;

/// What all commands share.
#[derive(Debug)]
pub struct Context {
    /// The vehicle's configuration.
    pub vehicle: Vehicle,
    /// The pinned roots.
    pub root: PathBuf,
    /// The authorities of the repository's server.
    pub ca: Option<PathBuf>,
    /// The telematics unit's own key, which signs manifests.
    pub tcu_key: Option<PathBuf>,
    /// How PDUs are carried.
    pub transport: Transport,
    /// Who talks to which ECU.
    pub lines: Arc<Lines>,
    /// Bounds of the transaction.
    pub policy: engine::Policy,
    /// Bounds of a job on an ECU.
    pub flash: flash::Policy,
    /// Which image signatures are accepted.
    pub images: ImagePolicy,
    /// What the battery may give, where that matters.
    pub battery: Option<Battery>,
    /// Who admits campaigns and records what becomes of them; commands that change nothing have
    /// none.
    pub desk: Option<Arc<Desk>>,
    /// What is wanted from outside.
    pub control: watch::Receiver<Control>,
}

/// What an ECU says about itself; the step and the reason where it does not.
pub type Found = Result<Outcome, flash::Failure>;

impl Context {
    /// Asks every ECU, or those that are named, what it is and runs.
    ///
    /// # Errors
    ///
    /// [`Error::Link`], [`Error::Stopped`]. An ECU that does not answer is a result.
    pub async fn inventory(
        &self,
        ecus: &[&Ecu],
        job: Job,
        output: &mut Output,
    ) -> Result<Vec<Found>, Error> {
        let names: Vec<String> = ecus.iter().map(|ecu| ecu.name.to_string()).collect();
        let mut show = |event| output.event(event, &names);
        self.ask(ecus, job, &self.flash, &mut show).await
    }

    /// Asks every ECU for its report, in answer to `nonce`.
    ///
    /// # Errors
    ///
    /// [`Error::Link`], [`Error::Stopped`]. An ECU that does not answer is a result.
    pub async fn reports(&self, nonce: &Nonce) -> Result<Vec<Asked>, Error> {
        let ecus: Vec<&Ecu> = self.vehicle.ecus().iter().collect();
        let policy = flash::Policy {
            nonce: nonce.0,
            ..self.flash.clone()
        };
        let found = self.ask(&ecus, Job::Report, &policy, &mut drop).await?;
        let asked = ecus.iter().zip(found).map(|(ecu, found)| Asked {
            name: ecu.name.clone(),
            serial: ecu.serial,
            said: found
                .map_err(|failure| failure.to_string())
                .and_then(|found| {
                    found
                        .report
                        .map(|report| *report)
                        .ok_or_else(|| "no report".to_owned())
                }),
        });
        Ok(asked.collect())
    }

    async fn ask(
        &self,
        ecus: &[&Ecu],
        job: Job,
        policy: &flash::Policy,
        show: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Vec<Found>, Error> {
        let with_bus: Vec<(&Ecu, usize)> =
            ecus.iter().map(|ecu| (*ecu, self.bus_index(ecu))).collect();
        let names = ecus.iter().map(|ecu| ecu.name.to_string()).collect();
        let mut held = self.lines.hold(names).await;
        let links = Links::open(&self.vehicle, &with_bus, self.transport)?;
        let setups = with_bus.iter();
        let setups = setups.map(|(ecu, bus)| setup(Some(ecu), *bus, None));
        let jobs = self.jobs(setups.collect(), policy);
        let mut machine = Inventory::new(can_link::now(), jobs, ecus.len(), job);
        let mut control = self.control.clone();
        link::drive(&mut machine, &links, &mut held, &mut control, show).await?;
        Ok(machine.into_results().into_iter().flatten().collect())
    }

    /// Fetches and verifies everything; no ECU is asked or touched. `name` becomes the campaign's,
    /// once its metadata is verified.
    ///
    /// # Errors
    ///
    /// Whatever does not hold.
    pub async fn verify(
        &self,
        origin: &(impl Origin + ?Sized),
        state: &State,
        output: &mut Output,
        name: &mut Option<String>,
    ) -> Result<VerifiedCampaign, Error> {
        let source = origin.open(self.ca.as_deref())?;
        let trust = state.trust(&self.root)?;
        let mut control = self.control.clone();
        let work = async {
            let learned = |trust: &campaign::Trust| state.store_trust(trust);
            let (campaign, trust) =
                validate::metadata(&source, &trust, &self.vehicle, learned).await?;
            *name = Some(campaign.id.to_string());
            output.line(&Line::Campaign {
                detail: format!("campaign {} for {} ECUs", campaign.id, campaign.ecus.len()),
            });
            let images: Vec<_> = campaign.ecus.iter().map(|target| target.sha256).collect();
            source.agrees(&images)?;
            self.make_room(&images, state)?;
            for target in &campaign.ecus {
                let artifact = Artifact {
                    path: target.artifact_path(),
                    length: target.length,
                    sha256: target.sha256,
                };
                let path = fetch(&source, &artifact, state, output).await?;
                validate::image(&path, target, &campaign.image_keys, &self.images)?;
            }
            state.store_trust(&trust)?;
            Ok(campaign)
        };
        let campaign = tokio::select! {
            campaign = work => campaign,
            _ = control.wait_for(|control| control.stop) => Err(Error::Stopped),
        }?;
        output.line(&Line::Campaign {
            detail: "metadata and images are verified".into(),
        });
        Ok(campaign)
    }

    /// Deletes images that neither these nor the journal's last campaign need: those of a campaign
    /// that was replaced may fill the disk.
    fn make_room(&self, images: &[Digest], state: &State) -> Result<(), Error> {
        let last = state.journal()?.last()?;
        let last = last.iter().flat_map(|last| &last.plan.ecus);
        let last = last.flat_map(|ecu| {
            let restore = ecu.restore.as_ref().map(|restore| restore.artifact);
            [Some(ecu.artifact), restore].into_iter().flatten()
        });
        let needed = images.iter().copied().chain(last);
        state.clean_cache(&needed.collect::<Vec<_>>());
        Ok(())
    }

    /// Finishes the campaign that the journal holds, or else installs the one of `origin`.
    ///
    /// # Errors
    ///
    /// What keeps a report from being made. A refused campaign is a report too.
    pub async fn install(
        &self,
        origin: &(impl Origin + ?Sized),
        state: &State,
        output: &mut Output,
    ) -> Result<Report, Error> {
        if let Some(report) = self.resume(origin, state, output).await? {
            return Ok(report);
        }
        let mut name = None;
        match self.prepare(origin, state, output, &mut name).await {
            Ok((plan, _)) => self.execute(origin, plan, state, output).await,
            Err(error) => Err(error),
        }
        .or_else(|error| match error.exit() {
            Exit::Rejected => Ok(self.rejected(name, &error)),
            _ => Err(error),
        })
    }

    /// Fetches and verifies a campaign and asks the ECUs: the plan, and what it means for the
    /// vehicle. No more than questions are put to an ECU. `name` becomes the campaign's, once its
    /// metadata is verified.
    ///
    /// # Errors
    ///
    /// Whatever does not hold.
    pub async fn prepare(
        &self,
        origin: &(impl Origin + ?Sized),
        state: &State,
        output: &mut Output,
        name: &mut Option<String>,
    ) -> Result<(Plan, Explanation), Error> {
        let campaign = self.verify(origin, state, output, name).await?;
        self.plan(&campaign, output).await
    }

    /// Installs what is planned.
    ///
    /// # Errors
    ///
    /// As for [`Context::install`].
    pub async fn execute(
        &self,
        origin: &(impl Origin + ?Sized),
        plan: Plan,
        state: &State,
        output: &mut Output,
    ) -> Result<Report, Error> {
        let cached = plan.ecus.iter().map(|ecu| ecu.artifact);
        let cached = cached.chain(kept(&plan, state)?);
        state.clean_cache(&cached.collect::<Vec<_>>());
        let plan = match &self.desk {
            Some(desk) if !plan.has_nothing_to_do() => {
                let again = async || {
                    let prepared = self.prepare(origin, state, output, &mut None).await?;
                    Ok(prepared.0)
                };
                let start = Instant::now();
                admission::wait(desk, plan, || start.elapsed(), again).await?
            }
            _ => plan,
        };
        if plan.has_nothing_to_do() {
            // Nothing to do is nothing to remember.
            if let Some(desk) = &self.desk {
                desk.applies(&plan)?;
            }
            let done = [Record::Done(CampaignState::Completed)];
            return Ok(Engine::new(plan, self.policy.clone(), &done, 0).report());
        }
        let started = self.desk.as_deref().map(|desk| Started::new(desk, &plan));
        let started = started.transpose()?;
        let begin = async {
            self.precheck(&plan, output).await?;
            let mut journal = state.journal()?;
            origin.begins(&plan.campaign)?;
            journal.begin(&plan)?;
            Ok(journal)
        };
        match begin.await {
            Ok(journal) => {
                started.into_iter().for_each(Started::goes_on);
                let lost = Lost::new();
                self.transact(plan, &[], lost, journal, state, output).await
            }
            Err(error) => {
                let started = started.into_iter();
                started.for_each(|started| started.ends(&error));
                Err(error)
            }
        }
    }

    /// Whether the journal holds no campaign that is to be finished.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`].
    pub fn is_at_rest(&self, state: &State) -> Result<bool, Error> {
        Ok(state.journal()?.last()?.is_none_or(|entry| entry.finished))
    }

    /// Whether this campaign was the last one, and every ECU is back on its old image, but for those
    /// that were given up: with the same
    /// grants it is the same release, and would wear the same ECUs again.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`].
    pub fn has_reverted(&self, plan: &Plan, state: &State) -> Result<bool, Error> {
        let last = state.journal()?.last()?;
        Ok(last.is_some_and(|last| {
            let grants = |plan: &Plan| plan.ecus.iter().map(|ecu| ecu.grant.clone()).collect();
            let (now, then): (Vec<_>, Vec<_>) = (grants(plan), grants(&last.plan));
            let given_up = Some(&Record::Done(CampaignState::GivenUp));
            let reverted = Some(&Record::Done(CampaignState::Reverted));
            let end = last.records.last();
            let went_back = end == given_up && !last.records.contains(&Record::Commit);
            (end == reverted || went_back) && last.plan.campaign == plan.campaign && now == then
        }))
    }

    /// What the campaign means for the ECUs as they say they are.
    ///
    /// # Errors
    ///
    /// [`Error::Silent`], [`Error::Mismatch`], [`Error::Link`].
    pub async fn plan(
        &self,
        campaign: &VerifiedCampaign,
        output: &mut Output,
    ) -> Result<(Plan, Explanation), Error> {
        let named = campaign
            .ecus
            .iter()
            .map(|target| self.ecu(target.ecu.as_str()));
        let ecus = named.collect::<Result<Vec<_>, _>>()?;
        let found = self.inventory(&ecus, Job::Inventory, output).await?;
        let keys = campaign.key_set.as_ref();
        let mut planned = Vec::new();
        let mut said = BTreeMap::new();
        for ((target, ecu), found) in campaign.ecus.iter().zip(&ecus).zip(found) {
            let found = found.map_err(|failure| silent(ecu, &failure))?;
            planned.push(validate::plan_ecu(target, keys, ecu.bus.as_str(), &found)?);
            said.insert(ecu.name.clone(), found);
        }
        if !campaign.rules.is_empty() {
            said.extend(self.ask_others(&ecus, output).await?);
        }
        let means = Means {
            battery: self.battery,
            one_at_a_time: self.policy.one_at_a_time,
        };
        let explanation = planner::judge(campaign, &self.vehicle, &said, &mut planned, means)?;
        let plan = Plan {
            campaign: campaign.id.to_string(),
            ecus: planned,
            rxswins: campaign.rxswins.clone(),
            together: self.together(campaign, &said),
        };
        Ok((plan, explanation))
    }

    /// Asks the ECUs whether they may be programmed. One with nothing to do is left alone: a vehicle
    /// that polls may be driving.
    async fn precheck(&self, plan: &Plan, output: &mut Output) -> Result<(), Error> {
        let concerned = plan.ecus.iter().filter(|ecu| !ecu.unchanged);
        let ecus = concerned.map(|ecu| self.ecu(&ecu.name));
        let ecus = ecus.collect::<Result<Vec<_>, _>>()?;
        let ready = self.inventory(&ecus, Job::Precheck, output).await?;
        let mut checked = ecus.iter().zip(ready);
        checked.try_for_each(|(ecu, ready)| match ready {
            Ok(_) => Ok(()),
            Err(failure) => Err(silent(ecu, &failure)),
        })
    }

    fn ecu(&self, name: &str) -> Result<&Ecu, Error> {
        let mut ecus = self.vehicle.ecus().iter();
        ecus.find(|ecu| ecu.name.as_str() == name)
            .ok_or_else(|| Error::Mismatch {
                ecu: name.to_owned(),
                what: "it is to be updated, and the vehicle has no such ECU".into(),
            })
    }

    fn jobs(&self, setups: Vec<EcuSetup>, policy: &flash::Policy) -> Jobs {
        let mut flash = flash::Policy {
            fingerprint: fingerprint(),
            ..policy.clone()
        };
        if self.transport == Transport::Kernel {
            flash.max_request_len = flash.max_request_len.min(uds_client::kernel_pdu_limit());
        }
        let seed = crate::random().random();
        Jobs::new(setups, flash, &uds::client::Config::default(), seed)
    }

    fn bus_index(&self, ecu: &Ecu) -> usize {
        let mut buses = self.vehicle.buses().iter();
        buses.position(|bus| bus.name == ecu.bus).unwrap_or(0)
    }

    /// The report of a campaign that was refused: every ECU is as it was.
    #[must_use]
    pub fn rejected(&self, campaign: Option<String>, error: &Error) -> Report {
        let unknown = || "unknown".to_owned();
        let ecus = self.vehicle.ecus().iter().map(|ecu| EcuReport {
            name: ecu.name.to_string(),
            bus: ecu.bus.to_string(),
            from: unknown(),
            to: unknown(),
            bytes: 0,
            seconds: 0.0,
            state: EcuResult::Unchanged,
            reason: None,
        });
        Report {
            campaign: CampaignReport {
                id: campaign.unwrap_or_default(),
                state: CampaignState::Rejected,
                reason: Some(error.to_string()),
                broken_rules: Vec::new(),
                attack: error.attack(),
            },
            ecus: ecus.collect(),
        }
    }
}

/// Images of the campaign before that an ECU with one update slot may have to get again.
fn kept(plan: &Plan, state: &State) -> Result<Vec<Digest>, Error> {
    let Some(last) = state.journal()?.last()? else {
        return Ok(Vec::new());
    };
    let runs = |image: &PlannedEcu| {
        plan.ecus
            .iter()
            .any(|ecu| ecu.last && ecu.name == image.name && ecu.from.image == image.image)
    };
    let before = last.plan.ecus.iter().filter(|image| runs(image));
    Ok(before.map(|image| image.artifact).collect())
}

async fn fetch(
    source: &Source,
    artifact: &Artifact,
    state: &State,
    output: &mut Output,
) -> Result<PathBuf, Error> {
    let mut progress = |have| {
        output.line(&Line::Download {
            artifact: artifact.path.clone(),
            have,
            of: artifact.length,
        });
    };
    Ok(source
        .artifact(artifact, &state.cache(), &mut progress)
        .await?)
}

fn silent(ecu: &Ecu, failure: &flash::Failure) -> Error {
    let ecu = ecu.name.to_string();
    let what = failure.to_string();
    match failure.what {
        flash::What::Preconditions(_) => Error::NotReady { ecu, what },
        _ => Error::Silent { ecu, what },
    }
}

/// Nothing reaches an ECU that the vehicle does not have any more, so no key is good enough for it.
fn setup(ecu: Option<&Ecu>, bus: usize, target: Option<flash::Target>) -> EcuSetup {
    EcuSetup {
        bus,
        access_key: MacKey::new(ecu.map_or([0; 16], |ecu| ecu.access_key.0)),
        target,
    }
}

/// F15A: today in BCD, and who programmed.
fn fingerprint() -> [u8; 10] {
    let today = OffsetDateTime::now_utc().date();
    let bcd = |value: u8| (value / 10) << 4 | (value % 10);
    let year = u8::try_from(today.year().rem_euclid(100)).unwrap_or(0);
    let mut bytes = *b"\x00\x00\x00CANOPUS";
    bytes[..3].copy_from_slice(&[bcd(year), bcd(today.month().into()), bcd(today.day())]);
    bytes
}
