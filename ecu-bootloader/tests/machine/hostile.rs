//! A hostile bus: random sequences of requests, frames, silence and resets against the machine on its
//! flash, and floods while an update runs.
//!
//! The bench itself ends the test on any flash operation outside the journal and outside a slot that
//! receives under an accepted grant. Each run prints its seed.

use std::collections::HashMap;
use std::time::Duration;

use ecu_bootloader::boot::ResetCause;
use ecu_bootloader::layout::SlotId;
use ecu_bootloader::mailbox::Request;
use nor::{Cut, Marginal, Tear, When};
use uds::can::{CanId, Format, Frame};

use crate::bench::{Bench, PowerLost, Setup};
use crate::images::{Image, Recipe, recipe};
use crate::tester::Failed;

const SLOT: usize = 64 * 1024;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn millis(&mut self, most: usize) -> Duration {
        Duration::from_millis(self.below(most) as u64)
    }
}

/// Something like a request: known bytes, shortened, lengthened, changed; or nothing like it.
fn request(random: &mut Random, image: &Image) -> Vec<u8> {
    const STARTS: &[&[u8]] = &[
        &[0x10, 1],
        &[0x10, 2],
        &[0x10, 3],
        &[0x11, 1],
        &[0x11, 3],
        &[0x14, 0xFF, 0xFF, 0xFF],
        &[0x22, 0xFD, 0],
        &[0x22, 0xFD, 1, 0xFD, 2],
        &[0x27, 1],
        &[0x27, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x28, 3, 1],
        &[0x2E, 0xF1, 0x5A, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0],
        &[0x31, 1, 0xFF, 0],
        &[0x31, 1, 0xFF, 1],
        &[0x31, 1, 2, 2],
        &[0x31, 1, 2, 3],
        &[0x31, 1, 2, 0x10],
        &[0x31, 1, 2, 0x11],
        &[0x31, 1, 2, 0x12],
        &[0x31, 1, 2, 0x13],
        &[0x34, 0, 0x44, 0xF0, 0, 0, 0, 0, 0, 0x17, 0],
        &[0x34, 1, 0x44, 0, 0, 0, 0, 0, 0, 0x40, 0],
        &[0x34, 1, 0x44, 0, 0, 0x10, 0, 0, 0, 0x30, 0],
        &[0x36, 1],
        &[0x36, 2],
        &[0x37],
        &[0x3E, 0],
        &[0x85, 2],
    ];
    let mut pdu = random.pick(STARTS).to_vec();
    if pdu[0] == 0x36 {
        let metadata = image.metadata();
        let bytes = *random.pick(&[&metadata[..], image.pages()]);
        let at = random.below(bytes.len());
        let len = random.below(4093).min(bytes.len() - at);
        pdu.extend(&bytes[at..at + len]);
    }
    match random.below(8) {
        0 => pdu.truncate(random.below(pdu.len()) + 1),
        1 => pdu.extend(random.bytes(20)),
        2 => {
            let at = random.below(pdu.len());
            pdu[at] = random.next() as u8;
        }
        3 => {
            let len = 1 + random.below(60);
            pdu = random.bytes(len);
        }
        _ => {}
    }
    pdu
}

/// A frame of random bytes, often one that a transfer could contain.
fn frame(random: &mut Random, ids: &[u16]) -> Frame {
    let len = *random.pick(&[1, 2, 3, 8, 8, 8, 12, 24, 64]);
    let mut data = random.bytes(len);
    data[0] = match random.below(4) {
        0 => random.below(8) as u8,
        1 => 0x10 | random.below(16) as u8,
        2 => 0x20 | random.below(16) as u8,
        _ => data[0],
    };
    let id = CanId::standard(*random.pick(ids)).unwrap();
    let format = if len > 8 || random.below(2) == 0 {
        Format::Fd { brs: true }
    } else {
        Format::Classical
    };
    Frame::new(id, format, &data).unwrap()
}

/// A few steps of a tester with the key and a grant, so that later states are reached too.
fn legitimate(bench: &mut Bench, random: &mut Random, image: &Image) -> Result<(), Failed> {
    bench.quiet()?;
    bench.ask(&[0x10, 2])?;
    bench.unlock()?;
    for _ in 0..=random.below(4) {
        match random.below(8) {
            0 => bench.send_metadata(image)?,
            1 => bench.routine(0xFF00)?,
            2 => {
                let from = bench.progress()?.next_offset as usize;
                bench.send_pages(image, from.min(image.pages().len() - 4096))?;
            }
            3 => {
                let from = bench.progress()?.next_offset as usize;
                let rest = image.pages().len() - from;
                bench.request_download(1, from as u32, rest)?;
                bench.block(1, &image.pages()[from..from + 2048])?;
            }
            4 => bench.routine(0x0202)?,
            5 => bench.routine(0xFF01)?,
            6 => bench.stage_unlocked(image)?,
            _ => {
                bench.routine(0x0210)?;
                bench.reset_ecu()?;
                return Ok(());
            }
        }
    }
    Ok(())
}

/// One random thing happens.
fn step(bench: &mut Bench, random: &mut Random, image: &Image) -> Result<(), PowerLost> {
    match random.below(24) {
        0..=7 => {
            let pdu = request(random, image);
            let functional = random.below(4) == 0;
            let time = *random.pick(&[0, 1, 30, 300]);
            bench.attempt(&pdu, functional, Duration::from_millis(time))?;
        }
        8..=13 => {
            for _ in 0..random.below(40) {
                bench.raw_frame(&frame(random, &[0x7E0, 0x7DF, 0x7E8, 0x123]))?;
            }
        }
        14..=16 => bench.pass(random.millis(200))?,
        17 => bench.pass(random.millis(6_000))?,
        18..=20 if bench.booted.is_none() => {
            let ended = legitimate(bench, random, image);
            if ended == Err(Failed::PowerLost) {
                return Err(PowerLost);
            }
        }
        21 if bench.booted.is_some() => {
            let len = random.below(40);
            let message = random.bytes(len);
            bench.ecu.mailbox_request(bench.now, &message);
            bench.pass(Duration::from_millis(5))?;
            while bench.ecu.poll_mailbox().is_some() {}
        }
        22 => {
            let causes = [ResetCause::PowerOn, ResetCause::Software, ResetCause::Crash];
            bench.start(*random.pick(&causes), None)?;
        }
        23 => {
            let operation = bench.nor.borrow().operations() + random.next() % 12;
            let inside = When::Inside {
                tear: Tear::Seeded(random.next()),
                marginal: Marginal::Half,
            };
            let when = *random.pick(&[When::Before, When::After, inside]);
            bench.nor.borrow_mut().arm(Cut { operation, when });
        }
        _ if bench.booted.is_some() => {
            // The application's part: it tests itself, and lets itself be programmed.
            match random.below(3) {
                0 => drop(bench.mailbox(Request::SelfTestPassed)?),
                1 => bench.app(&[0x22, 0xFD, 1]).map(drop)?,
                _ => bench.enter_programming()?,
            }
        }
        _ => {}
    }
    if bench.reset.is_some() {
        bench.follow_reset()?;
    }
    Ok(())
}

fn run(seed: u64, steps: usize) {
    println!("seed {seed:#x}");
    let mut random = Random(seed | 1);
    let setup = Setup::new(random.below(3) > 0);
    let factory = Recipe {
        limp_home: true,
        ..recipe(1)
    };
    let mut bench = Bench::new(&setup, &factory.make(), 1);
    let mut images: Vec<_> = (2..5).map(|number| recipe(number).make()).collect();
    images[0].packed[5000] ^= 1;
    let factory_bytes = bench.slot_bytes(SlotId::Factory, SLOT);
    let mut confirmed: HashMap<[u8; 32], Vec<u8>> = HashMap::new();
    for number in 0..steps {
        let image = random.pick(&images).clone();
        if step(&mut bench, &mut random, &image).is_err() {
            while bench.power_cycle().is_err() {}
        }
        if number % 8 > 0 {
            continue;
        }
        assert_eq!(bench.nor.borrow().violations(), 0);
        assert!(bench.slot_bytes(SlotId::Factory, SLOT) == factory_bytes);
        // An image that is confirmed keeps its bytes as long as it is.
        let state = *bench.ecu.state().expect("a journal");
        assert!(state.floor.get() >= 1);
        let bytes = bench.slot_bytes(state.confirmed, SLOT);
        let digest = state.digest(state.confirmed).0;
        confirmed.retain(|known, _| *known == digest);
        assert!(*confirmed.entry(digest).or_insert_with(|| bytes.clone()) == bytes);
    }
    // Left alone and switched off and on, it starts or answers.
    while bench.power_cycle().is_err() {}
    bench.pass(Duration::from_secs(1)).unwrap();
    if bench.booted.is_none() {
        assert_eq!(bench.request(&[0x3E, 0]).unwrap(), Some(vec![0x7E, 0]));
    }
}

/// CANOPUS_SEEDS and CANOPUS_STEPS make it longer.
#[test]
fn random_sequences_do_no_harm() {
    let number = |name: &str, default| {
        let set = std::env::var(name).ok();
        set.map_or(default, |text| text.parse().expect("a number"))
    };
    let (seeds, steps) = (number("CANOPUS_SEEDS", 12), number("CANOPUS_STEPS", 600));
    for seed in 1..=seeds as u64 {
        run(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), steps);
    }
}

/// Every identifier but the tester's own, and functional requests that ask for nothing: the update
/// does not notice.
#[test]
fn an_update_goes_on_under_a_flood_on_other_identifiers() {
    let mut bench = Bench::new(&Setup::new(true), &recipe(1).make(), 1);
    let mut random = Random(0xF100_D001);
    bench.flood = Some(Box::new(move || {
        let mut noise = frame(&mut random, &[0x001, 0x123, 0x7DE, 0x7E1, 0x7E8, 0x7DF]);
        if noise.id().raw() == 0x7DF {
            let sid = *random.pick(&[0x01, 0x23, 0x35, 0x3E, 0x83, 0xBA]);
            let len = if sid == 0x3E { 2 } else { 7 };
            let data = [len, sid, 0x80, 0, 0, 0, 0, 0];
            noise = Frame::new(noise.id(), Format::Classical, &data).unwrap();
        }
        noise
    }));
    bench.update(&recipe(2).make()).unwrap();
    assert!(bench.flooded > 2000, "{} frames", bench.flooded);
    assert_eq!(bench.nor.borrow().violations(), 0);
}

/// On the tester's own identifiers it may be disturbed for as long as the flood lasts, and no longer.
#[test]
fn a_flood_on_the_testers_identifiers_only_delays_an_update() {
    for seed in 1..=6_u64 {
        println!("seed {seed}");
        let mut bench = Bench::new(&Setup::new(true), &recipe(1).make(), 1);
        let image = recipe(2).make();
        bench.enter_programming().unwrap();
        bench.unlock().unwrap();
        let mut random = Random(seed << 20 | 1);
        bench.flood = Some(Box::new(move || frame(&mut random, &[0x7E0, 0x7DF])));
        for _ in 0..20 {
            let _ = bench.attempt(&[0x3E, 0], false, Duration::from_millis(50));
            let _ = bench.attempt(&image.metadata()[..2000], false, Duration::from_millis(50));
        }
        assert!(bench.flooded > 300, "{} frames", bench.flooded);
        bench.flood = None;
        bench.pass(Duration::from_secs(12)).unwrap();
        bench.quiet().unwrap();
        while bench.reset.is_some() {
            bench.follow_reset().unwrap();
        }
        bench.update(&image).unwrap();
        assert_eq!(bench.nor.borrow().violations(), 0);
    }
}
