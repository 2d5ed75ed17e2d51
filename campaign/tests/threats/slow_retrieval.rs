//! Slow retrieval. The attacker holds the network and answers as slowly as he likes, or stops in the
//! middle. The verifier believes nothing before it has all, and a retry starts from what was stored; the
//! clock that ends a drip is `tcu`'s (`tcu::fetch::retry::tests::a_drip_ends_with_its_window_and_a_steady_stream_does_not`).

use campaign::{Verification, VerifyError};

use crate::world::{World, name_of, vehicle};

#[test]
fn a_verification_that_never_ends_believes_nothing() {
    let mut world = World::released();
    world.release(2, &[]);
    let vehicle = vehicle();
    // Answers until the transfer stalls; all of them are eight.
    for answers in 0..8 {
        let mut verification = Verification::new(&world.trust, &vehicle, world.now).unwrap();
        for _ in 0..answers {
            let wanted = verification.wanted().unwrap();
            let file = world.files.get(&name_of(&wanted)).map(Vec::as_slice);
            verification.on_document(file).unwrap();
        }
        assert!(verification.wanted().is_some(), "{answers}");
        let refusal = verification.finish().unwrap_err();
        assert!(matches!(refusal, VerifyError::Document { .. }), "{refusal}");
    }
    world.verify().unwrap();
}

#[test]
fn a_file_that_came_too_slowly_has_expired() {
    let mut world = World::released();
    world.release(2, &[]);
    // The clock went on while the attacker sent byte after byte.
    world.now = world.now.plus_days(7);
    assert!(world.verify().unwrap_err().to_string().contains("expired"));
}
