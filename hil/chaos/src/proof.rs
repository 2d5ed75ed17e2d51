//! The proof: every single interruption of a campaign, and seeded pairs of them.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tcu::engine::CampaignState;
use uds::time::Duration;
use virtual_ecu::hardware::ChipModel;

use crate::check::{Images, check_end};
use crate::disk::Loss;
use crate::vehicle::{Campaign, Factory, Interruption, Oem, World, good_of};

/// Pages of an image.
pub const PAGES: u32 = 8;
/// Bytes of a page.
pub const PAGE: u32 = 1024;
/// Pages in an erase sector of the ECUs' flash.
pub const PAGES_PER_SECTOR: u32 = 2;
/// ECUs: the first on a classical bus, the others on one of CAN FD.
pub const ECUS: u16 = 3;
/// Pages that one interruption may cost an ECU.
pub const RESENT_BOUND: u32 = PAGES_PER_SECTOR + 1;

/// What every run begins with.
#[derive(Debug)]
pub struct Setup {
    factories: Vec<Factory>,
    campaign: Campaign,
    images: Images,
}

impl Setup {
    /// The same for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut oem = Oem::new(seed).with_pages_of(PAGE);
        let size = (PAGES * PAGE - 100) as usize;
        let old = good_of(&mut oem, (1, 0, 0), 1, size);
        let new = good_of(&mut oem, (2, 0, 0), 2, size);
        let factories: Vec<Factory> = (0..ECUS)
            .map(|index| {
                let seed = seed.wrapping_add(index.into());
                let bus = usize::from(index > 0);
                Factory::new(&mut oem, &old, index, bus, ChipModel::Pages2k8, Some(seed))
            })
            .collect();
        let world = World::of(&factories, seed);
        let mut campaign = world.plan(&mut oem, &new, &[]);
        for ecu in &mut campaign.plan.ecus {
            ecu.from.image = old.digest;
        }
        Self {
            factories,
            campaign,
            images: Images {
                old: old.digest,
                old_version: old.version,
                new: new.digest,
                new_version: new.version,
            },
        }
    }
}

/// What a run that held has counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    /// How the campaign ended.
    pub state: CampaignState,
    /// Frames of the campaign.
    pub frames: u64,
    /// Operations of the journal's disk.
    pub disk: u64,
    /// Operations of each ECU's flash.
    pub flash: Vec<u64>,
    /// Bytes sent again to each ECU; empty where an image was lost and had to be sent again.
    pub resent: Vec<usize>,
    /// Virtual time.
    pub time: Duration,
    /// Interruptions that happened.
    pub happened: usize,
}

thread_local! {
    /// Where the last panic of this thread was.
    static PANICKED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps panics quiet: a run that panics is a violation, which is reported.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        PANICKED.with_borrow_mut(|place| *place = info.to_string().replace('\n', " "));
    }));
}

/// A campaign with these interruptions, each armed when the one before has happened.
///
/// # Errors
/// What does not hold.
pub fn play(setup: &Setup, interruptions: &[Interruption]) -> Result<Played, String> {
    let run = || {
        let mut world = World::of(&setup.factories, 1);
        let flash: Vec<u64> = (0..world.len())
            .map(|ecu| world.flash_operations(ecu))
            .collect();
        let start = world.elapsed();
        world.serve(&setup.campaign);
        world.interrupt(interruptions);
        let state = world.run_service()?;
        let happened = interruptions.len() - world.pending_interruptions();
        let played = Played {
            state,
            frames: world.frames(),
            disk: world.disk_operations(),
            flash: (0..world.len())
                .map(|ecu| world.flash_operations(ecu) - flash[ecu])
                .collect(),
            resent: (0..world.len()).map(|ecu| world.resent(ecu)).collect(),
            time: world.elapsed().saturating_sub(start),
            happened,
        };
        check_end(&mut world, &setup.images, state)?;
        if state != CampaignState::Completed
            && !interruptions
                .iter()
                .any(|fault| fault.may_fail_a_campaign())
        {
            return Err(format!("it ended {state:?}: {:?}", world.failures()));
        }
        if interruptions.iter().any(|fault| fault.loses_an_image()) {
            return Ok(Played {
                resent: Vec::new(),
                ..played
            });
        }
        let bound = interruptions.len() * (RESENT_BOUND * PAGE) as usize;
        match played.resent.iter().max() {
            Some(most) if *most > bound => Err(format!("{most} bytes were sent again")),
            _ => Ok(played),
        }
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(PANICKED.with_borrow(Clone::clone)))
}

/// The pauses after which a TCU starts again: before and after sessions have timed out.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(6500)];
/// How long a bus is off: shorter than any timeout, longer than N_As and P2, longer than S3.
const OFF: [Duration; 3] = [
    Duration::from_millis(40),
    Duration::from_millis(1800),
    Duration::from_secs(12),
];

/// How long an ECU is away: within the patience with it, and beyond.
const AWAY: [Duration; 2] = [Duration::from_secs(8), Duration::from_secs(90)];

/// Every single interruption of the campaign that `base` was.
#[must_use]
pub fn singles(base: &Played) -> Vec<Interruption> {
    let mut all = Vec::new();
    for frame in 0..base.frames {
        let pause = PAUSES[usize::from(!frame.is_multiple_of(2))];
        let loss = Loss::Torn(frame);
        all.push(Interruption::Kill { frame, pause, loss });
        all.push(Interruption::Drop { frame });
        all.push(Interruption::Corrupt { frame });
        all.extend(OFF.map(|time| Interruption::BusOff { frame, time }));
        // Beyond what the proof is about: an image that is lost, an ECU that is away.
        let ecu = usize::try_from(frame).unwrap_or(0) % base.flash.len();
        all.push(Interruption::Crash { ecu, frame });
        all.push(Interruption::Absent {
            ecu,
            frame,
            time: AWAY[usize::from(frame.is_multiple_of(2))],
        });
    }
    for operation in 0..base.disk {
        let losses = [Loss::Nothing, Loss::Unsynced, Loss::Torn(operation)];
        all.extend(losses.map(|loss| Interruption::Disk { operation, loss }));
    }
    for (ecu, operations) in base.flash.iter().enumerate() {
        for operation in 0..*operations {
            all.extend(whens(operation).map(|when| Interruption::Cut {
                ecu,
                operation,
                when,
            }));
        }
    }
    all
}

/// Before, inside and after a flash operation.
fn whens(seed: u64) -> [nor::When; 4] {
    use nor::{Marginal, Tear, When};
    let inside = |tear, marginal| When::Inside { tear, marginal };
    [
        When::Before,
        inside(Tear::Seeded(seed), Marginal::Half),
        inside(Tear::Prefix { words: 1 }, Marginal::One),
        When::After,
    ]
}

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// One of so many single interruptions; 1 is all.
    pub one_of: usize,
    /// Pairs.
    pub pairs: usize,
    /// Chooses samples and pairs.
    pub seed: u64,
    /// How many threads.
    pub threads: usize,
    /// Whether to end at the first violation.
    pub first_only: bool,
}

/// What was run and found.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Single interruptions.
    pub single: usize,
    /// Pairs in which both happened.
    pub pairs: usize,
    /// Pairs whose second one came too late: the campaign was over.
    pub too_late: usize,
    /// Runs that ended on the new images.
    pub completed: usize,
    /// Runs that ended on the old images.
    pub reverted: usize,
    /// Runs in which something did not hold.
    pub violations: usize,
    /// The first ones, in words.
    pub examples: Vec<String>,
    /// The most bytes that one ECU got again in a run, for each interruption of it.
    pub resent_worst: f64,
    /// Bytes sent again, and over how many interruptions and ECUs.
    pub resent: (u64, u64),
    /// Virtual time of all runs.
    pub time: Duration,
}

impl Tally {
    fn note(&mut self, interruptions: &[Interruption], result: Result<Played, String>) {
        let happened = result
            .as_ref()
            .map_or(interruptions.len(), |it| it.happened);
        match (interruptions.len(), happened) {
            (1, _) => self.single += 1,
            (2, 2) => self.pairs += 1,
            _ => self.too_late += 1,
        }
        match result {
            Ok(played) => self.count(interruptions.len(), &played),
            Err(error) => {
                self.violations += 1;
                if self.examples.len() < 20 {
                    self.examples.push(format!("{interruptions:?}: {error}"));
                }
            }
        }
    }

    fn count(&mut self, interruptions: usize, played: &Played) {
        match played.state {
            CampaignState::Completed => self.completed += 1,
            _ => self.reverted += 1,
        }
        self.time += played.time;
        for resent in &played.resent {
            self.resent.0 += *resent as u64;
            self.resent.1 += interruptions as u64;
            self.resent_worst = self.resent_worst.max(*resent as f64 / interruptions as f64);
        }
    }

    /// Bytes sent again on average, for each interruption and ECU.
    #[must_use]
    pub fn resent_mean(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts of a run")]
        let mean = self.resent.0 as f64 / self.resent.1.max(1) as f64;
        mean
    }

    fn add(&mut self, other: Self) {
        self.single += other.single;
        self.pairs += other.pairs;
        self.too_late += other.too_late;
        self.completed += other.completed;
        self.reverted += other.reverted;
        self.violations += other.violations;
        self.examples.extend(other.examples);
        self.resent_worst = self.resent_worst.max(other.resent_worst);
        self.resent.0 += other.resent.0;
        self.resent.1 += other.resent.1;
        self.time += other.time;
    }
}

/// The second interruption of a pair: of any kind, soon after the first more often than late.
fn second(rng: &mut StdRng, base: &Played) -> Interruption {
    let mut within = |most: u64| {
        let bits = rng.random_range(0..=most.max(1).ilog2());
        rng.random_range(0..1_u64 << bits).min(most)
    };
    let (frame, operation) = (within(base.frames), within(base.disk));
    let flash = within(base.flash.iter().copied().max().unwrap_or(0));
    let ecu = rng.random_range(0..base.flash.len());
    let seed = rng.random();
    let loss = Loss::Torn(seed);
    match rng.random_range(0..8) {
        0 | 1 => Interruption::Kill {
            frame,
            pause: PAUSES[rng.random_range(0..PAUSES.len())],
            loss,
        },
        2 => Interruption::Drop { frame },
        3 => Interruption::Corrupt { frame },
        4 => Interruption::BusOff {
            frame,
            time: OFF[rng.random_range(0..OFF.len())],
        },
        5 => Interruption::Disk { operation, loss },
        6 if rng.random_bool(0.3) => Interruption::Crash { ecu, frame },
        6 => Interruption::Absent {
            ecu,
            frame,
            time: AWAY[rng.random_range(0..AWAY.len())],
        },
        _ => Interruption::Cut {
            ecu,
            operation: flash,
            when: whens(seed)[rng.random_range(0..4)],
        },
    }
}

/// Seeded pairs; the same for the same seed.
fn pairs(plan: &Plan, singles: &[Interruption], base: &Played) -> Vec<Vec<Interruption>> {
    let mut rng = StdRng::seed_from_u64(plan.seed);
    (0..plan.pairs)
        .map(|_| {
            let first = singles[rng.random_range(0..singles.len())];
            vec![first, second(&mut rng, base)]
        })
        .collect()
}

/// Runs what is planned. `progress` is told how many runs of how many are over.
///
/// # Errors
/// When even a campaign without interruptions does not hold.
pub fn run(
    setup: &Setup,
    plan: &Plan,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Tally, String> {
    quiet_panics();
    let base = play(setup, &[])?;
    let all = singles(&base);
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let mut chosen = |_: &&Interruption| rng.random_range(0..plan.one_of) == 0;
    let mut runs: Vec<Vec<Interruption>> = all
        .iter()
        .filter(&mut chosen)
        .map(|single| vec![*single])
        .collect();
    runs.extend(pairs(plan, &all, &base));
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..plan.threads.max(1) {
            scope.spawn(|| {
                let own = work(setup, plan, &runs, &next, progress);
                tally
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .add(own);
            });
        }
    });
    Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn work(
    setup: &Setup,
    plan: &Plan,
    runs: &[Vec<Interruption>],
    next: &AtomicUsize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Tally {
    let mut tally = Tally::default();
    while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
        tally.note(run, play(setup, run));
        progress(next.load(Ordering::Relaxed).min(runs.len()), runs.len());
        if plan.first_only && tally.violations > 0 {
            next.store(runs.len(), Ordering::Relaxed);
        }
    }
    tally
}
