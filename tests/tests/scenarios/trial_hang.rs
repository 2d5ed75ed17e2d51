//! New firmware hangs.

#[test]
fn a_hang_in_trial_returns_every_ecu() {
    e2e::play("trial-hang");
}
