//! Hands each bare-metal binary its linker script.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let bare = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    println!("cargo::rerun-if-changed=build.rs");
    if bare {
        let script = format!("{folder}/mps2-an386/link.x");
        println!("cargo::rerun-if-changed={script}");
        println!("cargo::rustc-link-arg-bin=mps2-an386=-T{script}");
    }
}
