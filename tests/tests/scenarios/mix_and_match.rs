//! The image repository of yesterday beside the director of today.

#[test]
fn repositories_that_do_not_belong_together_change_nothing() {
    e2e::play("mix-and-match");
}
