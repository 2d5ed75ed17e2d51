//! A mirror shows a state whose timestamp has expired.

#[test]
fn an_expired_timestamp_changes_nothing() {
    e2e::play("frozen-mirror");
}
