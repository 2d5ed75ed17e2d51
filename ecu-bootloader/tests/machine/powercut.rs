//! What an interrupted journal record leads to. That power may fail at every operation is proved in
//! `hil/powercut`.

use nor::{Cut, When};

use crate::bench::{Bench, Setup};
use crate::images::recipe;
use crate::tester::Failed;

#[test]
fn a_record_without_witness_is_written_again_before_anything_boots() {
    let setup = Setup::new(true);
    let mut bench = Bench::new(&setup, &recipe(1).make(), 1);
    bench.enter_programming().unwrap();
    bench.unlock().unwrap();
    // Record, and then no witness; the unlocking erased the sector.
    let operation = bench.nor.borrow().operations() + 1;
    bench.nor.borrow_mut().arm(Cut {
        operation,
        when: When::Before,
    });
    let fingerprint = [&[0x2E, 0xF1, 0x5A], &[0x26; 10][..]].concat();
    assert_eq!(bench.ask(&fingerprint), Err(Failed::PowerLost));
    let mut operations = Vec::new();
    for _ in 0..2 {
        let before = bench.nor.borrow().operations();
        bench.power_cycle().unwrap();
        assert_eq!(bench.ecu.state().unwrap().fingerprint, [0x26; 10]);
        operations.push(bench.nor.borrow().operations() - before);
    }
    assert_eq!(
        operations,
        [3, 0],
        "settled once, and an ordinary boot writes nothing"
    );
}
