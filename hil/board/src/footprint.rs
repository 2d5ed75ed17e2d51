//! What the bootloader takes: flash and RAM from its ELF file, stack and instructions from its runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::images::Recipe;
use crate::keys::Keys;
use crate::qemu::Program;
use crate::tester::Bench;

/// What one bare-metal program takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Code, constants and initial values: all that is linked.
    pub flash: u64,
    /// The part of it that is cryptography, by the symbols' crates and modules. What was inlined into
    /// others counts there.
    pub crypto_flash: u64,
    /// Variables, the machine with its page buffers among them.
    pub ram_static: u64,
}

/// What runs on the emulated board have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runs {
    /// The most stack that any of them used, in bytes.
    pub stack: u64,
    /// Instructions from the last frame of the block that completes grant and header, to its answer.
    pub header_verification: u64,
    /// Instructions for a page: its reception, authentication, decryption.
    pub page: u64,
    /// Bytes of that page.
    pub page_bytes: usize,
    /// Instructions from the start to the decision to boot 256 KiB.
    pub boot_256k: u64,
}

/// A target: what the program for it takes, and what it showed where it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// Its name in Rust.
    pub target: String,
    /// Of the program that a product would have.
    pub size: Size,
    /// Of the same with the shell.
    pub runs: Runs,
}

/// Paths of what counts as cryptography.
const CRYPTO: [&str; 16] = [
    "aes::",
    "aes_kw::",
    "block_buffer::",
    "cbc::",
    "cipher::",
    "cmac::",
    "dbl::",
    "digest::",
    "ecu_bootloader::keys::",
    "ecu_image::compact::",
    "ecu_image::crypto::",
    "ecu_image::hash::",
    "ecu_image::montgomery::",
    "ecu_image::pss::",
    "sha2::",
    "subtle::",
];

fn tool(name: &str, args: &[&str], program: &Path) -> Result<String> {
    let output = Command::new(name)
        .args(args)
        .arg(program)
        .output()
        .with_context(|| format!("{name} cannot be started"))?;
    ensure!(output.status.success(), "{name}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Measures an ELF file. The stack's section does not count: its size is the linker script's.
///
/// # Errors
/// It is none.
pub fn size(program: &Path) -> Result<Size> {
    let sections = tool("arm-none-eabi-size", &["-A"], program)?;
    let sizes: BTreeMap<&str, u64> = sections
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?.parse().ok()?))
        })
        .collect();
    let of = |name| sizes.get(name).copied().unwrap_or(0);
    ensure!(of(".text") > 0, "{}: no code", program.display());
    let symbols = tool("arm-none-eabi-nm", &["-S", "-C"], program)?;
    let crypto = symbols.lines().filter_map(crypto_bytes).sum();
    Ok(Size {
        flash: of(".text") + of(".data"),
        crypto_flash: crypto,
        ram_static: of(".data") + of(".bss"),
    })
}

/// The bytes of a symbol in flash that is cryptography.
fn crypto_bytes(line: &str) -> Option<u64> {
    let mut words = line.splitn(4, ' ');
    let (_, size, kind, name) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let path = name.trim_start_matches('<');
    let ours = CRYPTO.iter().any(|start| path.starts_with(start));
    let words = ["<u16 as aes::", "<u64 as aes::"];
    let word = words.iter().any(|start| name.starts_with(start));
    let in_flash = ["t", "T", "r", "R"].contains(&kind);
    let size = u64::from_str_radix(size, 16).ok()?;
    ((ours || word) && in_flash).then_some(size)
}

/// Plays updates, failures and every seed of `corpora` on the emulated board.
///
/// # Errors
/// The board does something else than it should.
pub fn runs(program: &Program, keys: &Keys, stack: u64, corpora: &Path) -> Result<Runs> {
    let factory = Recipe::new(1, 4096).make(keys, keys)?;
    let flash = crate::flash::provisioned(keys, &factory, 1)?;
    let mut bench = Bench::start(program, keys, &flash)?;
    let image = Recipe::new(2, 256 * 1024).make(keys, keys)?;
    let spent = bench.update(&image)?;
    bench.instructions = 0;
    bench.reset(0, &[])?;
    let boot_256k = bench.instructions;
    bench.fall_back(keys)?;
    bench.suffer(corpora)?;
    Ok(Runs {
        stack: stack - u64::from(bench.free_stack),
        header_verification: spent.metadata.into_iter().max().unwrap_or(0),
        page: spent.pages.into_iter().max().unwrap_or(0),
        page_bytes: image.page_size,
        boot_256k,
    })
}

/// The report; see the guide of the ECU. Features are those of the first target.
#[must_use]
pub fn report(targets: &[Measured], features: &[(String, Size)]) -> Value {
    let base = targets.first().map_or(0, |first| first.size.flash);
    let target = |Measured { target, size, runs }: &Measured| {
        json!({
            "target": target,
            "flash": size.flash,
            "crypto_flash": size.crypto_flash,
            "ram_static": size.ram_static,
            "stack": runs.stack,
            "heap": 0,
            "instructions": {
                "header_verification": runs.header_verification,
                "page": runs.page,
                "page_bytes": runs.page_bytes,
                "boot_256k": runs.boot_256k,
            },
        })
    };
    let feature = |(name, size): &(String, Size)| json!({"feature": name, "flash": size.flash.cast_signed() - base.cast_signed(), "ram_static": size.ram_static});
    json!({
        "targets": targets.iter().map(target).collect::<Vec<_>>(),
        "features": features.iter().map(feature).collect::<Vec<_>>(),
    })
}

/// What a target may take at most, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Flash.
    pub flash: u64,
    /// Flash for cryptography.
    pub crypto_flash: u64,
    /// Variables and stack.
    pub ram: u64,
}

/// What the bootloader is meant to fit in.
pub const GOAL: Limits = Limits {
    flash: 32 * 1024,
    crypto_flash: 10 * 1024,
    ram: 16 * 1024,
};

/// What passes a limit.
#[must_use]
pub fn excess(targets: &[Measured], limits: Limits) -> Vec<String> {
    let mut found = Vec::new();
    for Measured { target, size, runs } in targets {
        let ram = size.ram_static + runs.stack;
        for (what, is, may) in [
            ("flash", size.flash, limits.flash),
            ("cryptography", size.crypto_flash, limits.crypto_flash),
            ("RAM", ram, limits.ram),
        ] {
            if is > may {
                found.push(format!("{target}: {what} {is} bytes, more than {may}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_cryptography_by_where_they_come_from() {
        let bytes = |name: &str| crypto_bytes(&format!("00000100 00000010 t {name}"));
        assert_eq!(bytes("sha2::sha256::compress256"), Some(16));
        assert_eq!(bytes("<ecu_image::pss::Verifier>::step"), Some(16));
        assert_eq!(bytes("<u16 as aes::soft::Word>::bitslice"), Some(16));
        assert_eq!(
            bytes("<ecu_bootloader::job::Core<aes::Aes128>>::fail"),
            None
        );
        assert_eq!(crypto_bytes("20000000 00000010 b sha2::buffer"), None);
    }

    #[test]
    fn each_limit_is_its_own() {
        let size = Size {
            flash: 10,
            crypto_flash: 5,
            ram_static: 4,
        };
        let runs = Runs {
            stack: 3,
            header_verification: 0,
            page: 0,
            page_bytes: 0,
            boot_256k: 0,
        };
        let of = |flash, crypto_flash, ram| Limits {
            flash,
            crypto_flash,
            ram,
        };
        let target = "t".to_owned();
        let targets = [Measured { target, size, runs }];
        assert!(excess(&targets, of(10, 5, 7)).is_empty());
        for limits in [of(9, 5, 7), of(10, 4, 7), of(10, 5, 6)] {
            assert_eq!(excess(&targets, limits).len(), 1);
        }
    }
}
