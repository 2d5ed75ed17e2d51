//! An image below the floor is released.

#[test]
fn a_lower_security_counter_changes_nothing() {
    e2e::play("downgrade");
}
