//! The proof: every operation of a life, cut before, inside and after it, and cut again in what
//! follows.
//!
//! The life is lived once without a cut; before each operation (erase, program, raise of the
//! counter) the flash is copied. A cut is a copy in which the operation happened in part. From there
//! the ECU is switched on and the interrupted step goes on to its goal; operations on that way are
//! copied and cut again for pairs. Nothing is ever replayed from the beginning.
//!
//! What is checked at every power-on: [`check`]; that the journal holds the state that was there
//! before the operation or the one being written, and nothing older once the ECU has acted upon it;
//! at the end of a step its goal.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ecu_bootloader::boot::BootReason;
use ecu_bootloader::state::State;
use nor::{Marginal, Nor, Tear, Watched, When};

use crate::bench::{Bench, Change, Recorded, board};
use crate::check::{Kept, check};
use crate::life::{Life, Step, decay, steps};

/// How many torn variants of an operation are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Torn {
    /// A fixed dozen.
    Fixed,
    /// All tears, but at most so many prefixes and missing bits of one operation, spread over it.
    Spread {
        /// Prefixes.
        prefixes: u32,
        /// Missing bits.
        bits: u32,
    },
}

/// How many pairs of cuts are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// None.
    None,
    /// About so many, chosen by the seed.
    Sample(u64),
    /// For each first cut of [`Torn::Fixed`] each second one of a fixed half dozen.
    All,
}

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Torn variants of single cuts.
    pub torn: Torn,
    /// Pairs.
    pub pairs: Pairs,
    /// Chooses samples and the luck of marginal bits.
    pub seed: u64,
    /// How many threads.
    pub threads: usize,
    /// Whether to end at the first violation.
    pub first_only: bool,
}

/// What was run and found.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Operations of the life.
    pub operations: u64,
    /// Cuts before and after an operation.
    pub single: u64,
    /// Cuts inside an operation.
    pub torn: u64,
    /// Further cuts inside operations whose bytes were erased before anything read them: what they
    /// held makes no difference, so they are not run.
    pub unread: u64,
    /// Pairs of cuts.
    pub pairs: u64,
    /// Runs in which something did not hold.
    pub violations: u64,
    /// The first ones, in words.
    pub examples: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.single += other.single;
        self.torn += other.torn;
        self.unread += other.unread;
        self.pairs += other.pairs;
        self.violations += other.violations;
        self.examples.extend(other.examples);
    }

    fn note(&mut self, violation: String) {
        self.violations += 1;
        if self.examples.len() < 20 {
            self.examples.push(violation);
        }
    }
}

const fn inside(tear: Tear, marginal: Marginal) -> When {
    When::Inside { tear, marginal }
}

/// Which bits may be marginal after a tear; of one missing bit half is the same as one.
const fn marginals(tear: Tear) -> &'static [Marginal] {
    match tear {
        Tear::MissingBit { .. } => &[Marginal::None, Marginal::One],
        _ => &Marginal::ALL,
    }
}

/// The fixed dozen of torn variants.
const FIXED: [When; 12] = [
    inside(Tear::Prefix { words: 0 }, Marginal::One),
    inside(Tear::Prefix { words: 0 }, Marginal::Half),
    inside(Tear::Prefix { words: 1 }, Marginal::None),
    inside(Tear::MissingBit { bit: 0 }, Marginal::One),
    inside(Tear::MissingBit { bit: u32::MAX }, Marginal::One),
    inside(Tear::MissingBit { bit: 777 }, Marginal::None),
    inside(Tear::FirstHalf, Marginal::Half),
    inside(Tear::SecondHalf, Marginal::None),
    inside(Tear::EvenBits, Marginal::Half),
    inside(Tear::OddBits, Marginal::None),
    inside(Tear::Seeded(1), Marginal::Half),
    inside(Tear::Seeded(2), Marginal::None),
];

/// Both cuts of a pair are of these.
const PAIRED: [When; 6] = [
    When::Before,
    When::After,
    inside(Tear::Prefix { words: 0 }, Marginal::One),
    inside(Tear::MissingBit { bit: 0 }, Marginal::One),
    inside(Tear::FirstHalf, Marginal::Half),
    inside(Tear::EvenBits, Marginal::None),
];

/// Where a run begins: a power-on.
struct Start {
    nor: Nor,
    counter: u32,
    /// What the journal may hold; anything where nothing was done yet.
    allowed: Option<Vec<Option<State>>>,
}

/// A run that held.
struct Played {
    recorded: Vec<Recorded>,
    state: Option<State>,
    nor: Nor,
    counter: u32,
    watched: Watched,
}

thread_local! {
    /// Where the last panic of this thread was.
    static PANICKED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps panics quiet: a run that panics is a violation, which is reported.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        PANICKED.with_borrow_mut(|place| *place = info.to_string().replace('\n', " "));
    }));
}

/// Power on, check, then the step to its goal.
fn play(life: &Life, step: &Step, kept: &Kept, start: Start, cuts: u32) -> Result<Played, String> {
    let run = || {
        let mut bench = Bench::resumed(board(life.setup.layout), start.nor, start.counter);
        bench.record = Some(Vec::new());
        bench.cuts = cuts;
        if cuts == 0 && step.decays {
            decay(&bench, life);
        }
        let silent = |_| String::from("power was not to fail");
        bench.power_cycle().map_err(silent)?;
        if let Some(allowed) = &start.allowed
            && !allowed.contains(&bench.found)
        {
            return Err(format!(
                "a lost state: the journal has {}",
                brief(bench.found)
            ));
        }
        check(&mut bench, life, kept)?;
        // What was acted upon must be there at the next power-on as well; a trial has few attempts.
        let trial = |target: &ecu_bootloader::BootTarget| target.reason == BootReason::Trial;
        if cuts > 0 && !bench.booted.as_ref().is_some_and(trial) {
            let before = bench.ecu.state().copied();
            bench.power_cycle().map_err(silent)?;
            // Provisioning erases the journal on purpose.
            if kept.provisioned() && bench.found != before {
                let (found, before) = (brief(bench.found), brief(before));
                return Err(format!("a lost state: {found} instead of {before}"));
            }
            check(&mut bench, life, kept)?;
        }
        (step.act)(&mut bench, life).map_err(|failed| format!("the step failed: {failed:?}"))?;
        let state = bench.ecu.state().copied();
        if !state.as_ref().is_some_and(|state| (step.goal)(state, life)) {
            return Err(format!("the goal is missed: {}", brief(state)));
        }
        bench.power_cycle().map_err(silent)?;
        check(&mut bench, life, kept)?;
        let recorded = bench.record.take().unwrap_or_default();
        let nor = bench.nor.borrow();
        Ok(Played {
            recorded,
            state: bench.ecu.state().copied(),
            nor: nor.fork().map_err(|error| error.to_string())?,
            counter: bench.counter.get(),
            watched: nor.watched(),
        })
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(PANICKED.with_borrow(Clone::clone)))
}

/// A state in a few words.
fn brief(state: Option<State>) -> String {
    let Some(state) = state else {
        return String::from("nothing");
    };
    format!(
        "[confirmed {:?}, A {:?}, B {:?}, {:?}, grant {}, floor {}]",
        state.confirmed,
        state.a.state,
        state.b.state,
        state.progress,
        state.grant_sequence.0,
        state.floor.0
    )
}

/// A step of the undisturbed life.
struct Trunk {
    step: Step,
    kept: Kept,
    recorded: Vec<Recorded>,
    end: Option<State>,
}

fn live(life: &Life) -> Result<Vec<Trunk>, String> {
    let mut start = (Nor::in_memory(life.setup.geometry.clone()), 0);
    let mut state = None;
    let mut trunk = Vec::new();
    for step in steps() {
        let keeps_sealed = life.setup.layout.has_b() && !step.decays;
        let kept = Kept::of(state.as_ref(), start.1, keeps_sealed);
        let begin = Start {
            nor: start.0,
            counter: start.1,
            allowed: None,
        };
        let played = play(life, &step, &kept, begin, 0)
            .map_err(|error| format!("{}, without a cut: {error}", step.name))?;
        state = played.state;
        start = (played.nor, played.counter);
        trunk.push(Trunk {
            step,
            kept,
            recorded: played.recorded,
            end: played.state,
        });
    }
    Ok(trunk)
}

/// What the journal may hold after a cut of operation `index`: the state before, also an older one
/// while the ECU has not acted since power-on, and the one being written.
fn allowed(
    recorded: &[Recorded],
    index: usize,
    end: Option<State>,
    older: Option<&[Option<State>]>,
) -> Vec<Option<State>> {
    let operation = &recorded[index];
    let mut allowed = vec![operation.state];
    if !operation.observed {
        allowed.extend(older.unwrap_or(&[]));
    }
    if operation.journal {
        let later = recorded[index..].iter().map(|later| later.state);
        let next = later.chain([end]).find(|state| *state != operation.state);
        allowed.extend(next);
    }
    allowed
}

/// The chip after a cut of this operation; `None` where there is no such cut.
fn cut(operation: &Recorded, when: When, luck: u64) -> Option<(Nor, u32)> {
    let mut nor = operation.nor.fork().expect("a chip in memory");
    nor.seed(luck);
    let range = match &operation.change {
        Change::Counter { to } => {
            let counter = match when {
                When::Before => operation.counter,
                When::After => *to,
                When::Inside { .. } => return None,
            };
            return Some((nor, counter));
        }
        Change::Erase { address } => {
            nor.arm(nor::Cut { operation: 0, when });
            assert!(nor.erase(*address).is_err());
            let sector = nor.geometry().sector_of(*address);
            sector.map_or(0..0, |sector| sector.start..sector.end())
        }
        Change::Program { address, bytes } => {
            nor.arm(nor::Cut { operation: 0, when });
            assert!(nor.program(*address, bytes).is_err());
            *address..*address + bytes.len() as u32
        }
    };
    nor.watch(range);
    Some((nor, operation.counter))
}

fn mix(numbers: &[u64]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325;
    for number in numbers {
        hash = (hash ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        hash ^= hash >> 29;
    }
    hash
}

struct Worker<'a> {
    life: &'a Life,
    plan: &'a Plan,
    trunk: Vec<Trunk>,
    tally: Tally,
    /// One of so many pairs is run.
    one_of: u64,
}

impl Worker<'_> {
    /// Every cut of one operation of the life.
    fn operation(&mut self, step: usize, index: usize) {
        let mut gone = true;
        for (number, when) in [When::Before, When::After].iter().chain(&FIXED).enumerate() {
            let watched = self.single(step, index, *when, number as u64);
            gone &= !matches!(when, When::Inside { .. }) || watched == Some(Watched::Gone);
        }
        if let Torn::Spread { prefixes, bits } = self.plan.torn {
            self.all_tears(step, index, prefixes, bits, gone);
        }
        if self.plan.pairs != Pairs::None {
            for (number, when) in PAIRED.iter().enumerate() {
                self.pairs(step, index, *when, number as u64);
            }
        }
    }

    fn all_tears(&mut self, step: usize, index: usize, prefixes: u32, bits: u32, gone: bool) {
        let operation = &self.trunk[step].recorded[index];
        let extent = match &operation.change {
            Change::Counter { .. } => return,
            Change::Erase { address } => operation.nor.extent_of_erase(*address),
            Change::Program { address, bytes } => operation.nor.extent_of_program(*address, bytes),
        };
        let extent = extent.expect("it was performed");
        if gone {
            let all = extent.tears().map(|tear| marginals(tear).len() as u64);
            self.tally.unread += all.sum::<u64>().saturating_sub(FIXED.len() as u64);
            return;
        }
        let seed = mix(&[self.plan.seed, step as u64, index as u64]);
        for (number, tear) in extent.tears_within(prefixes, bits, seed).enumerate() {
            for marginal in marginals(tear) {
                self.single(step, index, inside(tear, *marginal), 100 + number as u64);
            }
        }
    }

    fn start(&self, step: usize, index: usize, when: When, luck: u64) -> Option<Start> {
        let trunk = &self.trunk[step];
        let (nor, counter) = cut(&trunk.recorded[index], when, luck)?;
        // A new ECU has nothing to lose before it is provisioned.
        let bound = trunk.recorded[index].state.is_some();
        let allowed = allowed(&trunk.recorded, index, trunk.end, None);
        Some(Start {
            nor,
            counter,
            allowed: bound.then_some(allowed),
        })
    }

    fn single(&mut self, step: usize, index: usize, when: When, number: u64) -> Option<Watched> {
        let luck = mix(&[self.plan.seed, step as u64, index as u64, number]);
        let start = self.start(step, index, when, luck)?;
        match when {
            When::Inside { .. } => self.tally.torn += 1,
            _ => self.tally.single += 1,
        }
        let trunk = &self.trunk[step];
        match play(self.life, &trunk.step, &trunk.kept, start, 1) {
            Ok(played) => Some(played.watched),
            Err(error) => {
                let what = describe(self.life, trunk, &[(&trunk.recorded, index, when)]);
                self.tally.note(format!("{what}: {error}"));
                None
            }
        }
    }

    fn pairs(&mut self, step: usize, index: usize, when: When, number: u64) {
        let luck = mix(&[self.plan.seed, step as u64, index as u64, number, 2]);
        let Some(start) = self.start(step, index, when, luck) else {
            return;
        };
        let older = start.allowed.clone();
        let trunk = &self.trunk[step];
        // A first cut that does not hold alone was reported.
        let Ok(first) = play(self.life, &trunk.step, &trunk.kept, start, 1) else {
            return;
        };
        for again in 0..first.recorded.len() {
            for (number, second) in PAIRED.iter().enumerate() {
                let luck = mix(&[luck, again as u64, number as u64]);
                if !luck.is_multiple_of(self.one_of) {
                    continue;
                }
                let Some((nor, counter)) = cut(&first.recorded[again], *second, luck) else {
                    continue;
                };
                let bound = first.recorded[again].state.is_some() && older.is_some();
                let allowed = allowed(&first.recorded, again, first.state, older.as_deref());
                let start = Start {
                    nor,
                    counter,
                    allowed: bound.then_some(allowed),
                };
                self.tally.pairs += 1;
                let trunk = &self.trunk[step];
                let result = play(self.life, &trunk.step, &trunk.kept, start, 2);
                if let Err(error) = result {
                    let cuts: [Cut<'_>; 2] = [
                        (&trunk.recorded, index, when),
                        (&first.recorded, again, *second),
                    ];
                    let what = describe(self.life, trunk, &cuts);
                    self.tally.note(format!("{what}: {error}"));
                }
            }
        }
    }
}

type Cut<'a> = (&'a [Recorded], usize, When);

fn describe(life: &Life, trunk: &Trunk, cuts: &[Cut<'_>]) -> String {
    let cuts: Vec<String> = cuts
        .iter()
        .map(|(recorded, index, when)| format!("{when:?} {index} ({})", recorded[*index].change))
        .collect();
    format!(
        "{}, {}, {}",
        life.name,
        trunk.step.name,
        cuts.join(", then ")
    )
}

/// Runs the plan on one life; `progress` is told operations done and all.
///
/// # Errors
/// The life itself fails without a cut.
pub fn run(
    life: &Life,
    plan: &Plan,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Tally, String> {
    quiet_panics();
    let trunk = live(life)?;
    let items: Vec<(usize, usize)> = trunk
        .iter()
        .enumerate()
        .flat_map(|(step, trunk)| (0..trunk.recorded.len()).map(move |index| (step, index)))
        .collect();
    // About how many pairs there are, to sample them evenly.
    let follow: usize = trunk.iter().map(|trunk| trunk.recorded.len().pow(2)).sum();
    let all = (follow * PAIRED.len() * PAIRED.len()) as u64;
    let one_of = match plan.pairs {
        Pairs::Sample(wanted) => all / wanted.max(1),
        Pairs::None | Pairs::All => 1,
    };
    drop(trunk);
    let total = Mutex::new(Tally {
        operations: items.len() as u64,
        ..Tally::default()
    });
    let next = AtomicUsize::new(0);
    let work = || {
        let Ok(trunk) = live(life) else { return };
        let mut worker = Worker {
            life,
            plan,
            trunk,
            tally: Tally::default(),
            one_of: one_of.max(1),
        };
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((step, index)) = items.get(at) else {
                break;
            };
            worker.operation(*step, *index);
            progress(at + 1, items.len());
            if plan.first_only && worker.tally.violations > 0 {
                next.store(items.len(), Ordering::Relaxed);
            }
        }
        let mut total = total.lock().expect("no worker panics");
        total.add(worker.tally);
    };
    std::thread::scope(|scope| {
        for _ in 0..plan.threads.max(1) {
            scope.spawn(work);
        }
    });
    let _ = std::panic::take_hook();
    Ok(total.into_inner().expect("no worker panics"))
}
