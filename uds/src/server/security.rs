//! SecurityAccess (ISO 14229-1:2020 clause 10.4 and annex I): seed, key, attempts, delay.

use crate::nrc::Nrc;
use crate::service::SecurityLevel;
use crate::time::{Duration, Instant};

/// How SecurityAccess behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecurityConfig {
    /// The length of a seed in bytes; an unlocked server answers as many zeros.
    pub seed_len: usize,
    /// The wrong key that answers 0x36 and starts the delay; those before answer 0x35.
    pub attempts: u8,
    /// How long requestSeed answers 0x37 then.
    pub delay: Duration,
}

/// What a request of SecurityAccess asks the application for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Answer a seed of zeros.
    AlreadyUnlocked,
    /// Make a seed, then [`Access::seed_sent`].
    MakeSeed(SecurityLevel),
    /// Compare the key, then [`Access::key_checked`].
    CheckKey(SecurityLevel),
}

/// The state of annex I, without the session: leaving one drops `seed` and `unlocked`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Access {
    pub(super) unlocked: Option<SecurityLevel>,
    seed: Option<SecurityLevel>,
    failures: u8,
    delay_until: Option<Instant>,
}

impl Access {
    /// Locks and forgets a seed; attempts and delay stay, or changing sessions would reset them.
    pub(super) fn lock(&mut self) {
        self.unlocked = None;
        self.seed = None;
    }

    /// Starts the delay, as after a reset that may have been meant to escape it.
    pub(super) fn start_delay(&mut self, now: Instant, config: &SecurityConfig) {
        self.failures = config.attempts;
        self.delay_until = Some(now + config.delay);
    }

    /// Takes a requestSeed or sendKey that the service table allowed.
    pub(super) fn request(&mut self, now: Instant, sub_function: u8) -> Result<Step, Nrc> {
        self.expire_delay(now);
        let level =
            SecurityLevel::of_sub_function(sub_function).ok_or(Nrc::SUB_FUNCTION_NOT_SUPPORTED)?;
        if sub_function == level.send_key() {
            // A seed is good for one key, right or wrong.
            return match self.seed.take() {
                Some(asked) if asked == level => Ok(Step::CheckKey(level)),
                _ => Err(Nrc::REQUEST_SEQUENCE_ERROR),
            };
        }
        if self.delay_until.is_some() {
            return Err(Nrc::REQUIRED_TIME_DELAY_NOT_EXPIRED);
        }
        if self.unlocked == Some(level) {
            return Ok(Step::AlreadyUnlocked);
        }
        Ok(Step::MakeSeed(level))
    }

    pub(super) fn seed_sent(&mut self, level: SecurityLevel) {
        self.seed = Some(level);
    }

    pub(super) fn key_checked(
        &mut self,
        now: Instant,
        config: &SecurityConfig,
        level: SecurityLevel,
        matches: bool,
    ) -> Result<(), Nrc> {
        if matches {
            self.unlocked = Some(level);
            self.failures = 0;
            return Ok(());
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < config.attempts {
            return Err(Nrc::INVALID_KEY);
        }
        self.start_delay(now, config);
        Err(Nrc::EXCEEDED_NUMBER_OF_ATTEMPTS)
    }

    /// After the delay one more attempt is open before the next (annex I: the count falls by one).
    fn expire_delay(&mut self, now: Instant) {
        if self.delay_until.is_some_and(|until| now >= until) {
            self.delay_until = None;
            self.failures = self.failures.saturating_sub(1);
        }
    }
}
