//! What people say at the desk: consent, postponement, cancellation, and campaigns they bring.

use tempfile::TempPath;

use super::{Desk, Inner, NotTaken, Reply, note, reply};
use crate::engine::Phase;
use crate::error::Error;
use crate::evidence::Decision;
use crate::policy::Answer;

impl Desk {
    /// Somebody consents.
    ///
    /// # Errors
    ///
    /// [`NotTaken`].
    pub fn consent(
        &self,
        who: String,
        campaign: Option<&str>,
        anytime: bool,
    ) -> Result<Reply, NotTaken> {
        let at = self.now().unix;
        let answer = Answer { who, at, anytime };
        let mut inner = self.inner();
        self.change(&mut inner, |policy| {
            policy.consent(campaign, answer.clone())
        })?;
        let campaign = inner.policy.memory().campaign.clone();
        let answer = &answer;
        let campaign = &campaign;
        note(
            &mut inner.evidence,
            &Decision::Consented { campaign, answer },
        );
        drop(inner);
        self.wake();
        reply(format!("consent to campaign {campaign} is recorded"))
    }

    /// Somebody wants to be asked later.
    ///
    /// # Errors
    ///
    /// [`NotTaken`].
    pub fn postpone(
        &self,
        who: &str,
        campaign: Option<&str>,
        seconds: u64,
    ) -> Result<Reply, NotTaken> {
        let now = self.now();
        let mut inner = self.inner();
        if inner.begun.is_some() {
            return Err(NotTaken::Installing);
        }
        self.change(&mut inner, |policy| policy.postpone(campaign, seconds, now))?;
        let campaign = inner.policy.memory().campaign.clone();
        let campaign = &campaign;
        let decision = Decision::Postponed {
            campaign,
            who,
            seconds,
        };
        note(&mut inner.evidence, &decision);
        drop(inner);
        self.wake();
        reply(format!("campaign {campaign} is postponed by {seconds} s"))
    }

    /// Somebody does not want the campaign, or any more. One that is being installed goes back,
    /// unless it is committed; that it was cancelled is durable before it is said.
    ///
    /// # Errors
    ///
    /// [`NotTaken`].
    pub fn cancel(&self, who: String, campaign: Option<&str>) -> Result<Reply, NotTaken> {
        let at = self.now().unix;
        let anytime = false;
        let answer = Answer {
            who: who.clone(),
            at,
            anytime,
        };
        let mut inner = self.inner();
        if let Some((_, Some(Phase::Sealing))) = inner.begun {
            return Err(NotTaken::Committed);
        }
        self.change(&mut inner, |policy| policy.decline(campaign, answer))?;
        let campaign = inner.policy.memory().campaign.clone();
        let campaign = &campaign;
        note(
            &mut inner.evidence,
            &Decision::Declined {
                campaign,
                who: &who,
            },
        );
        let running = inner.begun.is_some();
        drop(inner);
        self.control.send_modify(|control| control.cancel = running);
        reply(match running {
            true => format!("campaign {campaign} goes back, unless it is committed first"),
            false => format!("campaign {campaign} is declined"),
        })
    }

    /// A bundle has been brought. It is verified as anything else. One that was brought before and has
    /// not been looked at gives way.
    ///
    /// # Errors
    ///
    /// [`NotTaken`]; the file is deleted then.
    pub fn upload(&self, bundle: TempPath) -> Result<Reply, NotTaken> {
        let mut inner = self.inner();
        inner.may_upload()?;
        inner.upload = Some(bundle);
        drop(inner);
        self.wake();
        reply("the bundle is here and will be verified".into())
    }

    /// A bundle that was brought and is not looked at yet.
    #[must_use]
    pub fn take_upload(&self) -> Option<TempPath> {
        self.inner().upload.take()
    }

    /// Whether there is one.
    #[must_use]
    pub fn has_upload(&self) -> bool {
        self.inner().upload.is_some()
    }

    /// A file of the state folder is damaged and was set aside.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn set_aside(&self, file: &str, why: &str) -> Result<(), Error> {
        let mut inner = self.inner();
        inner.evidence.record(&Decision::SetAside { file, why })
    }

    /// The vehicle takes its campaigns from elsewhere.
    pub fn refuse_uploads(&self) {
        self.inner().takes_uploads = false;
    }
}

impl Inner {
    pub(super) fn may_upload(&self) -> Result<(), NotTaken> {
        if !self.takes_uploads {
            return Err(NotTaken::Follows);
        }
        match self.begun {
            Some(_) => Err(NotTaken::Installing),
            None => Ok(()),
        }
    }
}
