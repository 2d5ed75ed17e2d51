//! SecurityAccess over resets: attempts, delays, seeds and what they write. The bench's random
//! source is broken: it gives the same bytes for ever.

use std::collections::BTreeSet;
use std::time::Duration;

use ecu_bootloader::access::{FREE_BLOCKS, LAST_BLOCK, delay};
use ecu_bootloader::mailbox::Request;
use nor::{Cut, Marginal, Tear, When};

use crate::bench::{Bench, PowerLost, Setup, key_of};
use crate::images::recipe;

const SEED: [u8; 2] = [0x27, 1];

fn fresh() -> Bench {
    Bench::new(&Setup::new(true), &recipe(1).make(), 1)
}

fn wrong_key() -> Vec<u8> {
    [&[0x27, 2], &[0; 16][..]].concat()
}

/// The NRC of a request, or 0.
fn nrc(bench: &mut Bench, request: &[u8]) -> u8 {
    let response = bench.request(request).unwrap().unwrap();
    if response[0] == 0x7F { response[2] } else { 0 }
}

fn blocks(bench: &Bench) -> u8 {
    bench.ecu.state().unwrap().access_blocks
}

/// Power off and on, and into the programming session.
fn power_cycle(bench: &mut Bench) {
    bench.power_cycle().unwrap();
    bench.enter_programming().unwrap();
}

/// Lets time pass and keeps the session.
fn wait(bench: &mut Bench, time: Duration) {
    let end = bench.now + time;
    while bench.now < end {
        let rest = end.saturating_since(bench.now);
        bench.pass(rest.min(Duration::from_secs(2))).unwrap();
        assert_eq!(bench.request(&[0x3E, 0]).unwrap().unwrap(), [0x7E, 0]);
    }
}

/// Asks for seeds until the delay is over; how long that took.
fn seed_after_delay(bench: &mut Bench) -> (Duration, Vec<u8>) {
    let start = bench.now;
    loop {
        let response = bench.request(&SEED).unwrap().unwrap();
        if response[0] == 0x67 {
            return (bench.now.saturating_since(start), response[2..].to_vec());
        }
        assert_eq!(response, [0x7F, 0x27, 0x37]);
        wait(bench, Duration::from_secs(1));
    }
}

#[test]
fn the_delay_survives_resets_and_ends_by_itself() {
    let mut bench = fresh();
    bench.enter_programming().unwrap();
    for expected in [0x35, 0x35, 0x36] {
        assert_eq!(nrc(&mut bench, &SEED), 0);
        assert_eq!(nrc(&mut bench, &wrong_key()), expected);
    }
    assert_eq!(nrc(&mut bench, &SEED), 0x37);
    assert_eq!(nrc(&mut bench, &wrong_key()), 0x24, "a key without a seed");
    bench.ask(&[0x10, 1]).unwrap();
    bench.ask(&[0x10, 2]).unwrap();
    assert_eq!(
        nrc(&mut bench, &SEED),
        0x37,
        "another session is no way out"
    );
    for _ in 0..3 {
        power_cycle(&mut bench);
        assert_eq!(nrc(&mut bench, &SEED), 0x37, "a reset is no way out");
    }
    let (waited, seed) = seed_after_delay(&mut bench);
    assert!(waited >= Duration::from_secs(9) && waited <= Duration::from_secs(11));
    // The workshop's tester has the key: from here on nothing is left of the attack.
    let key = key_of(&seed);
    assert_eq!(nrc(&mut bench, &[&[0x27, 2], &key[..]].concat()), 0);
    assert_eq!(blocks(&bench), 0);
    power_cycle(&mut bench);
    assert_eq!(nrc(&mut bench, &SEED), 0);
    assert_eq!(nrc(&mut bench, &wrong_key()), 0x35);
}

#[test]
fn the_application_is_no_way_around() {
    let mut bench = fresh();
    let wrong = wrong_key();
    for expected in [0x35, 0x35, 0x36] {
        assert_eq!(bench.app(&SEED).unwrap()[0], 0x67);
        assert_eq!(bench.app(&wrong).unwrap(), [0x7F, 0x27, expected]);
    }
    assert_eq!(bench.app(&SEED).unwrap(), [0x7F, 0x27, 0x37]);
    bench.enter_programming().unwrap();
    assert_eq!(nrc(&mut bench, &SEED), 0x37);
}

/// A tester that is gone after its seed, then another session: its own seed is good, although the
/// change of session comes with the request for it.
#[test]
fn a_seed_outlives_the_change_into_its_own_session() {
    let mut bench = fresh();
    assert_eq!(bench.app(&SEED).unwrap()[0], 0x67);
    let (session, pdu) = (1, &[0x10, 1][..]);
    bench.mailbox(Request::Uds { session, pdu }).unwrap();
    bench.app_unlock().unwrap();
}

/// Guesses for ever, in two ways; the flash operations and the guesses until the last block, and
/// the operations of each power cycle from there on.
#[test]
fn an_attacker_writes_a_bounded_number_of_records() {
    for resets in [false, true] {
        let mut bench = fresh();
        bench.enter_programming().unwrap();
        let operations = |bench: &Bench| bench.nor.borrow().operations();
        let start = operations(&bench);
        let mut guesses = 0;
        while blocks(&bench) < LAST_BLOCK {
            seed_after_delay(&mut bench);
            nrc(&mut bench, &wrong_key());
            guesses += 1;
            if resets {
                power_cycle(&mut bench);
            }
        }
        // A record is a program and its witness; the first of a power cycle erases a sector.
        let records = if resets { 9 } else { 7 };
        let erases = if resets { 9 } else { 1 };
        assert_eq!(operations(&bench) - start, 2 * records + erases);
        assert_eq!(guesses, if resets { 9 } else { 8 });
        for _ in 0..4 {
            let before = operations(&bench);
            let (waited, _) = seed_after_delay(&mut bench);
            assert!(waited >= Duration::from_secs(295), "{waited:?}");
            assert_eq!(nrc(&mut bench, &wrong_key()), 0x36);
            assert_eq!(nrc(&mut bench, &SEED), 0x37);
            // A record for each power cycle, none without a reset.
            let expected = if resets { 3 } else { 0 };
            assert_eq!(operations(&bench) - before, expected);
            if resets {
                power_cycle(&mut bench);
            }
        }
    }
}

#[test]
fn power_cycles_with_seeds_alone_take_blocks_too() {
    let mut bench = fresh();
    let mut waited = Vec::new();
    for _ in 0..11 {
        power_cycle(&mut bench);
        let (time, _) = seed_after_delay(&mut bench);
        waited.push((time + Duration::from_millis(500)).as_secs());
    }
    let expected = (0..=LAST_BLOCK).chain([LAST_BLOCK]);
    let expected: Vec<_> = expected.map(|blocks| delay(blocks).as_secs()).collect();
    assert_eq!(waited, expected);
}

#[test]
fn seeds_in_one_power_cycle_cost_one_record() {
    let mut bench = fresh();
    bench.enter_programming().unwrap();
    let before = bench.nor.borrow().operations();
    let seeds: BTreeSet<_> = (0..500)
        .map(|_| bench.request(&SEED).unwrap().unwrap())
        .collect();
    assert_eq!(seeds.len(), 500);
    assert_eq!(bench.nor.borrow().operations() - before, 3);
}

/// Seeds of two thousand power cycles, some of them cut in the middle of the reservation, torn and
/// not: all different, although the random source says the same each time.
#[test]
fn seeds_never_repeat_with_a_broken_random_source() {
    let mut bench = fresh();
    let mut seeds = BTreeSet::new();
    let mut lost = 0;
    for round in 0..2000_u64 {
        if round % 3 == 1 {
            let when = match round % 4 {
                0 => When::Before,
                1 => When::After,
                _ => When::Inside {
                    tear: Tear::Seeded(round),
                    marginal: [Marginal::Half, Marginal::None, Marginal::One]
                        [round as usize / 4 % 3],
                },
            };
            // Erase, record or witness of the reservation.
            let operation = bench.nor.borrow().operations() + round / 3 % 3;
            bench.nor.borrow_mut().arm(Cut { operation, when });
        }
        match three_seeds(&mut bench, &mut seeds) {
            Ok(()) => {}
            Err(PowerLost) => lost += 1,
        }
        if round % 50 == 49 {
            // A right key now and then, or each power cycle waits for 300 s.
            let _ = bench.power_cycle();
            let _ = bench.power_cycle();
            bench.enter_programming().unwrap();
            bench.unlock().unwrap();
            assert_eq!(blocks(&bench), 0);
        }
        while bench.power_cycle().is_err() {}
    }
    assert!(lost > 100, "{lost} power cuts");
    assert!(seeds.len() > 3900, "{} seeds", seeds.len());
}

/// Three seeds of one power cycle that nobody has seen before.
fn three_seeds(bench: &mut Bench, seeds: &mut BTreeSet<Vec<u8>>) -> Result<(), PowerLost> {
    bench.enter_programming()?;
    let waits = delay(blocks(bench));
    let end = bench.now + waits;
    while bench.now < end {
        bench.pass(Duration::from_secs(4))?;
        bench.request(&[0x3E, 0])?;
    }
    for _ in 0..3 {
        let seed = bench.request(&SEED)?.unwrap();
        assert_eq!(seed[..2], [0x67, 1]);
        assert!(seeds.insert(seed), "a seed repeats");
    }
    Ok(())
}

#[test]
fn an_interrupted_unlocking_does_not_lock_a_workshop_out() {
    let mut bench = fresh();
    for _ in 0..FREE_BLOCKS {
        power_cycle(&mut bench);
        assert_eq!(nrc(&mut bench, &SEED), 0);
    }
    power_cycle(&mut bench);
    bench.unlock().unwrap();
    assert_eq!(blocks(&bench), 0);
}

#[test]
fn a_seed_ends_with_its_session_and_its_key() {
    let mut bench = fresh();
    bench.enter_programming().unwrap();
    let answer = |seed: Vec<u8>| [&[0x27, 2], &key_of(&seed[2..])[..]].concat();
    // The session ends, or is entered again.
    for session in [1, 2] {
        let seed = bench.request(&SEED).unwrap().unwrap();
        bench.ask(&[0x10, session]).unwrap();
        bench.ask(&[0x10, 2]).unwrap();
        assert_eq!(nrc(&mut bench, &answer(seed)), 0x24);
    }
    // A newer seed takes its place; other services do not touch it.
    let old = bench.request(&SEED).unwrap().unwrap();
    let new = bench.request(&SEED).unwrap().unwrap();
    assert_eq!(nrc(&mut bench, &answer(old)), 0x35);
    assert_eq!(nrc(&mut bench, &answer(new)), 0x24, "one key a seed");
    let seed = bench.request(&SEED).unwrap().unwrap();
    bench.ask(&[0x3E, 0]).unwrap();
    bench.ask(&[0x22, 0xF1, 0x8C]).unwrap();
    assert_eq!(nrc(&mut bench, &answer(seed)), 0);
    let zeros = [&[0x67, 1], &[0; 16][..]].concat();
    assert_eq!(bench.request(&SEED).unwrap().unwrap(), zeros);
}

#[test]
fn an_ecu_that_is_not_provisioned_keeps_its_attempts_in_ram() {
    let setup = Setup::new(true);
    let nor = nor::Nor::in_memory(setup.geometry.clone());
    let mut bench = Bench::on(crate::bench::board(setup.layout), nor);
    bench.power_cycle().unwrap();
    bench.enter_programming().unwrap();
    for expected in [0x35, 0x35, 0x36] {
        assert_eq!(nrc(&mut bench, &SEED), 0);
        assert_eq!(nrc(&mut bench, &wrong_key()), expected);
    }
    assert_eq!(nrc(&mut bench, &SEED), 0x37);
    assert_eq!(bench.nor.borrow().operations(), 0);
}
