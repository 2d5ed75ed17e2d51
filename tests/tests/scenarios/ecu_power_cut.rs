//! Power fails inside a flash operation.

#[test]
fn a_power_cut_inside_a_flash_operation_is_survived() {
    e2e::play("ecu-power-cut");
}
