//! The chores of the workspace; see `cargo xtask --help`.

fn main() {}
