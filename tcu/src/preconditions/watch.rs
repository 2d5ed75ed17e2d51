//! Listens to the buses, asks ECUs, and tells the desk what is permitted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use campaign::vehicle::Vehicle;
use can_link::{Bus, LinkError, now};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use uds::can::{CanId, Frame};

use super::{Preconditions, Source};
use crate::desk::Desk;
use crate::lines::Lines;

/// Before a bus that cannot be heard is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Frames that wait; older ones say nothing that newer ones do not.
const QUEUE: usize = 64;

/// Follows the preconditions from now on. Nothing is permitted until they are known to hold.
pub fn start(
    machine: Preconditions,
    vehicle: &Vehicle,
    lines: &Arc<Lines>,
    desk: &Arc<Desk>,
) -> JoinHandle<()> {
    let at = now();
    desk.permit(machine.permit(at), machine.told(at), &machine.unmet(at));
    tokio::spawn(watch(machine, vehicle.clone(), lines.clone(), desk.clone()))
}

async fn watch(mut machine: Preconditions, vehicle: Vehicle, lines: Arc<Lines>, desk: Arc<Desk>) {
    let mut wanted: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    let mut ids: BTreeMap<String, Vec<CanId>> = BTreeMap::new();
    for condition in machine.conditions() {
        let Source::Signal { bus, id, .. } = &condition.source else {
            continue;
        };
        if wanted.entry(bus.clone()).or_default().insert(id.raw()) {
            ids.entry(bus.clone()).or_default().push(*id);
        }
    }
    let (frames, mut heard) = mpsc::channel(QUEUE);
    // Never full: each condition has one question at a time.
    let (answers, mut answered) = mpsc::unbounded_channel();
    let mut listeners = JoinSet::new();
    for bus in vehicle.buses() {
        if let Some(ids) = ids.remove(bus.name.as_str()) {
            let (name, link) = (bus.name.to_string(), bus.link.to_string());
            listeners.spawn(listen(name, link, bus.fd, ids, frames.clone()));
        }
    }
    loop {
        machine.handle_timeout(now());
        let at = now();
        let told = machine.told(at);
        desk.permit(machine.permit(at), told, &machine.unmet(at));
        while let Some(question) = machine.poll_question(at) {
            let (lines, answers) = (lines.clone(), answers.clone());
            listeners.spawn(async move {
                let record = lines.read(&question.ecu, question.did).await;
                // Nobody listens any more when this ends.
                let _ = answers.send((question.index, record));
            });
        }
        while listeners.try_join_next().is_some() {}
        let due = machine.poll_timeout(at).map(|due| due.saturating_since(at));
        tokio::select! {
            Some((bus, frame)) = heard.recv() => {
                let (bus, frame): (String, Frame) = (bus, frame);
                machine.handle_frame(now(), &bus, frame.id(), frame.data());
            }
            Some((index, record)) = answered.recv() => {
                let record: Option<Vec<u8>> = record;
                machine.handle_answer(now(), index, record.as_deref());
            }
            () = tokio::time::sleep(due.unwrap_or(AGAIN)) => {}
        }
    }
}

/// Passes the frames of a bus on, and opens it again where it ends. What is not heard goes stale, so
/// nothing is permitted meanwhile.
async fn listen(
    name: String,
    link: String,
    fd: bool,
    ids: Vec<CanId>,
    frames: mpsc::Sender<(String, Frame)>,
) {
    loop {
        if let Err(error) = hear(&name, &link, fd, &ids, &frames).await {
            tracing::warn!(bus = name, %error, "the preconditions are not heard");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn hear(
    name: &str,
    link: &str,
    fd: bool,
    ids: &[CanId],
    frames: &mpsc::Sender<(String, Frame)>,
) -> Result<(), LinkError> {
    let bus = Bus::open(link, fd)?;
    let mut subscription = bus.subscribe(ids)?;
    loop {
        let received = subscription.recv().await?;
        if frames
            .send((name.to_owned(), received.frame))
            .await
            .is_err()
        {
            return Ok(());
        }
    }
}
