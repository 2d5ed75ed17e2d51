//! What must hold, whatever was interrupted.

use ecu_bootloader::state::{SlotState, State};
use ecu_image::ImageDigest;
use tcu::engine::{CampaignState, EcuResult, Phase, Record};

use crate::vehicle::{Backend, World};

/// The images of a campaign.
#[derive(Debug, Clone)]
pub struct Images {
    /// What the ECUs ran before.
    pub old: ImageDigest,
    /// Its version.
    pub old_version: String,
    /// What they shall run.
    pub new: ImageDigest,
    /// Its version.
    pub new_version: String,
}

/// The campaign has ended: once every ECU answers.
///
/// # Errors
/// What does not hold.
pub fn check_end(world: &mut World, images: &Images, state: CampaignState) -> Result<(), String> {
    world.let_return();
    let records = world.records();
    let committed = records.contains(&Record::Commit);
    let new = match state {
        CampaignState::Completed => true,
        CampaignState::Reverted => false,
        other => return Err(format!("it ended {other:?}")),
    };
    if committed != new {
        return Err(format!("it ended {state:?}, committed: {committed}"));
    }
    let version = if new {
        &images.new_version
    } else {
        &images.old_version
    };
    for (ecu, found) in world.versions().into_iter().enumerate() {
        if found.as_ref() != Some(version) {
            return Err(format!("{state:?}, and ECU {ecu} runs {found:?}"));
        }
    }
    for ecu in 0..world.len() {
        let state = world.ecu_state(ecu);
        let state = state.ok_or_else(|| format!("ECU {ecu} lost its journal"))?;
        check_ecu(&state, images, new).map_err(|what| format!("ECU {ecu}: {what}"))?;
        if world.flash_violations(ecu) != 0 {
            return Err(format!("ECU {ecu} broke the rules of its flash"));
        }
    }
    let backend = world.backend().ok_or("no backend")?;
    check_reports(backend, &records, state)
}

/// All the new image sealed, or all the old one and nothing of the new one that could be tried.
fn check_ecu(state: &State, images: &Images, new: bool) -> Result<(), String> {
    let confirmed = state.slot(state.confirmed);
    for slot in [&state.a, &state.b] {
        if matches!(
            slot.state,
            SlotState::Trial | SlotState::Staged | SlotState::Receiving
        ) {
            return Err(format!("a slot is left {:?}", slot.state));
        }
    }
    if new && (confirmed.digest, confirmed.state) != (images.new, SlotState::Sealed) {
        return Err(format!(
            "{:?} is confirmed, {:?}",
            state.confirmed, confirmed.state
        ));
    }
    if !new && confirmed.digest == images.new {
        return Err(format!("the new image is left {:?}", confirmed.state));
    }
    Ok(())
}

/// The backend has each phase of the journal once and in order, and the last one is true.
fn check_reports(
    backend: &Backend,
    records: &[Record],
    state: CampaignState,
) -> Result<(), String> {
    let phases: Vec<Phase> = records.iter().filter_map(Record::reported_as).collect();
    let reported = backend.phases();
    if phases != reported {
        return Err(format!("journal: {phases:?}, reported: {reported:?}"));
    }
    let last = backend.last().ok_or("nothing was reported")?;
    let expected = match state {
        CampaignState::Completed => &[EcuResult::Sealed][..],
        _ => &[EcuResult::Reverted, EcuResult::Failed, EcuResult::Unchanged],
    };
    let report = &last.report;
    let untrue = report
        .ecus
        .iter()
        .find(|ecu| !expected.contains(&ecu.state));
    match untrue {
        Some(ecu) => Err(format!("{state:?}, and the report says {ecu:?}")),
        None if report.campaign.state != state => Err(format!("reported: {report:?}")),
        None => Ok(()),
    }
}

/// At any instant: no ECU is sealed on the new image before COMMIT is durable.
///
/// # Errors
/// What does not hold.
pub fn check_now(world: &World, images: &Images) -> Result<(), String> {
    let records = world.records();
    let committed = records.contains(&Record::Commit);
    for ecu in 0..world.len() {
        let Some(state) = world.ecu_state(ecu) else {
            continue;
        };
        let sealed = |slot: SlotState, digest| slot == SlotState::Sealed && digest == images.new;
        if !committed
            && [state.a, state.b]
                .iter()
                .any(|slot| sealed(slot.state, slot.digest))
        {
            return Err(format!("ECU {ecu} is sealed before COMMIT"));
        }
    }
    Ok(())
}
