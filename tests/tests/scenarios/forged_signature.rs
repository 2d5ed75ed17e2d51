//! An image is signed with a key of somebody else.

#[test]
fn a_foreign_signature_reaches_no_ecu() {
    let report = e2e::play("forged-signature");
    e2e::assert_no_transfer(&report);
}
