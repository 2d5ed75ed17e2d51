//! The vehicle's clock was set back to when a frozen mirror's state was good.

#[test]
fn a_clock_set_back_hides_no_frozen_mirror() {
    e2e::play("clock-set-back");
}
