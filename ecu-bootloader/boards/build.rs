//! Hands each bare-metal binary its linker script.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let bare = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    println!("cargo::rerun-if-changed=build.rs");
    // Semihosting traps differ by the profile of the architecture.
    println!("cargo::rustc-check-cfg=cfg(profile_m)");
    if std::env::var("TARGET").is_ok_and(|target| target.starts_with("thumb")) {
        println!("cargo::rustc-cfg=profile_m");
    }
    for board in ["mps2-an386", "cortex-r5"] {
        let script = format!("{folder}/{board}/link.x");
        println!("cargo::rerun-if-changed={script}");
        if bare {
            println!("cargo::rustc-link-arg-bin={board}=-T{script}");
        }
    }
}
