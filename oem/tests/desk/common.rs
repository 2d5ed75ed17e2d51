//! A desk: a repository with RSA-2048 keys, generated once per test binary and copied for each
//! test, and a vehicle of two ECUs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use campaign::{UnixTime, ids::Vin};
use ecu_image::{Cipher, LogicalBlock, PageSize, SlotSet};
use oem::{
    Error,
    firmware::Format,
    init::{InitOptions, init},
    pack::{PackOptions, pack_file},
    release::{ReleaseOptions, Summary, release},
    repo::Repo,
    vehicle,
};
use tempfile::TempDir;

pub(crate) const VIN: &str = "WCANEPUS000000001";

const SPEC: &str = r#"{
  "vin": "WCANEPUS000000001",
  "buses": [
    {"name": "body", "link": "bus:/tmp/body", "bitrate": 500000},
    {"name": "chassis", "link": "can1", "fd": true, "bitrate": 500000, "data_bitrate": 2000000}
  ],
  "ecus": [
    {"name": "door", "bus": "body", "serial": "SN-1", "hardware_id": "hw-a", "request_id": "7E0",
     "response_id": "7E8", "functional_id": "7DF", "heartbeat_id": "500", "floor": 2},
    {"name": "brake", "bus": "chassis", "serial": "SN-2", "hardware_id": "hw-b",
     "request_id": "18DA10F1", "response_id": "18DAF110", "functional_id": "18DB33F1",
     "heartbeat_id": "500"}
  ]
}"#;

pub(crate) fn now() -> UnixTime {
    "2026-11-22T00:00:00Z".parse().unwrap()
}

pub(crate) fn vin() -> Vin {
    VIN.parse().unwrap()
}

/// A repository and a vehicle in a folder of their own.
pub(crate) struct Desk {
    dir: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
        let template = TEMPLATE.get_or_init(|| {
            // Nobody removes it: statics are never dropped.
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let options = InitOptions {
                rsa_bits: 2048,
                ..InitOptions::default()
            };
            let repo = init(&dir.path().join("repo"), &options, now()).unwrap();
            fs::write(dir.path().join("spec.json"), SPEC).unwrap();
            vehicle::add(
                &repo,
                &dir.path().join("spec.json"),
                &dir.path().join("out"),
            )
            .unwrap();
            dir
        });
        let dir = tempfile::tempdir().unwrap();
        copy(template.path(), dir.path());
        Self { dir }
    }

    /// A folder with nothing but the vehicle's description.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("spec.json"), SPEC).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn repo_dir(&self) -> PathBuf {
        self.path("repo")
    }

    pub(crate) fn repo(&self) -> Repo {
        Repo::open(&self.repo_dir()).unwrap()
    }

    /// Packs 10 000 bytes for `hardware`.
    pub(crate) fn pack(&self, hardware: &str, version: &str, counter: u32) -> PathBuf {
        self.pack_in(&self.repo(), hardware, version, counter)
    }

    pub(crate) fn pack_in(
        &self,
        repo: &Repo,
        hardware: &str,
        version: &str,
        counter: u32,
    ) -> PathBuf {
        let input = self.path("fw.bin");
        fs::write(&input, [0x5A; 10_000]).unwrap();
        let out = self.path(&format!("{hardware}-{version}.img"));
        let options = PackOptions {
            hardware_id: hardware.parse().unwrap(),
            version: version.parse().unwrap(),
            security_counter: ecu_image::SecurityCounter(counter),
            limp_home: false,
            slots: SlotSet::ALL,
            cipher: Cipher::Aes128Cbc,
            page_size: PageSize::DEFAULT,
            logical_block: LogicalBlock::APPLICATION,
        };
        pack_file(repo, &input, Format::Raw, &options, &out).unwrap();
        out
    }

    pub(crate) fn options(&self, campaign: &str, images: &[PathBuf]) -> ReleaseOptions {
        ReleaseOptions {
            campaign: campaign.parse().unwrap(),
            vins: Vec::new(),
            images: images.to_vec(),
            rules: None,
            allow_downgrade: false,
            valid_days: 30,
            rxswins: Default::default(),
        }
    }

    pub(crate) fn release(&self, campaign: &str, images: &[PathBuf]) -> Result<Summary, Error> {
        release(&self.repo(), &self.options(campaign, images), now())
    }

    /// Every file of the folder `name` with its content.
    pub(crate) fn files(&self, name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        collect(&self.path(name), &mut files);
        files.sort();
        files
    }
}

fn collect(dir: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            let bytes = fs::read(&path).unwrap();
            files.push((path, bytes));
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
