//! The journal: the whole [`State`] in each record, two alternating sectors, torn writes harmless.
//!
//! ```text
//! entry = record (256 bytes: magic, version, length, sequence, state, CMAC) ‖ witness (program units)
//! ```
//!
//! The witness is programmed after the record is complete; one bit of it proves that. A record
//! without witness may have been torn and read well only today, and one with a part of a witness may
//! have none tomorrow: both are written again before they are acted upon. A torn program or erase may
//! also read blank today, so after a reset nothing is appended: the first write erases the sector
//! that does not hold the last witnessed record, even if it reads blank, and continues there. Traces
//! of a torn write behind the newest record are cleared in the same way before anything is acted
//! upon. Byte table: `docs/spec/bootloader.md`.

mod place;
mod record;

#[cfg(feature = "deliberate-bugs")]
use crate::bugs::{self, Bug};
use crate::flash::{FlashError, FlashOp, FlashRead};
use crate::keys::{KeyStore, MacKeyId};
use crate::layout::Layout;
use crate::state::State;
use ecu_image::hardened::difference;
use place::{
    Content, HALVES, Half, Place, address, content, entries, is_blank, region, start, witness_len,
};
use record::{MACED, STATE_AT, decode};

pub use place::stride;
pub use record::RECORD_LEN;
pub(crate) use record::encode;

/// Whether the second look is left out, so that the campaign can show what it is for.
const SINGLE_CHECKS: bool = cfg!(feature = "single-checks");
/// What a witness is programmed with; as long as the largest program unit.
const WITNESS: [u8; 256] = [0; 256];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Erase,
    Record,
    Witness,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Write {
    step: Step,
    place: Place,
    second_try: bool,
}

/// What the witness behind a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Witness {
    /// The record may be torn.
    Blank,
    /// The record is complete; the witness itself was interrupted, and may read blank tomorrow.
    Begun,
    /// Nothing was interrupted.
    Complete,
}

/// An authentic record, without its state.
#[derive(Debug, Clone, Copy)]
struct Entry {
    place: Place,
    /// From 1 on; 0 where there is no such record.
    sequence: u32,
    witness: Witness,
}

impl Entry {
    const NONE: Self = Self {
        place: start(Half::First),
        sequence: 0,
        witness: Witness::Blank,
    };

    const fn exists(&self) -> bool {
        self.sequence != 0
    }

    fn is_witnessed(&self) -> bool {
        self.witness != Witness::Blank
    }

    /// Becomes `other` where that is newer.
    #[inline(never)]
    fn renew(&mut self, other: &Self) {
        if other.sequence > self.sequence {
            *self = *other;
        }
    }
}

/// What became of a write after an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// More operations follow.
    NotYet,
    /// The state is durable and witnessed.
    Durable,
    /// The flash refused twice; the state before still holds.
    Failed,
}

/// The journal of one ECU. Where it lies its callers say, the same each time: so a board that has its
/// flash map as a constant has no other in it.
#[derive(Debug)]
pub struct Journal {
    sequence: u32,
    /// The half with the newest witnessed record, never erased.
    keep: Option<Half>,
    /// Where the record is that holds.
    newest: Option<Place>,
    /// Where this power cycle appends next; nowhere until a sector was erased in it.
    append: Option<Place>,
    record: [u8; RECORD_LEN as usize],
    /// Zeros: RAM has more room for them than flash.
    witness: [u8; 256],
    write: Option<Write>,
}

/// What a journal said at power-on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The newest state.
    pub state: State,
    /// Whether its record is witnessed, completely, and nothing lies behind it. If not, write it
    /// again before acting on it.
    pub settled: bool,
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

impl Journal {
    /// A journal that is not read yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sequence: 0,
            keep: None,
            newest: None,
            append: None,
            record: [0; RECORD_LEN as usize],
            witness: WITNESS,
            write: None,
        }
    }

    /// Reads the journal. `None`: there is no authentic record, the ECU is not provisioned.
    pub fn open(
        layout: &Layout,
        flash: &mut impl FlashRead,
        keys: &mut impl KeyStore,
    ) -> (Self, Option<Found>) {
        let mut journal = Self::new();
        let mut state = State::none();
        let settled = journal.find(layout, &mut state, flash, keys);
        (journal, settled.map(|settled| Found { state, settled }))
    }

    /// Reads the journal into `state`; whether its record is settled, as [`Found`] says. `None`:
    /// there is no authentic record.
    #[inline(never)]
    pub(crate) fn find(
        &mut self,
        layout: &Layout,
        state: &mut State,
        flash: &mut impl FlashRead,
        keys: &mut impl KeyStore,
    ) -> Option<bool> {
        let mut halves = [Entry::NONE; 2];
        let mut witnessed = Entry::NONE;
        for (newest, &half) in halves.iter_mut().zip(HALVES) {
            for entry in 0..entries(layout) {
                let Some(entry) = self.read(layout, Place { half, entry }, state, flash, keys)
                else {
                    continue;
                };
                newest.renew(&entry);
                if entry.is_witnessed() {
                    witnessed.renew(&entry);
                }
            }
        }
        let [first, second] = &halves;
        let (newest, opposite) = if second.sequence > first.sequence {
            (second, first)
        } else {
            (first, second)
        };
        // Without any witnessed record the newest may be torn; what the other half holds was
        // complete before that was begun.
        let sure = if witnessed.exists() {
            &witnessed
        } else {
            opposite
        };
        let keep = if sure.exists() { sure } else { newest };
        self.keep = keep.exists().then_some(keep.place.half);
        // An unwitnessed record counts only where it is newer than every witnessed one. The record
        // that is believed is read and looked at again, before anything is written again under our
        // own MAC; an unwitnessed one that does not read the same again was torn.
        let unwitnessed = newest.sequence > sure.sequence;
        let found = if unwitnessed && self.reads_again(layout, newest, state, flash, keys) {
            newest
        } else if self.reads_again(layout, sure, state, flash, keys) {
            sure
        } else {
            // One whose witness was only begun was never acted upon. Where its half was about to be
            // erased, and it reads so no more, the other half holds what came before.
            let before = match sure.place.half {
                Half::First => second,
                Half::Second => first,
            };
            let unsettled = sure.witness != Witness::Complete;
            if !unsettled || !self.reads_again(layout, before, state, flash, keys) {
                return None;
            }
            self.keep = Some(before.place.half);
            before
        };
        self.sequence = found.sequence.max(sure.sequence);
        let settled =
            found.witness == Witness::Complete && self.nothing_behind(layout, found, flash, keys);
        #[cfg(feature = "deliberate-bugs")]
        let settled = settled || bugs::has(Bug::MarginalRecord);
        Some(settled)
    }

    /// Reads a record again, and its state into `state`; whether it is the same, and looks so.
    #[inline(never)]
    fn reads_again(
        &mut self,
        layout: &Layout,
        entry: &Entry,
        state: &mut State,
        flash: &mut impl FlashRead,
        keys: &mut impl KeyStore,
    ) -> bool {
        if !entry.exists() {
            return false;
        }
        self.newest = Some(entry.place);
        let again = self.read(layout, entry.place, state, flash, keys);
        again.is_some_and(|again| again.sequence == entry.sequence)
            && (SINGLE_CHECKS || self.difference(layout, state, flash, keys) == 0)
    }

    /// Whether a write that began after `newest` has left no trace: a torn record that cannot be
    /// read today may be readable tomorrow.
    #[inline(never)]
    fn nothing_behind(
        &mut self,
        layout: &Layout,
        newest: &Entry,
        flash: &mut impl FlashRead,
        keys: &mut impl KeyStore,
    ) -> bool {
        let next = Place {
            entry: newest.place.entry.saturating_add(1),
            ..newest.place
        };
        let other = start(newest.place.half.other());
        let older = |entry: Entry| entry.is_witnessed() && entry.sequence < newest.sequence;
        if next.entry < entries(layout) && !is_blank(layout, next, flash) {
            return false;
        }
        let mut state = State::none();
        is_blank(layout, other, flash)
            || self
                .read(layout, other, &mut state, flash, keys)
                .is_some_and(older)
    }

    /// Reads a record, and its state into `state`; `None` where it is not authentic.
    #[inline(never)]
    fn read(
        &mut self,
        layout: &Layout,
        place: Place,
        state: &mut State,
        flash: &mut impl FlashRead,
        keys: &mut impl KeyStore,
    ) -> Option<Entry> {
        let address = address(layout, place)?;
        flash.read(address, &mut self.record).ok()?;
        let sequence = decode(&self.record, state, keys)?;
        let behind = address.checked_add(RECORD_LEN)?;
        let witness = match content(flash, behind, witness_len(layout.program_unit())) {
            Content::Blank => Witness::Blank,
            Content::Zero => Witness::Complete,
            // One that cannot be read was begun: the sector was erased before the record.
            Content::Other => Witness::Begun,
        };
        Some(Entry {
            place,
            sequence,
            witness,
        })
    }

    /// A second look at the record that holds: zero where it is authentic and its state is `state`.
    #[inline(never)]
    pub(crate) fn difference(
        &mut self,
        layout: &Layout,
        state: &State,
        flash: &mut impl FlashRead,
        keys: &mut impl KeyStore,
    ) -> u32 {
        let Some(address) = self.newest.and_then(|place| address(layout, place)) else {
            return u32::MAX;
        };
        if flash.read(address, &mut self.record).is_err() {
            return u32::MAX;
        }
        let (maced, mac) = self.record.split_at(MACED);
        let authentic = difference(&keys.cmac(MacKeyId::Journal, maced), mac);
        let recorded = maced.get(STATE_AT..).unwrap_or(&[]);
        #[cfg(feature = "deliberate-bugs")]
        let authentic = if bugs::has(Bug::UncheckedRecord) {
            0
        } else {
            authentic
        };
        authentic | difference(&state.encode(), recorded)
    }

    /// The sequence of the newest record, begun or found: no two power cycles that have written
    /// share one.
    #[must_use]
    pub const fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Whether a record of this power cycle is durable.
    #[must_use]
    pub const fn has_written(&self) -> bool {
        self.append.is_some()
    }

    /// Whether a write is under way.
    #[must_use]
    pub const fn is_writing(&self) -> bool {
        self.write.is_some()
    }

    /// Starts to write `state`. A write under way is replaced only when it has ended: the caller
    /// starts one at a time.
    pub fn write(&mut self, layout: &Layout, state: &State, keys: &mut impl KeyStore) {
        // A torn record of the power cycle before, that could not be read, has the next number: the
        // first write of a power cycle leaves it behind.
        let step = if self.append.is_none() { 2 } else { 1 };
        self.sequence = self.sequence.saturating_add(step);
        encode(&mut self.record, self.sequence, state, keys);
        let (step, place) = match self.append {
            Some(place) if place.entry < entries(layout) => (Step::Record, place),
            Some(place) => (Step::Erase, start(place.half.other())),
            None => (
                Step::Erase,
                start(self.keep.map_or(Half::First, Half::other)),
            ),
        };
        self.write = Some(Write {
            step,
            place,
            second_try: false,
        });
    }

    /// The operation that the write needs now.
    #[must_use]
    pub fn op(&self, layout: &Layout) -> Option<FlashOp<'_>> {
        let write = self.write?;
        let region = region(layout, write.place.half);
        let address = address(layout, write.place)?;
        Some(match write.step {
            Step::Erase => FlashOp::Erase {
                address: region.address,
                len: region.len,
            },
            Step::Record => FlashOp::Program {
                address,
                bytes: &self.record,
            },
            Step::Witness => FlashOp::Program {
                address: address.checked_add(RECORD_LEN)?,
                bytes: self
                    .witness
                    .get(..usize::try_from(witness_len(layout.program_unit())).ok()?)?,
            },
        })
    }

    /// The operation of [`Journal::op`] ended.
    pub fn on_done(&mut self, result: Result<(), FlashError>) -> Written {
        let Some(mut write) = self.write.take() else {
            return Written::NotYet;
        };
        match (result, write.step) {
            (Ok(()), Step::Erase) => write.step = Step::Record,
            (Ok(()), Step::Record) => write.step = Step::Witness,
            (Ok(()), Step::Witness) => {
                self.keep = Some(write.place.half);
                self.newest = Some(write.place);
                self.append = Some(Place {
                    half: write.place.half,
                    entry: write.place.entry.saturating_add(1),
                });
                return Written::Durable;
            }
            (Err(FlashError), _) if write.second_try => {
                self.append = None;
                return Written::Failed;
            }
            (Err(FlashError), _) => {
                // The half with the newest witnessed record stays; the other is begun anew.
                write = Write {
                    step: Step::Erase,
                    place: start(self.keep.map_or(write.place.half, Half::other)),
                    second_try: true,
                };
            }
        }
        self.write = Some(write);
        Written::NotYet
    }
}

/// Writes the first record of a new ECU into the first half; both halves are erased.
pub(crate) fn initialise(
    layout: &Layout,
    state: &State,
    keys: &mut impl KeyStore,
    perform: &mut impl FnMut(FlashOp<'_>) -> Result<(), FlashError>,
) -> Result<(), FlashError> {
    let [first, _] = layout.journal();
    let mut record = [0; RECORD_LEN as usize];
    encode(&mut record, 1, state, keys);
    perform(FlashOp::Program {
        address: first.address,
        bytes: &record,
    })?;
    let len = usize::try_from(witness_len(layout.program_unit())).unwrap_or(usize::MAX);
    perform(FlashOp::Program {
        address: first.address.saturating_add(RECORD_LEN),
        bytes: WITNESS.get(..len).unwrap_or(&WITNESS),
    })
}

#[cfg(test)]
mod tests;
