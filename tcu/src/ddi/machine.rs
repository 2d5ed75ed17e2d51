//! The protocol: what to ask, what to say, and what to do about the answers. One request at a time.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Url;

use super::document::{Cancellation, Confirmation, Deployment, DocumentError, Mode, Poll};
use super::feedback::{Execution, Feedback, Finished};
use super::{ActionId, Memory};
use crate::fetch::{Limits, Retry};

/// Feedbacks that wait at most; older ones that say less than an end give way.
const QUEUE_MAX: usize = 16;
/// Reports of which it is remembered that the server has them, so that none is told again while it
/// waits for another backend.
const TOLD_MAX: usize = 64;

/// What is done about a deployment that waits to be confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Confirm {
    /// Confirm it: what the metadata says decides anyway.
    Accept,
    /// Deny it.
    Deny,
    /// Leave it to somebody else.
    Leave,
}

/// Bounds and choices.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Between two polls, where the server does not say.
    pub interval: Duration,
    /// The shortest and the longest that the server may ask for.
    pub bounds: (Duration, Duration),
    /// What is done about a deployment that waits to be confirmed.
    pub confirm: Confirm,
    /// How often and how fast a request is repeated.
    pub limits: Limits,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(300),
            bounds: (Duration::from_secs(10), Duration::from_secs(86_400)),
            confirm: Confirm::Accept,
            limits: Limits::default(),
        }
    }
}

/// Below which resource of the vehicle a feedback is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A deployment.
    Deployment,
    /// A cancellation.
    Cancellation,
}

/// A request to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `GET` the vehicle's base resource.
    Poll,
    /// `GET` a deployment.
    Deployment(Url),
    /// `GET` a cancellation.
    Cancellation(Url),
    /// `GET` a deployment that waits to be confirmed.
    Confirmation(Url),
    /// `PUT` the vehicle's attributes.
    ConfigData(Url),
    /// `POST` how an action stands.
    Feedback(Resource, Feedback),
    /// `POST` whether a deployment is confirmed.
    Confirm(ActionId, bool),
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was answered with 200 and a document, which may be empty.
    Document(Vec<u8>),
    /// The server does not have what was asked for, or is done with it: 404, 409 and 410.
    Gone,
    /// It will not be answered: not authorised, or another status that stays.
    Refused(String),
    /// It may be answered another time, not before the server's `Retry-After`.
    Failed(Option<Duration>),
}

/// What became of a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Every ECU runs what the campaign names, sealed.
    Completed,
    /// Refused or reverted: every ECU is as it was.
    Failed(String),
    /// Not at an end: it is tried again after the next poll. `begun` says that ECUs were touched, so
    /// that it is for the transaction to say how it ends.
    Unfinished {
        /// Whether ECUs were touched.
        begun: bool,
        /// Why, for people.
        why: String,
    },
    /// Everything is downloaded and verified; no ECU was touched.
    Prepared,
    /// It was given up before an ECU was touched.
    Abandoned,
}

/// What the driver shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Send this and say what became of it.
    Send(Request),
    /// Store this, then go on: what follows relies on it.
    Remember(Memory),
    /// Install what the metadata says, with the images of this deployment.
    Install(Deployment),
    /// Go on with the campaign in the journal.
    Resume,
    /// Download and verify it, and no more.
    Prepare(Deployment),
    /// The server has this report.
    Delivered(String),
    /// Give it up: at once where it has not begun, else as the transaction allows.
    Abandon,
    /// Nothing before this time, unless something happens.
    Wait(Duration),
}

/// How far the vehicle is with the action that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Nothing runs.
    Idle,
    /// It is downloaded and verified.
    Prepared,
    /// Nothing runs, but ECUs were touched: the journal has a campaign that has not ended.
    Begun,
    /// An order runs.
    Runs,
}

#[derive(Debug)]
struct Active {
    action: ActionId,
    work: Work,
    /// The cancellation that wants it to end.
    cancelled_by: Option<ActionId>,
}

/// The protocol of one vehicle with its server. Time is the caller's, from any origin.
#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    server: Url,
    memory: Memory,
    remembered: bool,
    active: Option<Active>,
    /// A campaign runs, of whatever action.
    runs: bool,
    /// What there is to do besides requests, oldest first.
    orders: VecDeque<Order>,
    queue: VecDeque<Request>,
    /// Reports that the server has, the newest first.
    told: VecDeque<String>,
    in_flight: Option<Request>,
    next_poll: Duration,
    /// No request before this time.
    quiet_until: Duration,
    retry: Retry,
    random: StdRng,
}

impl Machine {
    /// Of a vehicle that remembers `memory`. `resumes` says that the journal has a campaign that has
    /// not ended; its fate is reported under the action that is remembered, if one is.
    #[must_use]
    pub fn new(
        server: Url,
        policy: Policy,
        memory: Memory,
        resumes: bool,
        seed: u64,
        now: Duration,
    ) -> Self {
        let retry = Retry::new(policy.limits.clone(), seed);
        let action = memory.action.clone().filter(|_| resumes);
        let mut machine = Self {
            policy,
            server,
            remembered: true,
            active: action.map(|action| Active {
                action,
                work: Work::Runs,
                cancelled_by: None,
            }),
            memory,
            runs: resumes,
            orders: resumes.then_some(Order::Resume).into_iter().collect(),
            queue: VecDeque::new(),
            told: VecDeque::new(),
            in_flight: None,
            next_poll: now,
            quiet_until: now,
            retry,
            random: StdRng::seed_from_u64(seed),
        };
        if let Some(active) = &machine.active {
            let resumed = Feedback::new(&active.action, Execution::Resumed, Finished::None, []);
            machine.tell(Resource::Deployment, resumed);
        }
        machine.tell_end_again();
        machine
    }

    /// What to do now. [`Order::Send`] is given again only after its answer.
    pub fn next(&mut self, now: Duration) -> Order {
        if !self.remembered {
            self.remembered = true;
            return Order::Remember(self.memory.clone());
        }
        if let Some(order) = self.orders.pop_front() {
            return order;
        }
        if self.in_flight.is_some() {
            return Order::Wait(Duration::MAX);
        }
        if now < self.quiet_until {
            return Order::Wait(self.quiet_until);
        }
        if self.queue.is_empty() && now < self.next_poll {
            return Order::Wait(self.next_poll);
        }
        let request = self.queue.pop_front().unwrap_or(Request::Poll);
        self.in_flight = Some(request.clone());
        Order::Send(request)
    }

    /// A request was answered.
    pub fn on_answer(&mut self, now: Duration, answer: Answer) {
        let Some(request) = self.in_flight.take() else {
            return;
        };
        if let Answer::Failed(asked) = answer {
            return self.on_failure(now, request, asked);
        }
        self.retry = Retry::new(self.policy.limits.clone(), self.random.random());
        if let Answer::Refused(why) = &answer {
            tracing::warn!(%why, ?request, "the server refuses");
        }
        let document = match answer {
            Answer::Document(document) => Some(document),
            _ => None,
        };
        match request {
            Request::Poll => self.on_poll(now, document),
            Request::Feedback(Resource::Deployment, feedback) if feedback.is_final() => {
                self.on_end_confirmed(&feedback);
            }
            Request::Feedback(_, feedback) => {
                if let Some(id) = feedback.report {
                    self.told.truncate(TOLD_MAX);
                    self.told.push_front(id.clone());
                    self.orders.push_back(Order::Delivered(id));
                }
            }
            Request::ConfigData(_) | Request::Confirm(..) => {}
            Request::Deployment(_) => {
                self.read(now, document, Deployment::read, Self::on_deployment)
            }
            Request::Cancellation(_) => {
                self.read(now, document, Cancellation::read, Self::on_cancellation);
            }
            Request::Confirmation(_) => {
                self.read(now, document, Confirmation::read, Self::on_confirmation);
            }
        }
    }

    /// A report is there: `done` of `of` ECUs are through with the campaign. It is told until an
    /// answer leads to [`Order::Delivered`]; one that is told already is not told twice.
    pub fn on_report(&mut self, id: &str, what: &str, done: usize, of: usize) {
        let active = self.active.as_ref().map(|active| &active.action);
        let ended = self.memory.ended.as_ref().map(|ended| &ended.id);
        let Some(action) = active
            .or(ended)
            .filter(|_| !self.told.iter().any(|told| told == id))
        else {
            return;
        };
        let details = [what.to_owned(), format!("report {id}")];
        let feedback = Feedback::new(action, Execution::Proceeding, Finished::None, details);
        let mut feedback = feedback.with_progress(done, of);
        feedback.report = Some(id.to_owned());
        self.tell(Resource::Deployment, feedback);
    }

    /// The campaign, or its preparation, has come to an end for now.
    pub fn on_fate(&mut self, fate: Fate) {
        self.runs = false;
        self.orders.retain(|order| *order != Order::Abandon);
        let Some(active) = self.active.as_mut() else {
            return;
        };
        active.work = match fate {
            Fate::Prepared => Work::Prepared,
            Fate::Unfinished { begun: true, .. } => Work::Begun,
            _ => Work::Idle,
        };
        let (action, cancelled_by) = (active.action.clone(), active.cancelled_by.take());
        let say = |execution, why| Feedback::new(&action, execution, Finished::None, why);
        match (fate, cancelled_by) {
            (Fate::Completed, cancel) => {
                if let Some(cancel) = cancel {
                    let why = ["it was committed already".to_owned()];
                    self.refuse(&cancel, why);
                }
                self.end(Finished::Success, []);
            }
            (Fate::Failed(why), None) => self.end(Finished::Failure, [why]),
            (Fate::Unfinished { begun: true, why }, Some(cancel)) => {
                // It may still go either way.
                self.refuse(&cancel, [why]);
            }
            (_, Some(cancel)) => self.give_up(&cancel),
            (Fate::Abandoned, None) => self.forget(),
            (Fate::Unfinished { why, .. }, None) => {
                self.tell(Resource::Deployment, say(Execution::Proceeding, vec![why]));
            }
            (Fate::Prepared, None) => {
                self.tell(Resource::Deployment, say(Execution::Downloaded, vec![]));
            }
        }
    }

    fn on_failure(&mut self, now: Duration, request: Request, asked: Option<Duration>) {
        let pause = self.retry.failed(0, asked);
        // A poll or a document will come again; what the server was to be told may not get lost.
        if matches!(request, Request::Feedback(..) | Request::Confirm(..)) {
            self.queue.push_front(request);
        } else {
            self.next_poll = now;
        }
        let pause = pause.unwrap_or_else(|| {
            self.retry = Retry::new(self.policy.limits.clone(), self.random.random());
            self.jittered(self.policy.interval)
        });
        self.quiet_until = now.saturating_add(pause);
    }

    fn on_poll(&mut self, now: Duration, document: Option<Vec<u8>>) {
        self.next_poll = now.saturating_add(self.jittered(self.policy.interval));
        let Some(poll) = document.map(|bytes| Poll::read(&bytes, &self.server)) else {
            return;
        };
        let poll = match poll {
            Ok(poll) => poll,
            Err(error) => return refuse_document(&error),
        };
        let (shortest, longest) = self.policy.bounds;
        let sleep = poll.sleep.unwrap_or(self.policy.interval);
        let sleep = self.jittered(sleep.clamp(shortest, longest));
        self.next_poll = now.saturating_add(sleep);
        let requests = [
            poll.config_data.map(Request::ConfigData),
            poll.cancellation.map(Request::Cancellation),
            poll.confirmation.map(Request::Confirmation),
            poll.deployment.map(Request::Deployment),
        ];
        self.queue.extend(requests.into_iter().flatten());
    }

    fn read<T>(
        &mut self,
        now: Duration,
        document: Option<Vec<u8>>,
        read: fn(&[u8]) -> Result<T, DocumentError>,
        then: fn(&mut Self, Duration, T),
    ) {
        match document.map(|bytes| read(&bytes)) {
            Some(Ok(value)) => then(self, now, value),
            Some(Err(error)) => refuse_document(&error),
            None => {}
        }
    }

    fn on_deployment(&mut self, _now: Duration, deployment: Deployment) {
        let ended = self.memory.ended.as_ref();
        if ended.is_some_and(|ended| ended.id == deployment.action) {
            // It has missed the end.
            self.memory.confirmed = false;
            return self.tell_end_again();
        }
        match &self.active {
            // One at a time: the server offers it again.
            _ if self.runs => return,
            Some(active) if active.action != deployment.action => match active.work {
                Work::Runs => return,
                Work::Begun => return self.start(Order::Resume),
                Work::Idle | Work::Prepared => self.adopt(&deployment.action),
            },
            Some(_) => {}
            None => self.adopt(&deployment.action),
        }
        let Some(active) = &self.active else {
            return;
        };
        let install = deployment.update != Mode::Skip;
        let prepare = deployment.download != Mode::Skip;
        match active.work {
            Work::Begun => self.start(Order::Resume),
            Work::Idle | Work::Prepared if install => {
                self.start(Order::Install(deployment));
            }
            Work::Idle if prepare => {
                self.start(Order::Prepare(deployment));
            }
            _ => {}
        }
    }

    fn start(&mut self, order: Order) {
        if let Some(active) = self.active.as_mut() {
            active.work = Work::Runs;
        }
        self.runs = true;
        self.orders.push_back(order);
    }

    /// A new action, of which nothing is done.
    fn adopt(&mut self, action: &ActionId) {
        self.memory.action = Some(action.clone());
        self.remembered = false;
        self.active = Some(Active {
            action: action.clone(),
            work: Work::Idle,
            cancelled_by: None,
        });
        let noticed = Feedback::new(action, Execution::Scheduled, Finished::None, []);
        self.tell(Resource::Deployment, noticed);
    }

    fn on_cancellation(&mut self, _now: Duration, cancellation: Cancellation) {
        let ended = self.memory.ended.as_ref();
        if ended.is_some_and(|ended| ended.id == cancellation.stops) {
            let why = ["the deployment has ended".to_owned()];
            self.refuse(&cancellation.action, why);
            self.memory.confirmed = false;
            return self.tell_end_again();
        }
        match self.active.as_mut() {
            Some(active) if active.action == cancellation.stops => match active.work {
                Work::Runs if active.cancelled_by.is_some() => {}
                Work::Runs => {
                    active.cancelled_by = Some(cancellation.action);
                    self.orders.push_back(Order::Abandon);
                }
                Work::Begun => {
                    active.cancelled_by = Some(cancellation.action);
                    self.start(Order::Resume);
                    self.orders.push_back(Order::Abandon);
                }
                Work::Idle | Work::Prepared => self.give_up(&cancellation.action),
            },
            // Nothing of it is on the vehicle.
            _ => self.accept(&cancellation.action),
        }
    }

    fn on_confirmation(&mut self, now: Duration, confirmation: Confirmation) {
        let confirmed = match self.policy.confirm {
            Confirm::Accept => true,
            Confirm::Deny => false,
            Confirm::Leave => return,
        };
        self.queue
            .push_back(Request::Confirm(confirmation.action, confirmed));
        // The deployment follows at once, but a server that never stops asking is asked no faster.
        self.next_poll = self.next_poll.min(now.saturating_add(self.policy.bounds.0));
    }

    /// The end of the active action.
    fn end(&mut self, finished: Finished, details: impl IntoIterator<Item = String>) {
        let Some(active) = self.active.take() else {
            return;
        };
        let last = Feedback::new(&active.action, Execution::Closed, finished, details);
        self.memory = Memory {
            action: None,
            ended: Some(last),
            confirmed: false,
        };
        self.remembered = false;
        self.tell_end_again();
    }

    fn on_end_confirmed(&mut self, feedback: &Feedback) {
        if self.memory.ended.as_ref() == Some(feedback) {
            self.memory.confirmed = true;
            self.remembered = false;
        }
    }

    fn tell_end_again(&mut self) {
        let ended = self.memory.ended.clone().filter(|_| !self.memory.confirmed);
        if let Some(ended) = ended {
            self.tell(Resource::Deployment, ended);
        }
    }

    /// The active action ends as the cancellation wants.
    fn give_up(&mut self, cancellation: &ActionId) {
        self.forget();
        self.accept(cancellation);
    }

    fn forget(&mut self) {
        self.active = None;
        self.memory.action = None;
        self.remembered = false;
    }

    fn accept(&mut self, cancellation: &ActionId) {
        let done = Feedback::new(cancellation, Execution::Closed, Finished::Success, []);
        self.tell(Resource::Cancellation, done);
    }

    fn refuse(&mut self, cancellation: &ActionId, why: impl IntoIterator<Item = String>) {
        let no = Feedback::new(cancellation, Execution::Rejected, Finished::None, why);
        self.tell(Resource::Cancellation, no);
    }

    /// Queues a feedback. Of those that are not final only the newest few are kept: a server that
    /// is away for hours need not know every step.
    fn tell(&mut self, resource: Resource, feedback: Feedback) {
        let request = Request::Feedback(resource, feedback);
        if self.queue.contains(&request) || self.in_flight.as_ref() == Some(&request) {
            return;
        }
        if self.queue.len() >= QUEUE_MAX {
            let lesser = |request: &Request| matches!(request, Request::Feedback(_, feedback) if !feedback.is_final());
            if let Some(oldest) = self.queue.iter().position(lesser) {
                self.queue.remove(oldest);
            }
        }
        self.queue.push_back(request);
    }

    /// Up to a quarter longer, so that a fleet does not poll as one.
    fn jittered(&mut self, interval: Duration) -> Duration {
        interval.saturating_add(interval.mul_f64(self.random.random_range(0.0..0.25)))
    }
}

fn refuse_document(error: &DocumentError) {
    tracing::warn!(%error, "a document of the server is refused");
}
