//! Algorithms can be replaced: a fleet goes from RSA to ECDSA without a workshop.

#[test]
fn a_fleet_goes_from_rsa_to_ecdsa() {
    e2e::play("second-algorithm");
}
