//! The guest's kernel: Debian's package, downloaded and unpacked but not installed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::needs;
use crate::process::{output_of, program, run};
use crate::tally::Tally;

/// The package that depends on the current kernel's.
const META_PACKAGE: &str = "linux-image-amd64";

/// What the guest needs of the kernel beyond what is built in: its root file system, CAN, an interface
/// of another kind, and a disk.
const MODULES: [&str; 13] = [
    "virtio_pci",
    "9p",
    "9pnet_virtio",
    "overlay",
    "can",
    "can-raw",
    "can-isotp",
    "can-gw",
    "vcan",
    "dummy",
    "virtio_blk",
    // ext4 asks for it by the algorithm's name, not as a dependency.
    "crc32c_generic",
    "ext4",
];

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    /// The package's name.
    pub(super) name: String,
    /// The bootable image.
    pub(super) image: PathBuf,
    /// The folder of the modules, uncompressed and flat.
    pub(super) modules: PathBuf,
    /// The modules' file names, each after those that it depends on.
    pub(super) load_order: Vec<String>,
}

/// The kernel in `dir/kernel`; downloaded if it is not there.
///
/// # Errors
/// When the package cannot be found, downloaded or unpacked, or lacks a module.
pub(super) fn get(dir: &Path, deadline: Instant, tally: &mut Tally) -> Result<Kernel> {
    let kept = dir.join("kernel");
    if let Some(kernel) = read_kept(&kept) {
        return Ok(kernel);
    }
    let name = package_name()?;
    let work = dir.join("kernel.unpacking");
    if work.exists() {
        std::fs::remove_dir_all(&work)?;
    }
    std::fs::create_dir_all(&work)?;
    let mut download = program("apt-get", &["download", "--quiet", &name]);
    download.current_dir(&work);
    run(download, deadline, tally)?;
    let package = find(&work, &|file| file.ends_with(".deb")).context("no package downloaded")?;
    let mut unpack = program("dpkg-deb", &["--extract"]);
    unpack.arg(&package).arg(work.join("all"));
    run(unpack, deadline, tally)?;
    keep(&name, &work)?;
    if kept.exists() {
        std::fs::remove_dir_all(&kept)?;
    }
    std::fs::rename(work.join("kernel"), &kept)?;
    std::fs::remove_dir_all(&work)?;
    read_kept(&kept).context("the unpacked kernel is incomplete")
}

/// The kernel in `kept`, if it is complete and has every module that is asked for today.
fn read_kept(kept: &Path) -> Option<Kernel> {
    let order = std::fs::read_to_string(kept.join("order")).ok()?;
    let is_there = |module: &str| order.lines().any(|line| line == file_name(module));
    if !MODULES.into_iter().all(is_there) {
        return None;
    }
    Some(Kernel {
        name: std::fs::read_to_string(kept.join("name")).ok()?,
        image: Some(kept.join("vmlinuz")).filter(|image| image.exists())?,
        modules: kept.join("modules"),
        load_order: order.lines().map(str::to_owned).collect(),
    })
}

/// The current kernel package of this Debian release.
fn package_name() -> Result<String> {
    for attempt in 0..2 {
        if attempt > 0 {
            needs::apt_get(&["update", "--quiet"])?;
        }
        let depends = output_of(program("apt-cache", &["depends", META_PACKAGE]));
        let name = depends.as_deref().and_then(|text| {
            text.lines()
                .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        });
        // The lists may be older than what the archive has.
        if let Some(name) = name.map(|version| format!("linux-image-{version}"))
            && output_of(program("apt-get", &["download", "--print-uris", &name])).is_some()
        {
            return Ok(name);
        }
    }
    bail!("apt knows no kernel package: is {META_PACKAGE} in the configured Debian archive?")
}

/// Keeps of the unpacked package in `work` only what the guest needs, in `work/kernel`.
fn keep(name: &str, work: &Path) -> Result<()> {
    let (all, kernel) = (work.join("all"), work.join("kernel"));
    let modules = kernel.join("modules");
    std::fs::create_dir_all(&modules)?;
    let image = find(&all.join("boot"), &|file| file.starts_with("vmlinuz"));
    std::fs::copy(
        image.context("no kernel image in the package")?,
        kernel.join("vmlinuz"),
    )?;
    let mut index = HashMap::new();
    collect_modules(&all, &mut index)?;
    let mut order = Vec::new();
    for module in MODULES {
        resolve(module, &index, &mut order)?;
    }
    let mut names = String::new();
    for (module, content) in order {
        std::fs::write(modules.join(file_name(&module)), content)?;
        names += &file_name(&module);
        names.push('\n');
    }
    std::fs::write(kernel.join("name"), name)?;
    // Last: its presence says that all is there.
    std::fs::write(kernel.join("order"), names)?;
    Ok(())
}

/// Under which name a module is kept.
fn file_name(module: &str) -> String {
    format!("{}.ko", module.replace('-', "_"))
}

/// Adds `module` after what it depends on, each once.
fn resolve(
    module: &str,
    index: &HashMap<String, PathBuf>,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    let module = module.replace('-', "_");
    if order.iter().any(|(name, _)| *name == module) {
        return Ok(());
    }
    let path = index
        .get(&module)
        .with_context(|| format!("the kernel has no module {module}"))?;
    let content = read_module(path)?;
    for dependency in dependencies(&content) {
        resolve(&dependency, index, order)?;
    }
    order.push((module, content));
    Ok(())
}

/// The modules that `content` names in its `.modinfo` section.
fn dependencies(content: &[u8]) -> Vec<String> {
    const TAG: &[u8] = b"\0depends=";
    let Some(start) = content.windows(TAG.len()).position(|window| window == TAG) else {
        return Vec::new();
    };
    let list = content
        .iter()
        .skip(start + TAG.len())
        .take_while(|byte| **byte != 0);
    let list: Vec<u8> = list.copied().collect();
    let list = String::from_utf8_lossy(&list);
    list.split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// All modules below `dir`, by name with `_` for `-`.
fn collect_modules(dir: &Path, index: &mut HashMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            collect_modules(&entry.path(), index)?;
        } else if let Some((module, "ko" | "ko.xz")) = name.split_once('.') {
            index.insert(module.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

/// The content of a module, which newer packages compress.
fn read_module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let output = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(path)
        .output()?;
    if !output.status.success() {
        bail!("xz cannot decompress {}", path.display());
    }
    Ok(output.stdout)
}

/// A file directly in `dir` whose name `matches`.
fn find(dir: &Path, matches: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(dir).ok()?.flatten();
    entries
        .find(|entry| matches(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(dir: &Path, name: &str, depends: &str) -> (String, PathBuf) {
        let path = dir.join(format!("{name}.ko"));
        std::fs::write(&path, format!("ELF\0depends={depends}\0license=GPL\0")).unwrap();
        (name.replace('-', "_"), path)
    }

    #[test]
    fn modules_come_after_what_they_depend_on_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let modules = [("can", ""), ("can-raw", "can"), ("gw", "can,can-raw")];
        let index = modules
            .map(|(name, depends)| module(dir.path(), name, depends))
            .into();
        let mut order = Vec::new();
        resolve("gw", &index, &mut order).unwrap();
        resolve("can-raw", &index, &mut order).unwrap();
        let names: Vec<_> = order.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["can", "can_raw", "gw"]);
    }

    #[test]
    fn a_missing_module_is_named() {
        let error = resolve("vcan", &HashMap::new(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("vcan"));
    }
}
