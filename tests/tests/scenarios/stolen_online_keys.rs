//! All online keys are stolen.

#[test]
fn online_keys_cannot_bring_an_image() {
    e2e::play("stolen-online-keys");
}
