//! What the programming server refuses, under QEMU: how many instructions a wrong access key and a
//! wrong page take, wherever they are wrong.

use anyhow::{Context as _, Result, ensure};
use board::images::{Image, Recipe};
use board::keys::Keys;
use board::qemu::Program;
use board::tester::Bench;
use ecu_bootloader::access;
use uds::service::SecurityLevel;

/// A stage, where it is wrong, and the instructions of its refusal.
pub(crate) type Count = (&'static str, usize, u64);

/// Counts for each stage. Each refusal is asked of an ECU of its own, so that nothing of one is left
/// in the next.
pub(crate) fn count(program: &Program, keys: &Keys) -> Result<Vec<Count>> {
    let factory = Recipe::new(1, 4096).make(keys, keys)?;
    let flash = board::flash::provisioned(keys, &factory, 1)?;
    let image = Recipe::new(2, 8192).make(keys, keys)?;
    let start = || -> Result<Bench> {
        let mut bench = Bench::start(program, keys, &flash)?;
        bench.enter_programming()?;
        Ok(bench)
    };
    let mut counts = Vec::new();
    for at in [0, 7, 15] {
        counts.push(("access", at, access_key(&mut start()?, keys, at)?));
    }
    for at in [0, 1000, image.page_size - 1] {
        counts.push(("page", at, page(&mut start()?, &image, at)?));
    }
    Ok(counts)
}

/// 27 02 with a key that is wrong at byte `at`.
fn access_key(bench: &mut Bench, keys: &Keys, at: usize) -> Result<u64> {
    let seed = bench.ask(&[0x27, 1])?;
    let seed = seed.get(2..).context("no seed")?.try_into()?;
    let mut key = keys
        .access()
        .mac(&access::message(seed, SecurityLevel::ONE));
    key[at] ^= 1;
    let before = bench.instructions;
    let response = bench.request(&[&[0x27, 2], &key[..]].concat())?;
    ensure!(response == Some(vec![0x7F, 0x27, 0x35]), "{response:02X?}");
    Ok(bench.instructions - before)
}

/// 36 of a page that is wrong at byte `at`.
fn page(bench: &mut Bench, image: &Image, at: usize) -> Result<u64> {
    bench.unlock()?;
    bench.send_metadata(image)?;
    bench.routine(0xFF00)?;
    let len = u32::try_from(image.pages().len())?.to_be_bytes();
    bench.ask(&[&[0x34, 1, 0x44, 0, 0, 0, 0], &len[..]].concat())?;
    let mut page = image.pages()[..image.page_size].to_vec();
    page[at] ^= 1;
    let (first, second) = page.split_at(image.page_size / 2);
    bench.ask(&[&[0x36, 1], first].concat())?;
    let before = bench.instructions;
    let response = bench.request(&[&[0x36, 2], second].concat())?;
    ensure!(response == Some(vec![0x7F, 0x36, 0x72]), "{response:02X?}");
    Ok(bench.instructions - before)
}
