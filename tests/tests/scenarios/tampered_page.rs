//! A byte of a page is changed after signing.

#[test]
fn a_page_changed_after_signing_reaches_no_ecu() {
    let report = e2e::play("tampered-page");
    e2e::assert_no_transfer(&report);
}
