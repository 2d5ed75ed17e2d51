//! Who talks to which ECU. An ECU has one request identifier: two who use it at once would take each
//! other's responses. So a question beside the jobs goes through the run that drives the ECU, and over a
//! connection of its own only where there is none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use campaign::vehicle::{Ecu, Vehicle};
use tokio::sync::{mpsc, oneshot};
use uds_client::{Connection, Options, Response};

use crate::link::{Transport, connect_alone};

/// The longest time that an answer is awaited.
const ANSWER: Duration = Duration::from_secs(2);
/// Questions that wait for a run.
const QUEUE: usize = 16;

/// A data identifier that a run is to ask for.
#[derive(Debug)]
pub struct Question {
    /// The ECU, by its index in the run.
    pub ecu: usize,
    /// The identifier.
    pub did: u16,
    /// Where the record goes; dropped where the ECU is not asked or does not answer.
    pub reply: oneshot::Sender<Vec<u8>>,
}

type Driven = HashMap<String, (usize, mpsc::Sender<Question>)>;

/// The lines to a vehicle's ECUs.
#[derive(Debug)]
pub struct Lines {
    vehicle: Vehicle,
    transport: Transport,
    driven: Mutex<Driven>,
    /// Held by those who ask beside any run: none begins meanwhile.
    alone: tokio::sync::RwLock<()>,
    /// One question to an ECU at a time.
    turns: HashMap<String, tokio::sync::Mutex<()>>,
}

/// A run drives these ECUs until this is dropped.
#[derive(Debug)]
pub struct Held {
    lines: Arc<Lines>,
    names: Vec<String>,
    /// What it is to ask.
    pub asked: mpsc::Receiver<Question>,
}

impl Lines {
    /// Nobody talks to any.
    #[must_use]
    pub fn new(vehicle: Vehicle, transport: Transport) -> Arc<Self> {
        let names = vehicle.ecus().iter().map(|ecu| ecu.name.to_string());
        let turns = names.map(|name| (name, tokio::sync::Mutex::default()));
        Arc::new(Self {
            turns: turns.collect(),
            vehicle,
            transport,
            driven: Mutex::default(),
            alone: tokio::sync::RwLock::new(()),
        })
    }

    fn driven(&self) -> MutexGuard<'_, Driven> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run is about to open its connections to these ECUs, in its order.
    pub async fn hold(self: &Arc<Self>, names: Vec<String>) -> Held {
        let _alone = self.alone.write().await;
        let (questions, asked) = mpsc::channel(QUEUE);
        let mut driven = self.driven();
        for (index, name) in names.iter().enumerate() {
            driven.insert(name.clone(), (index, questions.clone()));
        }
        drop(driven);
        Held {
            lines: self.clone(),
            names,
            asked,
        }
    }

    /// The record of a data identifier, without a change of session; `None` where a job runs on the ECU,
    /// or it does not answer well in time.
    pub async fn read(&self, ecu: &str, did: u16) -> Option<Vec<u8>> {
        let _turn = self.turns.get(ecu)?.lock().await;
        let alone = self.alone.read().await;
        let run = self.driven().get(ecu).cloned();
        let record = async {
            let Some((ecu, run)) = run else {
                return self.ask(ecu, did).await;
            };
            drop(alone);
            let (reply, record) = oneshot::channel();
            run.try_send(Question { ecu, did, reply }).ok()?;
            record.await.ok()
        };
        tokio::time::timeout(ANSWER, record).await.ok()?
    }

    async fn ask(&self, name: &str, did: u16) -> Option<Vec<u8>> {
        let mut ecus = self.vehicle.ecus().iter();
        let ecu: &Ecu = ecus.find(|ecu| ecu.name.as_str() == name)?;
        let link = connect_alone(&self.vehicle, ecu, self.transport);
        let link = link
            .inspect_err(|error| tracing::debug!(%error, name, "not asked"))
            .ok()?;
        let connection = Connection::new(link, uds_client::Config::default());
        let [high, low] = did.to_be_bytes();
        let request = [0x22, high, low];
        let asked = connection.exchange(&request, Options::default());
        let response = asked
            .await
            .inspect_err(|error| tracing::debug!(%error, name, "no answer"));
        response
            .ok()
            .as_ref()
            .map(Response::pdu)?
            .strip_prefix(&[0x62, high, low])
            .map(<[u8]>::to_vec)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut driven = self.lines.driven();
        for name in &self.names {
            driven.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VEHICLE: &str = include_str!("../tests/data/vehicle.json");

    fn lines() -> (Arc<Lines>, String) {
        let vehicle = Vehicle::from_json(VEHICLE.as_bytes()).unwrap();
        let name = vehicle.ecus()[0].name.to_string();
        (Lines::new(vehicle, Transport::Isotp), name)
    }

    #[tokio::test]
    async fn a_run_asks_the_ecus_that_it_drives_and_nobody_else_does() {
        let (lines, name) = lines();
        let mut held = lines.hold(vec!["other".into(), name.clone()]).await;
        let read = lines.read(&name, 0xF40D);
        let run = async {
            let question = held.asked.recv().await.unwrap();
            assert_eq!((question.ecu, question.did), (1, 0xF40D));
            question.reply.send(vec![1, 2]).unwrap();
        };
        let (record, ()) = tokio::join!(read, run);
        assert_eq!(record, Some(vec![1, 2]));
        // A job runs: the question is dropped.
        let refused = async { drop(held.asked.recv().await.unwrap()) };
        let (record, ()) = tokio::join!(lines.read(&name, 0xF40D), refused);
        assert_eq!(record, None);
        // Without a run it has a line of its own, which leads nowhere here.
        drop(held);
        assert!(lines.driven().is_empty());
        assert_eq!(lines.read(&name, 0xF40D).await, None);
        assert_eq!(lines.read("nobody", 0xF40D).await, None);
    }

    /// Two data identifiers of one ECU are asked for one after the other, neither is left out.
    #[tokio::test]
    async fn questions_to_one_ecu_wait_for_each_other() {
        let (lines, name) = lines();
        let mut held = lines.hold(vec![name.clone()]).await;
        let both = async { tokio::join!(lines.read(&name, 1), lines.read(&name, 2)) };
        let run = async {
            for did in [1, 2] {
                let question = held.asked.recv().await.unwrap();
                assert_eq!(question.did, did);
                assert!(held.asked.try_recv().is_err(), "one at a time");
                question.reply.send(vec![0]).unwrap();
            }
        };
        let (records, ()) = tokio::join!(both, run);
        assert_eq!(records, (Some(vec![0]), Some(vec![0])));
    }
}
