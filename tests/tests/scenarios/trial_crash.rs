//! New firmware crashes at start.

#[test]
fn a_crash_in_trial_returns_every_ecu() {
    e2e::play("trial-crash");
}
