//! The guest's initramfs: busybox, our init and the kernel modules, as a cpio archive.
//!
//! The format is "newc" (kernel, `Documentation/driver-api/early-userspace/buffer-format.rst`):
//! a header of 110 ASCII characters, the name with its NUL, the content; each padded to 4 bytes.

use std::path::Path;

use anyhow::{Context, Result};

use super::kernel::Kernel;
use crate::paths;

/// File type and permission bits of the entries.
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// Folders that init expects.
const FOLDERS: [&str; 8] = [
    "bin", "dev", "proc", "sys", "modules", "host", "layer", "new",
];

/// The archive for `kernel`.
///
/// # Errors
/// When busybox, init or a module cannot be read.
pub(super) fn build(kernel: &Kernel) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.add(folder, DIRECTORY, (0, 0), &[]);
    }
    // The kernel opens it for init before anything is mounted.
    archive.add("dev/console", CHARACTER_DEVICE, (5, 1), &[]);
    archive.add("bin/busybox", PROGRAM, (0, 0), &read(&busybox())?);
    archive.add(
        "init",
        PROGRAM,
        (0, 0),
        &read(&paths::root().join("hil/guest/init.sh"))?,
    );
    for module in &kernel.load_order {
        let content = read(&kernel.modules.join(module))?;
        archive.add(&format!("modules/{module}"), PROGRAM, (0, 0), &content);
    }
    let order = kernel.load_order.join("\n") + "\n";
    archive.add("modules/order", PROGRAM, (0, 0), order.as_bytes());
    Ok(archive.finish())
}

fn busybox() -> std::path::PathBuf {
    let candidates = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
    candidates
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or(candidates[0])
        .to_owned()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A cpio archive under construction.
#[derive(Debug, Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: usize,
}

impl Archive {
    /// Adds an entry with the mode bits `mode`; `device` is major and minor of a device node.
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        // Inode, mode, uid, gid, links, time, size, device of the file, device node, name, check.
        let numbers = [
            self.entries,
            mode as usize,
            0,
            0,
            links,
            0,
            content.len(),
            0,
            0,
            device.0 as usize,
            device.1 as usize,
            name.len() + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for number in numbers {
            self.bytes
                .extend_from_slice(format!("{number:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_its_entries_aligned_and_a_trailer() {
        let mut archive = Archive::default();
        archive.add("a", PROGRAM, (0, 0), b"hello");
        let bytes = archive.finish();
        assert_eq!(&bytes[..14], b"07070100000001");
        // 110 of header and "a\0" are aligned already; the content follows.
        assert_eq!(&bytes[110..112], b"a\0");
        assert_eq!(&bytes[112..120], b"hello\0\0\0");
        assert_eq!(&bytes[120..126], b"070701");
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
        assert_eq!(bytes.len() % 4, 0);
    }
}
