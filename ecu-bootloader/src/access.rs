//! SecurityAccess 27 01/02: the key is AES-CMAC of `seed ‖ 01` under the ECU's access key.
//!
//! Attempts and their delay survive resets. They are reserved in blocks, journaled before the seed
//! that they answer: what a reset interrupts counts as used. A right key clears the count.
//!
//! ```text
//!  blocks  0 ──▶ 1 ──▶ 2 ──▶ 3 ──▶ 4 ──▶ 5 ──▶ 6 ──▶ 7 ──▶ 8 ──▶ 9 ↺     right key: 0
//!  delay                           10 s  20 s  40 s  80 s  160 s 300 s
//! ```
//!
//! A power cycle takes the next block with its first seed. Blocks 1 to 3 cover two wrong keys
//! (0x35); the third wrong key needs block 4 or a later one, each of which covers one (0x36). The
//! delay of a block runs from its wrong key, and from the start of each power cycle that finds it.
//! Seeds cost no writes of their own; the arithmetic is in `docs/spec/bootloader.md`.

use uds::nrc::Nrc;
use uds::server::Context;
use uds::service::SecurityLevel;
use uds::time::{Duration, Instant};

use crate::bytes::put;
use crate::download::Reply;
use crate::job::{Answer, Core, Then};
use crate::keys::{KeyStore, MacKeyId};
use crate::machine::Storage;
use crate::platform::Platform;
use crate::reason::{Failure, Reason};
use crate::server::put_seed;

/// Bytes of a seed.
pub const SEED_LEN: usize = 16;
/// Bytes of a key.
pub const KEY_LEN: usize = 16;

/// Blocks without a delay: so often an unlocking may be interrupted.
pub const FREE_BLOCKS: u8 = 3;
/// The last block, which is taken again and again.
pub const LAST_BLOCK: u8 = 9;
/// Wrong keys that a block without delay covers.
const FREE_ATTEMPTS: u8 = 2;

/// The message whose MAC is the key: the seed, then the level's requestSeed.
#[must_use]
pub fn message(seed: &[u8; SEED_LEN], level: SecurityLevel) -> [u8; SEED_LEN + 1] {
    let mut message = [level.request_seed(); SEED_LEN + 1];
    for (to, from) in message.iter_mut().zip(seed) {
        *to = *from;
    }
    message
}

/// How long requestSeed answers 0x37 after this many blocks.
#[must_use]
pub const fn delay(blocks: u8) -> Duration {
    Duration::from_secs(match blocks {
        0..=FREE_BLOCKS => 0,
        4 => 10,
        5 => 20,
        6 => 40,
        7 => 80,
        8 => 160,
        _ => 300,
    })
}

/// Attempts, delay and seeds of this power cycle.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// The journal's count; alone where there is no journal.
    blocks: u8,
    /// Wrong keys that the block at hand still covers.
    open: u8,
    /// Whether a key was wrong since the start or the last right one.
    wrong: bool,
    delay_until: Option<Instant>,
    /// The seed that waits for its key.
    seed: Option<[u8; SEED_LEN]>,
    /// The challenge of 29 05 that waits for its proof.
    #[cfg(feature = "authentication")]
    challenge: Option<[u8; SEED_LEN]>,
    /// Seeds made in this power cycle.
    seeds: u32,
}

impl Access {
    /// A power cycle begins with the journal's count.
    pub(crate) fn start(&mut self, now: Instant, blocks: u8) {
        self.blocks = blocks;
        self.wait(now);
    }

    /// Another seed is asked for, or the session changed: the one before is good no more.
    pub(crate) fn forget_seed(&mut self) {
        self.seed = None;
        #[cfg(feature = "authentication")]
        {
            self.challenge = None;
        }
    }

    /// The challenge of 29 05; it is good for one proof.
    #[cfg(feature = "authentication")]
    pub(crate) fn take_challenge(&mut self) -> Option<[u8; SEED_LEN]> {
        self.challenge.take()
    }

    fn wait(&mut self, now: Instant) {
        let delay = delay(self.blocks);
        self.delay_until = (!delay.is_zero()).then(|| now + delay);
    }

    fn is_delayed(&self, now: Instant) -> bool {
        self.delay_until.is_some_and(|until| now < until)
    }

    /// The count after the next block is taken.
    fn next_block(&self) -> u8 {
        let least = if self.wrong { FREE_BLOCKS } else { 0 };
        self.blocks.max(least).saturating_add(1).min(LAST_BLOCK)
    }

    /// A block was reserved.
    pub(crate) fn open(&mut self, blocks: u8) {
        self.blocks = blocks;
        self.open = if blocks <= FREE_BLOCKS {
            FREE_ATTEMPTS
        } else {
            1
        };
    }

    /// One more seed is made, if there can be one more.
    fn count_seed(&mut self) -> Result<(), Nrc> {
        let count = self.seeds.checked_add(1);
        self.seeds = count.ok_or(Nrc::CONDITIONS_NOT_CORRECT)?;
        Ok(())
    }

    /// A right key: the count is cleared.
    fn clear(&mut self) {
        *self = Self {
            seeds: self.seeds,
            ..Self::default()
        };
    }

    /// A wrong key: what it is answered with.
    pub(crate) fn count_wrong(&mut self, now: Instant) -> Nrc {
        self.wrong = true;
        self.open = self.open.saturating_sub(1);
        if self.blocks <= FREE_BLOCKS {
            return Nrc::INVALID_KEY;
        }
        self.wait(now);
        Nrc::EXCEEDED_NUMBER_OF_ATTEMPTS
    }
}

impl<P: Platform, M: Storage> Core<P, M> {
    /// 27 01: a seed, once an attempt is reserved for its key; zeros where access is granted.
    pub(crate) fn request_seed(&mut self, now: Instant, context: Context) -> Result<Reply, Nrc> {
        if context.unlocked.is_some() {
            self.access.forget_seed();
            return Ok(Reply::Now(Answer::Unlocked(1)));
        }
        self.reserve(now, Answer::Seed)
    }

    /// Goes on with `answer`, which makes a seed, once an attempt is reserved.
    #[inline(never)]
    pub(crate) fn reserve(&mut self, now: Instant, answer: Answer) -> Result<Reply, Nrc> {
        self.access.forget_seed();
        if self.access.is_delayed(now) {
            return Err(Nrc::REQUIRED_TIME_DELAY_NOT_EXPIRED);
        }
        if self.access.open > 0 && (self.state.is_none() || self.journal.has_written()) {
            return Ok(Reply::Now(answer));
        }
        let then = Then::OpenBlock(answer);
        let access_blocks = self.access.next_block();
        if self.state.is_none() {
            self.proceed(then);
            return Ok(Reply::Later);
        }
        let written = self.journal.has_written();
        let next = self.edit().ok_or(Nrc::CONDITIONS_NOT_CORRECT)?;
        next.access_blocks = access_blocks;
        // Also where the count stays the same: each power cycle has a record of its own before its
        // first seed, so that no seed comes twice.
        if written {
            self.commit(then);
        } else {
            self.write(then);
        }
        Ok(Reply::Later)
    }

    /// The block is durable: its first seed.
    pub(crate) fn open_block(&mut self, answer: Answer) {
        let next = self.access.next_block();
        let blocks = self
            .state
            .as_ref()
            .map_or(next, |state| state.access_blocks);
        self.access.open(blocks);
        self.answer = Some(Ok(answer));
    }

    /// Writes `67 01 seed`; its length.
    pub(crate) fn make_seed(&mut self, response: &mut [u8]) -> Result<usize, Nrc> {
        self.access.count_seed()?;
        let seed = self.unique_seed();
        self.access.seed = Some(seed);
        put_seed(response, &seed)
    }

    /// The challenge of 29 05.
    #[cfg(feature = "authentication")]
    pub(crate) fn make_challenge(&mut self) -> Result<[u8; SEED_LEN], Nrc> {
        self.access.count_seed()?;
        let seed = self.unique_seed();
        self.access.challenge = Some(seed);
        Ok(seed)
    }

    /// A seed: a MAC under a key that no tester has, over what never comes twice (the journal's
    /// sequence and a count) and what cannot be foreseen. It is as good as either of them.
    #[inline(never)]
    fn unique_seed(&mut self) -> [u8; SEED_LEN] {
        let mut random = [0; 16];
        self.platform.random(&mut random);
        let mut bytes = [0; 32];
        put(&mut bytes, 0, b"CNSD");
        put(
            &mut bytes,
            4,
            &u64::from(self.journal.sequence()).to_le_bytes(),
        );
        put(&mut bytes, 12, &self.access.seeds.to_le_bytes());
        put(&mut bytes, 16, &random);
        self.platform.keys().cmac(MacKeyId::Journal, &bytes)
    }

    /// 27 02: a seed is good for one key, right or wrong.
    #[inline(never)]
    pub(crate) fn send_key(&mut self, now: Instant, request: &[u8]) -> Result<Reply, Nrc> {
        let seed = self.access.seed.take();
        let seed = seed.ok_or(Nrc::REQUEST_SEQUENCE_ERROR)?;
        let key = request
            .get(2..)
            .and_then(|key| key.try_into().ok())
            .ok_or(Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT)?;
        let message = message(&seed, SecurityLevel::ONE);
        let keys = self.platform.keys();
        if !keys.cmac_verify(MacKeyId::Access, &message, key) {
            return Err(self.access.count_wrong(now));
        }
        self.clear_attempts(Then::Answer(Answer::Unlocked(2)));
        Ok(Reply::Later)
    }

    /// Access is granted: clears the count, durably, then goes on.
    pub(crate) fn clear_attempts(&mut self, then: Then) {
        self.access.clear();
        if self.state.is_none() {
            return self.proceed(then);
        }
        let Some(next) = self.edit() else {
            return self.fail(then, Failure::new(Reason::Journal));
        };
        next.access_blocks = 0;
        self.commit(then);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// What wrong keys are answered with from `blocks` on, each after the delay, and the count then.
    fn guess(access: &mut Access, keys: usize) -> Vec<(u8, u8)> {
        let mut now = Instant::ZERO;
        (0..keys)
            .map(|_| {
                now = now + delay(access.blocks);
                assert!(!access.is_delayed(now));
                if access.open == 0 {
                    access.open(access.next_block());
                }
                let nrc = access.count_wrong(now).0;
                assert_eq!(access.is_delayed(now), nrc == 0x36);
                (nrc, access.blocks)
            })
            .collect()
    }

    #[test]
    fn the_third_wrong_key_starts_a_delay_that_grows_and_is_bounded() {
        let mut access = Access::default();
        assert_eq!(
            guess(&mut access, 9),
            [
                (0x35, 1),
                (0x35, 1),
                (0x36, 4),
                (0x36, 5),
                (0x36, 6),
                (0x36, 7),
                (0x36, 8),
                (0x36, 9),
                (0x36, 9)
            ]
        );
        let delays = (0..=u8::MAX).map(|blocks| delay(blocks).as_secs());
        assert!(delays.clone().is_sorted());
        assert_eq!(delays.max(), Some(300));
    }

    #[test]
    fn power_cycles_take_a_block_each() {
        let mut blocks = 0;
        let mut waited = Vec::new();
        for _ in 0..12 {
            let mut access = Access::default();
            access.start(Instant::ZERO, blocks);
            waited.push(delay(blocks).as_secs());
            blocks = access.next_block();
        }
        assert_eq!(waited, [0, 0, 0, 0, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn a_right_key_clears_the_count() {
        let mut access = Access::default();
        guess(&mut access, 5);
        access.clear();
        assert_eq!(
            (access.next_block(), access.is_delayed(Instant::ZERO)),
            (1, false)
        );
    }
}
