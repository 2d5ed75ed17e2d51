//! Endless data. The attacker holds the network and answers without end. The vehicle knows a limit before
//! it asks, reads no further, and refuses what is longer.

use campaign::Verification;

use crate::world::{World, name_of, vehicle};

#[test]
fn every_file_has_a_limit_before_it_is_asked_for_and_more_is_refused() {
    let mut world = World::new();
    world.release(1, &[]);
    let vehicle = vehicle();
    let mut asked = 0;
    loop {
        let mut verification = Verification::new(&world.trust, &vehicle, world.now).unwrap();
        for _ in 0..asked {
            let wanted = verification.wanted().unwrap();
            let file = world.files.get(&name_of(&wanted)).map(Vec::as_slice);
            verification.on_document(file).unwrap();
        }
        let Some(wanted) = verification.wanted() else {
            break;
        };
        assert!(wanted.limit <= 4 << 20, "{wanted:?}");
        let endless = vec![b' '; wanted.limit + 1];
        assert!(verification.on_document(Some(&endless)).is_err());
        assert_eq!(verification.wanted(), None, "nothing more is asked for");
        asked += 1;
    }
    assert_eq!(asked, 8);
}
