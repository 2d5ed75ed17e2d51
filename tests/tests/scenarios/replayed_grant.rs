//! The director's statement of last year once more.

#[test]
fn a_spent_grant_changes_nothing() {
    e2e::play("replayed-grant");
}
