//! An image is signed with a key of somebody else.

#[test]
fn a_foreign_signature_reaches_no_ecu() {
    let report = e2e::play("forged-signature");
    assert!(
        report.ecus.iter().all(|ecu| ecu.bytes == 0),
        "{}",
        report.table()
    );
}
