//! Whether a campaign may be installed now: by itself, after consent, in a maintenance window, not
//! while it is postponed.
//!
//! A pure machine: the time of day and the time since the program's start go in, verdicts come out,
//! and what was answered is in a [`Memory`] that the caller makes durable before it acts. The time of
//! day may jump: a postponement then lasts as long as it was meant to, and windows count again once
//! the clock has been steady for a while.

mod window;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use window::{BadWindow, Window};

/// The time of day deviates from the steady clock by more than this: it was set.
const JUMP_S: u64 = 300;
/// How long a clock that was set must be steady before windows count.
const SETTLE: Duration = Duration::from_secs(600);
/// The same for one that is behind a time that was seen before.
const SETTLE_BEHIND: Duration = Duration::from_secs(86_400);

/// How a campaign comes to be installed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// By itself, in a window, unless it is postponed or declined.
    #[default]
    Automatic,
    /// After consent, in a window unless the consent is for any time.
    Ask,
    /// At once: nobody is asked and no window is waited for. Preconditions hold all the same.
    Forced,
}

/// What the operator of the vehicle has decided once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// How a campaign comes to be installed.
    pub mode: Mode,
    /// When it may begin; none is always.
    pub windows: Vec<Window>,
    /// Minutes by which local time is ahead of UTC.
    pub offset_min: i16,
    /// How often one campaign may be postponed.
    pub postpone_limit: u32,
    /// The longest postponement in seconds.
    pub postpone_longest_s: u64,
}

/// Now, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Seconds since 1970: may jump, may be wrong.
    pub unix: u64,
    /// Time since some moment before the machine was made: steady.
    pub up: Duration,
}

/// Somebody's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Who gave it.
    pub who: String,
    /// When, in seconds since 1970.
    pub at: u64,
    /// Consent outside of windows too.
    #[serde(default)]
    pub anytime: bool,
}

/// What was answered about the campaign on offer. Durable before anything follows from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// The campaign on offer; empty where none is, or the last one has ended.
    pub campaign: String,
    /// What it installs ([`Plan::content`](crate::engine::Plan::content)): the same name may come again
    /// for something else.
    pub content: String,
    /// Consent to it.
    pub consent: Option<Answer>,
    /// It is not wanted.
    pub declined: Option<Answer>,
    /// How often it was postponed.
    pub postponed: u32,
    /// It is postponed: since when and until when, in seconds since 1970.
    pub until: Option<(u64, u64)>,
    /// The latest time of day that was seen.
    pub latest: u64,
    /// A clock that is behind that time: what it said last, and for how many seconds it has been
    /// steady, over all runs of the program. A vehicle is seldom awake for a day.
    pub behind: Option<(u64, u64)>,
}

/// What a campaign waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Consent.
    Consent,
    /// The end of a postponement.
    Postponed,
    /// A maintenance window.
    Window,
    /// A clock that has been steady for a while.
    Clock,
}

/// Whether a campaign may be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Now.
    Go,
    /// Not yet: ask again at an answer, or after this time, if any.
    Wait(Why, Option<Duration>),
    /// It is not wanted.
    Declined,
}

/// Why an answer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nothing to answer.
    #[error("no campaign is on offer")]
    NoOffer,
    /// The answer is about another campaign.
    #[error("another campaign is on offer; look at the status again")]
    OtherCampaign,
    /// The operator asks nobody.
    #[error("the campaign is forced: it can be neither postponed nor declined")]
    Forced,
    /// Too often.
    #[error("it was postponed {0} times already, which is as often as the policy allows")]
    TooOften(u32),
    /// Too long.
    #[error("it can be postponed by at most {0} s")]
    TooLong(u64),
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Policy {
    rules: Rules,
    memory: Memory,
    last: Option<Now>,
    /// Windows do not count before this much up-time.
    settled_at: Duration,
}

impl Policy {
    /// With what was answered before.
    #[must_use]
    pub fn new(rules: Rules, memory: Memory) -> Self {
        Self {
            rules,
            memory,
            last: None,
            settled_at: Duration::ZERO,
        }
    }

    /// What is to be durable.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What the operator has decided.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// A campaign is on offer. The answers to another one are forgotten, and those to one of the same
    /// name that installs something else.
    pub fn offer(&mut self, campaign: &str, content: &str) {
        if !self.offers(campaign, content) {
            self.forget();
            self.memory.campaign = campaign.to_owned();
            self.memory.content = content.to_owned();
        }
    }

    /// Whether that is on offer already.
    #[must_use]
    pub fn offers(&self, campaign: &str, content: &str) -> bool {
        self.memory.campaign == campaign && self.memory.content == content
    }

    /// A campaign has ended, and the answers to it with it: what comes under its name again is asked
    /// for again. Only what is not wanted stays so.
    pub fn end(&mut self, campaign: &str) {
        if self.memory.campaign == campaign && self.memory.declined.is_none() {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.memory = Memory {
            latest: self.memory.latest,
            behind: self.memory.behind,
            ..Memory::default()
        };
    }

    /// Whether the campaign on offer may be installed now.
    pub fn verdict(&mut self, now: Now) -> Verdict {
        self.observe(now);
        if self.rules.mode == Mode::Forced {
            return Verdict::Go;
        }
        if self.memory.declined.is_some() {
            return Verdict::Declined;
        }
        if let Some(rest) = self.postponed_for(now.unix) {
            return Verdict::Wait(Why::Postponed, Some(rest));
        }
        let consent = self.memory.consent.as_ref();
        if self.rules.mode == Mode::Ask && consent.is_none() {
            return Verdict::Wait(Why::Consent, None);
        }
        if self.rules.windows.is_empty() || consent.is_some_and(|consent| consent.anytime) {
            return Verdict::Go;
        }
        if let Some(rest) = self
            .settled_at
            .checked_sub(now.up)
            .filter(|rest| !rest.is_zero())
        {
            return Verdict::Wait(Why::Clock, Some(rest));
        }
        let local = i64::try_from(now.unix).unwrap_or(i64::MAX);
        let local = local.saturating_add(i64::from(self.rules.offset_min).saturating_mul(60));
        let opens = self
            .rules
            .windows
            .iter()
            .map(|window| window.opens_in(local));
        match opens.min() {
            None | Some(0) => Verdict::Go,
            Some(rest) => Verdict::Wait(Why::Window, Some(Duration::from_secs(rest))),
        }
    }

    /// Somebody consents; a postponement or refusal before is void.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn consent(&mut self, campaign: Option<&str>, answer: Answer) -> Result<(), Refusal> {
        self.on_offer(campaign)?;
        self.memory.consent = Some(answer);
        self.memory.declined = None;
        self.memory.until = None;
        Ok(())
    }

    /// Somebody does not want the campaign.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn decline(&mut self, campaign: Option<&str>, answer: Answer) -> Result<(), Refusal> {
        self.on_offer(campaign)?;
        self.may_refuse()?;
        self.memory.declined = Some(answer);
        self.memory.consent = None;
        self.memory.until = None;
        Ok(())
    }

    /// Somebody wants to be asked again later. Consent given before is void.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn postpone(
        &mut self,
        campaign: Option<&str>,
        seconds: u64,
        now: Now,
    ) -> Result<(), Refusal> {
        self.observe(now);
        self.on_offer(campaign)?;
        self.may_refuse()?;
        if seconds > self.rules.postpone_longest_s {
            return Err(Refusal::TooLong(self.rules.postpone_longest_s));
        }
        if self.memory.postponed >= self.rules.postpone_limit {
            return Err(Refusal::TooOften(self.memory.postponed));
        }
        self.memory.postponed += 1;
        self.memory.consent = None;
        self.memory.until = Some((now.unix, now.unix.saturating_add(seconds)));
        Ok(())
    }

    fn on_offer(&self, campaign: Option<&str>) -> Result<(), Refusal> {
        if self.memory.campaign.is_empty() {
            return Err(Refusal::NoOffer);
        }
        match campaign.is_none_or(|campaign| campaign == self.memory.campaign) {
            true => Ok(()),
            false => Err(Refusal::OtherCampaign),
        }
    }

    fn may_refuse(&self) -> Result<(), Refusal> {
        match self.rules.mode {
            Mode::Forced => Err(Refusal::Forced),
            Mode::Automatic | Mode::Ask => Ok(()),
        }
    }

    /// What is left of a postponement.
    fn postponed_for(&self, unix: u64) -> Option<Duration> {
        let (_, until) = self.memory.until?;
        let rest = until.saturating_sub(unix);
        (rest > 0).then(|| Duration::from_secs(rest))
    }

    /// Notices where the time of day was set, and keeps to what was meant.
    fn observe(&mut self, now: Now) {
        let Some(last) = self.last.replace(now) else {
            return self.begin(now);
        };
        let passed = now.up.saturating_sub(last.up).as_secs();
        let expected = last.unix.saturating_add(passed);
        if now.unix.abs_diff(expected) > JUMP_S {
            let settled = now.up.saturating_add(SETTLE);
            match self.memory.behind.take() {
                Some(_) if self.is_behind(now) => self.wait_behind(now, 0),
                // It was set right.
                Some(_) => self.settled_at = settled,
                None => self.settled_at = self.settled_at.max(settled),
            }
            if let Some((since, until)) = &mut self.memory.until {
                let rest = until.saturating_sub(expected);
                (*since, *until) = (now.unix, now.unix.saturating_add(rest));
            }
        }
        if let Some((said, steady)) = &mut self.memory.behind {
            (*said, *steady) = (now.unix, steady.saturating_add(passed));
        }
        self.memory.latest = self.memory.latest.max(now.unix);
        if now.up >= self.settled_at {
            // What the clock says for so long is right now, even if it said more once.
            self.memory.latest = now.unix;
            self.memory.behind = None;
        }
    }

    fn is_behind(&self, now: Now) -> bool {
        now.unix.saturating_add(JUMP_S) < self.memory.latest
    }

    /// The clock is behind, and has been steady for so many seconds.
    fn wait_behind(&mut self, now: Now, steady: u64) {
        self.memory.behind = Some((now.unix, steady));
        let rest = SETTLE_BEHIND.saturating_sub(Duration::from_secs(steady));
        self.settled_at = self.settled_at.max(now.up.saturating_add(rest));
    }

    /// The first look at the clock after a start: nobody knows how long the program did not run.
    fn begin(&mut self, now: Now) {
        if self.is_behind(now) {
            let known = self.memory.behind.filter(|(said, _)| *said <= now.unix);
            self.wait_behind(now, known.map_or(0, |(_, steady)| steady));
        } else {
            self.memory.latest = self.memory.latest.max(now.unix);
            self.memory.behind = None;
        }
        let longest = self.rules.postpone_longest_s;
        if let Some((since, until)) = &mut self.memory.until {
            if now.unix < *since {
                let meant = until.saturating_sub(*since);
                (*since, *until) = (now.unix, now.unix.saturating_add(meant));
            }
            *until = (*until).min(now.unix.saturating_add(longest));
        }
    }
}
