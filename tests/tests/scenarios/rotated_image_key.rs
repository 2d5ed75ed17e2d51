//! The key of images is replaced, in the repository and in every ECU.

#[test]
fn ecus_take_a_new_image_key_with_an_update() {
    e2e::play("rotated-image-key");
}
