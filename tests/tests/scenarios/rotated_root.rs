//! Root, targets and timestamp keys are replaced.

#[test]
fn a_vehicle_follows_new_keys() {
    e2e::play("rotated-root");
}
