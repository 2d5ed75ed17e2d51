//! The TCU is killed while flashing.

#[test]
fn a_killed_tcu_resumes() {
    e2e::play("tcu-kill");
}
