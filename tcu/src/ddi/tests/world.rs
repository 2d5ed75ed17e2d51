//! A server in memory and a vehicle that does as ordered, on a virtual clock.

use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};

use super::super::{
    Answer, Execution, Fate, Feedback, Machine, Memory, Order, Policy, Request, Resource,
};
use crate::fetch::Limits;

pub(super) const ROOT: &str = "https://ddi.example/default/controller/v1/VIN1";

pub(super) fn root() -> Url {
    Url::parse(ROOT).unwrap()
}

/// Repeats after a second, three times.
pub(super) fn policy() -> Policy {
    Policy {
        limits: Limits {
            attempts: 4,
            backoff: Duration::from_secs(1),
            ..Limits::default()
        },
        ..Policy::default()
    }
}

/// A deployment of two chunks.
pub(super) fn deployment(id: &str, update: &str) -> Value {
    let chunk = |part: &str, byte: &str| {
        json!({"part": part, "name": part, "version": "2.0.0", "artifacts": [{
            "filename": format!("{part}.img"), "size": 5,
            "hashes": {"sha1": "00", "sha256": byte.repeat(32)},
            "_links": {"download": {"href": format!("https://cdn.example/{part}.img")}}}]})
    };
    json!({"id": id, "deployment": {"download": "forced", "update": update,
        "chunks": [chunk("brake", "11"), chunk("door", "22")]}})
}

/// What the server has for the vehicle, and what it was told.
#[derive(Default)]
pub(super) struct Server {
    pub(super) deployment: Option<Value>,
    /// The ids of a cancellation and of what it stops.
    pub(super) cancellation: Option<(String, String)>,
    pub(super) confirmation: Option<String>,
    pub(super) wants_data: bool,
    pub(super) away: bool,
    /// It wants to hear nothing: not authorised, for now.
    pub(super) deaf: bool,
    /// It breaks off whenever it is told this.
    pub(super) chokes_on: Option<Execution>,
    pub(super) heard: Vec<(Resource, Feedback)>,
    pub(super) polls: usize,
    pub(super) requests: usize,
}

impl Server {
    fn poll(&self) -> Value {
        let link = |what: String| json!({"href": format!("{ROOT}/{what}")});
        let mut links = serde_json::Map::new();
        if let Some(deployment) = &self.deployment {
            let id = deployment["id"].as_str().unwrap();
            links.insert(
                "deploymentBase".into(),
                link(format!("deploymentBase/{id}?c=1")),
            );
        }
        if let Some((id, _)) = &self.cancellation {
            links.insert("cancelAction".into(), link(format!("cancelAction/{id}")));
        }
        if let Some(id) = &self.confirmation {
            links.insert(
                "confirmationBase".into(),
                link(format!("confirmationBase/{id}")),
            );
        }
        if self.wants_data {
            links.insert("configData".into(), link("configData".into()));
        }
        json!({"config": {"polling": {"sleep": "00:01:00"}}, "_links": links})
    }

    pub(super) fn answer(&mut self, request: Request) -> Answer {
        self.requests += 1;
        if self.away {
            return Answer::Failed(None);
        }
        let document = |value: &Value| Answer::Document(value.to_string().into_bytes());
        let nothing = || Answer::Document(Vec::new());
        match request {
            Request::Poll => {
                self.polls += 1;
                document(&self.poll())
            }
            Request::Deployment(_) => self.deployment.as_ref().map_or(Answer::Gone, document),
            Request::Cancellation(_) => match &self.cancellation {
                Some((id, stop)) => document(&json!({"id": id, "cancelAction": {"stopId": stop}})),
                None => Answer::Gone,
            },
            Request::Confirmation(_) => match &self.confirmation {
                Some(id) => document(&json!({"id": id, "confirmation": {"chunks": 7}})),
                None => Answer::Gone,
            },
            Request::ConfigData(_) => {
                self.wants_data = false;
                nothing()
            }
            Request::Confirm(_, yes) => {
                self.confirmation = None;
                self.deployment = yes.then(|| deployment("7", "forced"));
                nothing()
            }
            Request::Feedback(..) if self.deaf => Answer::Refused("401".into()),
            Request::Feedback(_, feedback) if self.chokes_on == Some(feedback.status.execution) => {
                Answer::Failed(None)
            }
            Request::Feedback(resource, feedback) => {
                self.on_feedback(resource, &feedback);
                self.heard.push((resource, feedback));
                nothing()
            }
        }
    }

    /// As hawkBit does: what is closed is no longer offered.
    fn on_feedback(&mut self, resource: Resource, feedback: &Feedback) {
        let rejected = feedback.status.execution == super::super::Execution::Rejected;
        let offered = |id: &str| self.deployment.as_ref().is_some_and(|it| it["id"] == id);
        match resource {
            Resource::Deployment if feedback.is_final() && offered(feedback.id.as_str()) => {
                self.deployment = None;
            }
            Resource::Cancellation if feedback.is_final() => {
                let stopped = self.cancellation.take();
                if stopped.is_some_and(|(_, stop)| offered(&stop)) {
                    self.deployment = None;
                }
            }
            Resource::Cancellation if rejected => self.cancellation = None,
            _ => {}
        }
    }
}

pub(super) struct World {
    pub(super) now: Duration,
    pub(super) machine: Machine,
    pub(super) server: Server,
    pub(super) memory: Memory,
    /// Orders to the vehicle, in short.
    pub(super) orders: Vec<String>,
}

impl World {
    pub(super) fn new(server: Server) -> Self {
        Self::restarted(server, Memory::default(), false)
    }

    pub(super) fn restarted(server: Server, memory: Memory, resumes: bool) -> Self {
        let resumes = resumes.then_some("spring");
        let machine = Machine::new(root(), policy(), memory.clone(), resumes, 1, Duration::ZERO);
        Self {
            now: Duration::ZERO,
            machine,
            server,
            memory,
            orders: Vec::new(),
        }
    }

    /// Until the virtual clock has advanced by so many seconds.
    pub(super) fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        for _ in 0..100_000 {
            match self.machine.next(self.now) {
                Order::Send(request) => {
                    let answer = self.server.answer(request);
                    self.machine.on_answer(self.now, answer);
                }
                Order::Remember(memory) => self.memory = memory,
                Order::Install(what) => self.orders.push(format!("install {}", what.action)),
                Order::Prepare(what) => self.orders.push(format!("prepare {}", what.action)),
                Order::Resume => self.orders.push("resume".into()),
                Order::Delivered(id) => self.orders.push(format!("delivered {id}")),
                Order::Abandon => self.orders.push("abandon".into()),
                Order::Wait(until) if until > end => {
                    self.now = end;
                    return;
                }
                Order::Wait(until) => self.now = until,
            }
        }
        panic!("it never waits");
    }

    /// ECUs are touched.
    pub(super) fn begin(&mut self) {
        self.machine.on_begun("spring");
        self.run(1);
    }

    pub(super) fn fate(&mut self, fate: Fate) {
        let installs = self
            .orders
            .last()
            .is_some_and(|it| it.starts_with("install"));
        if installs && matches!(fate, Fate::Unfinished { begun: true, .. }) {
            self.begin();
        }
        self.machine.on_fate(self.now, fate);
        self.run(1);
    }

    /// What was said, in short.
    pub(super) fn said(&self) -> Vec<String> {
        let short = |(resource, feedback): &(Resource, Feedback)| {
            let status = &feedback.status;
            let (execution, finished) = (status.execution, status.result.finished);
            format!("{resource:?} {} {execution:?} {finished:?}", feedback.id)
        };
        self.server.heard.iter().map(short).collect()
    }
}
