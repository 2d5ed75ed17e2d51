//! What must hold whenever the ECU has power, whatever happened before.

use ecu_bootloader::boot::BootReason;
use ecu_bootloader::layout::SlotId;
use ecu_bootloader::state::{SlotState, State};
use ecu_image::ImageDigest;

use crate::bench::Bench;
use crate::images::Image;
use crate::life::Life;

/// What a step must not lose.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// The last sealed image and its slot, where an update slot holds it.
    sealed: Option<(SlotId, ImageDigest)>,
    /// The floor.
    floor: u32,
    /// Whether the factory slot was written.
    provisioned: bool,
}

impl Kept {
    /// What an ECU in this state has to lose; the sealed image only where nothing takes it away.
    #[must_use]
    pub fn of(state: Option<&State>, counter: u32, keeps_sealed: bool) -> Self {
        let sealed = state.and_then(|state| {
            let record = state.slot(state.confirmed);
            let is = record.state == SlotState::Sealed && keeps_sealed;
            is.then_some((state.confirmed, record.digest))
        });
        Self {
            sealed,
            floor: state.map_or(0, |state| state.floor.0).max(counter),
            provisioned: state.is_some(),
        }
    }

    /// Whether there is anything to lose.
    #[must_use]
    pub const fn provisioned(&self) -> bool {
        self.provisioned
    }
}

/// Whether a slot holds exactly this image, with no marginal bit in it.
fn holds(bench: &Bench, slot: SlotId, image: &Image) -> bool {
    let Some(place) = bench.layout().slot(slot) else {
        return false;
    };
    let nor = bench.nor.borrow();
    let equal = |start: u32, expected: &[u8]| {
        let mut bytes = vec![0; expected.len()];
        let settled = nor.is_settled(start..start + expected.len() as u32);
        nor.peek(start, &mut bytes).is_ok() && settled && bytes == expected
    };
    equal(place.payload.address, &image.plaintext)
        // The grant may be another one for the same image.
        && equal(place.metadata.address + 256, &image.packed[..1536])
}

/// The ECU was switched on and has run to its first event.
///
/// # Errors
/// What does not hold.
pub fn check(bench: &mut Bench, life: &Life, kept: &Kept) -> Result<(), String> {
    let violations = bench.nor.borrow().violations();
    if violations != 0 {
        return Err(format!("{violations} violations of the flash's rules"));
    }
    let state = bench.ecu.state().copied();
    let floor = state
        .map_or(0, |state| state.floor.0)
        .max(bench.counter.get());
    if floor < kept.floor {
        return Err(format!("the floor fell from {} to {floor}", kept.floor));
    }
    // Only what is ordered durably is counted: a healthy image may still be reverted.
    if let Some(state) = state
        && bench.counter.get() > state.floor.0
    {
        return Err(format!(
            "the counter went ahead of the order {}",
            state.floor.0
        ));
    }
    if kept.provisioned {
        keeps(bench, life, kept, state.as_ref())?;
    }
    let Some(target) = bench.booted else {
        return answers(bench);
    };
    let image = life.image(target.digest);
    let image = image.ok_or_else(|| format!("a stranger boots: {target:?}"))?;
    if !holds(bench, target.slot, image) {
        return Err(format!("what boots in {:?} is not whole", target.slot));
    }
    let limps = target.reason == BootReason::LimpHome && target.slot == SlotId::Factory;
    if image.counter < floor && !limps {
        return Err(format!("{:?} boots below the floor {floor}", target.slot));
    }
    Ok(())
}

fn keeps(bench: &Bench, life: &Life, kept: &Kept, state: Option<&State>) -> Result<(), String> {
    let state = state.ok_or("the journal is lost")?;
    if !holds(bench, SlotId::Factory, life.factory()) {
        return Err("the factory image was touched".into());
    }
    let Some((slot, digest)) = kept.sealed else {
        return Ok(());
    };
    // Another image proved itself: from now on it is the one that counts.
    let successor = state.confirmed != slot && state.slot(state.confirmed).state.boots();
    let image = life.image(digest).ok_or("the sealed image is a stranger")?;
    if !successor && !holds(bench, slot, image) {
        return Err(format!("the sealed image in {slot:?} is lost"));
    }
    Ok(())
}

fn answers(bench: &mut Bench) -> Result<(), String> {
    match bench.request(&[0x22, 0xFD, 0x01]) {
        Ok(Some(response)) if response.starts_with(&[0x62, 0xFD, 0x01]) => Ok(()),
        other => Err(format!("nothing boots and nothing answers: {other:?}")),
    }
}
