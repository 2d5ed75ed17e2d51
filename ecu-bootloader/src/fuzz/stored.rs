//! Hostile bytes as what the ECU has stored.

use super::ecu::keys;
use super::flash::{End, LAYOUT, Ram};
use crate::bytes::Reader;
use crate::journal::{Journal, Written, encode};
use crate::state::{STATE_LEN, State};
use ecu_image::{ImageDigest, SecurityCounter};

/// Takes the data as a state, as the bytes of the journal, and as a script of writes, cuts and
/// resets on a journal.
///
/// Whatever the bytes, they are no state that encodes otherwise, and no journal that anybody without
/// the key has written. Whatever the script, the state found after a reset is the last durable one
/// or the one whose write was cut, and what was found once is never lost.
///
/// # Panics
/// When one of these does not hold.
pub fn journal(data: &[u8]) {
    let bytes = data.first_chunk::<STATE_LEN>();
    if let Some((bytes, state)) = bytes.and_then(|bytes| Some((bytes, State::decode(bytes)?))) {
        assert_eq!(&state.encode(), bytes, "one encoding for a state");
    }
    let mut flash = Ram::blank();
    let len = data.len().min(2 * 2048);
    flash.with(|held| held[..len].copy_from_slice(&data[..len]));
    let (_, found) = Journal::open(&LAYOUT, &mut flash, &mut keys());
    assert!(found.is_none(), "nobody has the journal key");
    script(data);
}

fn state(number: u32) -> State {
    State::provisioned(ImageDigest([7; 32]), SecurityCounter(number))
}

fn script(data: &[u8]) {
    let mut flash = Ram::blank();
    // Authentic records at any place, with any number: what a torn past may have left.
    let mut script = Reader(data);
    let mut newest = None;
    for _ in 0..script.u8().unwrap_or(0) & 3 {
        let (entry, sequence) = (script.u8().unwrap_or(0), script.u8().unwrap_or(0));
        let mut record = [0; 256];
        let state = state(sequence.into());
        encode(&mut record, sequence.into(), &state, &mut keys());
        let at = usize::from(entry & 1) * 2048 + usize::from(entry >> 1) % 7 * 272;
        flash.with(|held| {
            held[at..at + 256].copy_from_slice(&record);
            held[at + 256..at + 272].fill(if entry & 0x80 == 0 { 0 } else { 0xFF });
        });
    }
    let (mut journal, found) = Journal::open(&LAYOUT, &mut flash, &mut keys());
    let mut durable = found.map(|found| found.state);
    if let Some(found) = found.filter(|found| !found.settled) {
        write(&mut journal, &flash, &found.state, None);
    }
    for number in 1000..1040 {
        let Some(op) = script.u8() else { break };
        let cut = (op & 1 == 1).then(|| (op >> 1 & 3, script.u8().unwrap_or(0)));
        let next = state(number);
        let end = write(&mut journal, &flash, &next, cut);
        if end == Written::Durable {
            durable = Some(next);
        } else {
            newest = Some(next);
        }
        if end == Written::Durable && op & 8 == 0 {
            continue;
        }
        let (again, found) = Journal::open(&LAYOUT, &mut flash, &mut keys());
        let held = found.map(|found| found.state);
        assert!(held == durable || held == newest, "{held:?}");
        journal = again;
        if let Some(found) = found.filter(|found| !found.settled) {
            assert_eq!(
                write(&mut journal, &flash, &found.state, None),
                Written::Durable
            );
        }
        durable = held;
        newest = None;
    }
}

/// Writes `state`, cut at an operation and a share of it.
fn write(journal: &mut Journal, flash: &Ram, state: &State, cut: Option<(u8, u8)>) -> Written {
    journal.write(&LAYOUT, state, &mut keys());
    for number in 0..8 {
        let op = journal.op(&LAYOUT).expect("an operation until the end");
        match cut {
            Some((at, share)) if at == number => {
                let _ = flash.perform(op, End::Cut(share));
                return Written::NotYet;
            }
            _ => {}
        }
        let result = flash.perform(op, End::Done);
        match journal.on_done(result) {
            Written::NotYet => {}
            end => return end,
        }
    }
    panic!("a write without end");
}
