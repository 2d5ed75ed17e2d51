//! Every ECU proves what it runs, and a TCU that says something else is found.

#[test]
fn the_backend_knows_what_was_sealed_and_who_lied() {
    e2e::play("lying-tcu");
}
