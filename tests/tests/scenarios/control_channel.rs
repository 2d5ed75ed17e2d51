//! The control channel from release to report, over processes.

#[test]
fn a_deployment_survives_a_killed_tcu_and_is_reported_once_it_is_sealed() {
    let report = e2e::play("control-channel");
    assert_eq!(report.campaign.id, "by-ddi");
}
