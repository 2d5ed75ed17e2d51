//! The main job.

#[test]
fn six_ecus_on_two_buses_get_new_firmware_and_seal_it() {
    let report = e2e::play("update");
    assert_eq!(report.ecus.len(), 6);
    for ecu in &report.ecus {
        assert_eq!(
            (ecu.from.as_str(), ecu.to.as_str()),
            ("1.0.0", "2.0.0"),
            "{}",
            ecu.name
        );
        assert!(
            ecu.bytes >= 400 * 1024,
            "{} got {} bytes",
            ecu.name,
            ecu.bytes
        );
        assert!(ecu.bus_share.is_some(), "{} has no figure", ecu.name);
    }
}
