//! The protocol: what to ask, what to say, and what to do about the answers. One request at a time.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Url;

use super::document::{Cancellation, Confirmation, Deployment, DocumentError, Mode, Poll};
use super::feedback::{Execution, Feedback, Finished};
use super::protocol::{Answer, Confirm, Fate, Order, Policy, Request, Resource};
use super::{ActionId, Memory};
use crate::fetch::Retry;

/// Feedbacks that wait at most; older ones that say less than an end give way.
const QUEUE_MAX: usize = 16;
/// Reports of which it is remembered that the server has them, so that none is told again while it
/// waits for another backend.
const TOLD_MAX: usize = 64;

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
    /// The last thing that was said of it while it is not at an end: a server keeps what it is told,
    /// and takes only so much.
    said: Option<Feedback>,
}

impl Active {
    const fn new(action: ActionId, work: Work) -> Self {
        Self {
            action,
            work,
            cancelled_by: None,
            said: None,
        }
    }
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
    /// When the campaign that the journal holds and that is not at an end goes on by itself, whether
    /// an action stands for it or not.
    resume_at: Option<Duration>,
    /// What there is to do besides requests, oldest first.
    orders: VecDeque<Order>,
    queue: VecDeque<Request>,
    /// Reports that the server has, the newest first.
    told: VecDeque<String>,
    /// What the server does not take now: said again once it has answered a poll.
    later: VecDeque<Request>,
    in_flight: Option<Request>,
    next_poll: Duration,
    /// No request before this time.
    quiet_until: Duration,
    retry: Retry,
    random: StdRng,
}

impl Machine {
    /// Of a vehicle that remembers `memory`. `resumes` is the campaign in the journal that has not
    /// ended; its fate is reported under the action that is remembered, if it was begun under that.
    #[must_use]
    pub fn new(
        server: Url,
        policy: Policy,
        memory: Memory,
        resumes: Option<&str>,
        seed: u64,
        now: Duration,
    ) -> Self {
        let retry = Retry::new(policy.limits.clone(), seed);
        let own = resumes.is_some() && memory.campaign.as_deref() == resumes;
        let action = memory.action.clone().filter(|_| own);
        let mut machine = Self {
            policy,
            server,
            remembered: true,
            active: action.map(|action| Active::new(action, Work::Begun)),
            memory,
            runs: false,
            resume_at: resumes.map(|_| now),
            orders: VecDeque::new(),
            queue: VecDeque::new(),
            told: VecDeque::new(),
            later: VecDeque::new(),
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
        let resume_at = self.resume_at.filter(|_| !self.runs);
        if resume_at.is_some_and(|at| at <= now) {
            self.start(Order::Resume);
        }
        if let Some(order) = self.orders.pop_front() {
            return order;
        }
        let until = match self.request(now) {
            Ok(request) => {
                self.in_flight = Some(request.clone());
                return Order::Send(request);
            }
            Err(until) => until,
        };
        Order::Wait(resume_at.map_or(until, |at| at.min(until)))
    }

    /// The next request, or when there may be one. A poll that is due comes first: what a server does
    /// not take may not keep the vehicle from hearing it.
    fn request(&mut self, now: Duration) -> Result<Request, Duration> {
        if self.in_flight.is_some() {
            return Err(Duration::MAX);
        }
        if now < self.quiet_until {
            return Err(self.quiet_until);
        }
        if now >= self.next_poll {
            return Ok(Request::Poll);
        }
        self.queue.pop_front().ok_or(self.next_poll)
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
        let refused = matches!(answer, Answer::Refused(_));
        let document = match answer {
            Answer::Document(document) => Some(document),
            _ => None,
        };
        match request {
            Request::Poll => self.on_poll(now, document),
            // Whoever may not speak now may again: the server has not heard it.
            Request::Feedback(resource, feedback) if refused => self.keep(resource, feedback),
            Request::Feedback(Resource::Deployment, feedback) if feedback.is_final() => {
                self.on_end_confirmed(&feedback);
            }
            Request::Feedback(_, feedback) => {
                if let Some(id) = feedback.report {
                    self.give_up_report(id);
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

    /// The campaign of this name begins under the action whose order runs. The caller has stored it
    /// by [`Memory::begin`] before.
    pub fn on_begun(&mut self, campaign: &str) {
        if self.active.is_some() && self.memory.campaign.as_deref() != Some(campaign) {
            self.memory.campaign = Some(campaign.to_owned());
            self.remembered = false;
        }
    }

    /// A report is there: `done` of `of` ECUs are through with `campaign`. It is told until an answer
    /// leads to [`Order::Delivered`]; one that is told already is not told twice. What no action asked
    /// for is not told at all, and is done with at once.
    pub fn on_report(&mut self, id: &str, campaign: &str, what: &str, done: usize, of: usize) {
        if self.told.iter().any(|told| told == id) {
            return;
        }
        let Some(action) = self.action_of(campaign) else {
            tracing::info!(campaign, "a report is not told: no action asked for it");
            return self.give_up_report(id.to_owned());
        };
        let details = [what.to_owned(), format!("report {id}")];
        let feedback = Feedback::new(action, Execution::Proceeding, Finished::None, details);
        let mut feedback = feedback.with_progress(done, of);
        feedback.report = Some(id.to_owned());
        self.tell(Resource::Deployment, feedback);
    }

    /// The action under which a campaign was begun: the active one, or the last that ended.
    fn action_of(&self, campaign: &str) -> Option<&ActionId> {
        let is = |known: &Option<String>| known.as_deref() == Some(campaign);
        let active = self.active.as_ref().map(|active| &active.action);
        let ended = self.memory.ended.as_ref().map(|ended| &ended.id);
        active
            .filter(|_| is(&self.memory.campaign))
            .or_else(|| ended.filter(|_| is(&self.memory.ended_campaign)))
    }

    fn give_up_report(&mut self, id: String) {
        self.told.truncate(TOLD_MAX);
        self.told.push_front(id.clone());
        self.orders.push_back(Order::Delivered(id));
    }

    /// What was not taken and would not be said again otherwise: the end of an action is, whenever the
    /// server offers it.
    fn keep(&mut self, resource: Resource, feedback: Feedback) {
        if feedback.report.is_some() {
            push(&mut self.later, Request::Feedback(resource, feedback));
        } else if let Some(active) = &mut self.active {
            active.said = None;
        }
    }

    /// The campaign, or its preparation, has come to an end for now.
    pub fn on_fate(&mut self, now: Duration, fate: Fate) {
        self.runs = false;
        self.orders.retain(|order| *order != Order::Abandon);
        let pause = self.jittered(self.policy.interval);
        self.resume_at =
            matches!(fate, Fate::Unfinished { begun: true, .. }).then(|| now.saturating_add(pause));
        // What runs may be a campaign of nobody here.
        let Some(active) = self.active.as_mut().filter(|it| it.work == Work::Runs) else {
            return;
        };
        active.work = match fate {
            Fate::Prepared => Work::Prepared,
            Fate::Unfinished { begun: true, .. } if self.memory.campaign.is_some() => Work::Begun,
            _ => Work::Idle,
        };
        let cancelled_by = active.cancelled_by.take();
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
            (Fate::Unfinished { why, .. }, None) => self.say(Execution::Proceeding, Some(why)),
            (Fate::Prepared, None) => self.say(Execution::Downloaded, None),
        }
    }

    /// How the active action stands, where that is news.
    fn say(&mut self, execution: Execution, why: Option<String>) {
        let Some(active) = self.active.as_mut() else {
            return;
        };
        let feedback = Feedback::new(&active.action, execution, Finished::None, why);
        if active.said.as_ref() != Some(&feedback) {
            active.said = Some(feedback.clone());
            self.tell(Resource::Deployment, feedback);
        }
    }

    fn on_failure(&mut self, now: Duration, request: Request, asked: Option<Duration>) {
        let pause = self.retry.failed(0, asked);
        let keeps = matches!(request, Request::Feedback(..) | Request::Confirm(..));
        let given_up = pause.is_none();
        if given_up {
            self.retry = Retry::new(self.policy.limits.clone(), self.random.random());
        }
        // A poll or a document will come again; what the server was to be told may not get lost, nor
        // stand in the way of all else.
        match (keeps, given_up) {
            (true, true) => {
                push(&mut self.later, request);
                if asked.is_none() {
                    return;
                }
            }
            (true, false) => self.queue.push_front(request),
            (false, _) => self.next_poll = now,
        }
        let pause = pause.unwrap_or_else(|| self.jittered(self.policy.interval));
        self.quiet_until = now.saturating_add(pause);
    }

    fn on_poll(&mut self, now: Duration, document: Option<Vec<u8>>) {
        self.next_poll = now.saturating_add(self.jittered(self.policy.interval));
        let Some(poll) = document.map(|bytes| Poll::read(&bytes, &self.server)) else {
            return;
        };
        self.queue.append(&mut self.later);
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
        for request in requests.into_iter().flatten() {
            if !self.queue.contains(&request) {
                self.queue.push_back(request);
            }
        }
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
        // One at a time: the server offers it again.
        if self.runs {
            return;
        }
        // It may be the one that was given up, as long as the server has not heard that.
        let gives_up = |request: &Request| matches!(request, Request::Feedback(Resource::Cancellation, last) if last.is_final());
        if self.queue.iter().chain(&self.later).any(gives_up) {
            return;
        }
        // What the journal holds comes first, whoever asked for it.
        if self.resume_at.is_some() {
            return self.start(Order::Resume);
        }
        let active = self.active.as_ref();
        if active.is_none_or(|active| active.action != deployment.action) {
            self.adopt(&deployment.action);
        }
        let Some(active) = &self.active else {
            return;
        };
        let install = deployment.update != Mode::Skip;
        let prepare = deployment.download != Mode::Skip;
        match active.work {
            Work::Idle | Work::Prepared if install => {
                self.start(Order::Install(deployment));
            }
            Work::Idle if prepare => {
                self.start(Order::Prepare(deployment));
            }
            _ => {}
        }
    }

    /// Starts what concerns the active action; but for a campaign that goes on and is another's.
    fn start(&mut self, order: Order) {
        let goes_on = order == Order::Resume;
        if let Some(active) = self
            .active
            .as_mut()
            .filter(|it| !goes_on || it.work == Work::Begun)
        {
            active.work = Work::Runs;
        }
        self.runs = true;
        self.orders.push_back(order);
    }

    /// A new action, of which nothing is done.
    fn adopt(&mut self, action: &ActionId) {
        self.memory.action = Some(action.clone());
        self.memory.campaign = None;
        self.remembered = false;
        self.active = Some(Active::new(action.clone(), Work::Idle));
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
                    if !self.runs {
                        self.start(Order::Resume);
                    }
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
            campaign: None,
            ended: Some(last),
            ended_campaign: self.memory.campaign.take(),
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
        self.memory.campaign = None;
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
        let waits = self.queue.contains(&request) || self.later.contains(&request);
        if !waits && self.in_flight.as_ref() != Some(&request) {
            push(&mut self.queue, request);
        }
    }

    /// Up to a quarter longer, so that a fleet does not poll as one.
    fn jittered(&mut self, interval: Duration) -> Duration {
        interval.saturating_add(interval.mul_f64(self.random.random_range(0.0..0.25)))
    }
}

/// Adds a request; where there are too many, the oldest that says less than an end gives way.
fn push(queue: &mut VecDeque<Request>, request: Request) {
    if queue.len() >= QUEUE_MAX {
        let lesser = |request: &Request| matches!(request, Request::Feedback(_, feedback) if !feedback.is_final());
        if let Some(oldest) = queue.iter().position(lesser) {
            queue.remove(oldest);
        }
    }
    queue.push_back(request);
}

fn refuse_document(error: &DocumentError) {
    tracing::warn!(%error, "a document of the server is refused");
}
