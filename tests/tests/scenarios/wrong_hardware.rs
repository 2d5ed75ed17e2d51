//! An ECU was exchanged for another type.

#[test]
fn an_exchanged_ecu_stops_the_campaign_before_any_ecu_is_touched() {
    let report = e2e::play("wrong-hardware");
    e2e::assert_no_transfer(&report);
}
