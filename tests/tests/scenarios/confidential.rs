//! Firmware in plaintext is in the ECUs' slots alone: not in what the OEM publishes, not in the TCU's
//! storage, not on the bus.

use std::fs;
use std::path::{Path, PathBuf};

use rig::bench::NewApp;
use rig::vehicle::ECUS;

/// What is looked for: long enough not to occur by chance, short enough to lie in one block.
const PIECE: usize = 24;

#[test]
fn plaintext_is_in_the_slots_alone() {
    e2e::on_bench(|bench| {
        bench.release("secret", &NewApp::good("2.0.0", 2))?;
        bench.install()?;
        let folder = bench.folder();
        let brake = ECUS[0];
        let slots = fs::read(folder.join(format!("{}.nor", brake.name)))?;
        let program = fs::read(folder.join(format!("{}-2.0.0.elf", brake.hardware_id)))?;
        let pieces = pieces_in(&program, &slots);
        assert!(
            pieces.len() >= 8,
            "what is installed is not what was packed"
        );

        let places = ["oem/metadata", "oem/director", "oem/targets", "tcu-state"];
        for file in places.iter().flat_map(|place| files(&folder.join(place))) {
            nowhere_in(&pieces, &fs::read(&file)?, &file.display().to_string());
        }
        let log = fs::read_to_string(folder.join(format!("{}.candump", brake.bus)))?;
        let carried = payload(&log, brake.request_id);
        nowhere_in(&pieces, &carried, "the log of the bus");

        // It would have been found: the encrypted image is there.
        let artifacts = files(&folder.join("oem/targets"));
        let artifacts: Vec<_> = artifacts
            .iter()
            .map(|file| fs::read(file).unwrap())
            .collect();
        let seen = artifacts
            .iter()
            .any(|image| pieces_in(image, &carried).len() >= 8);
        assert!(seen, "the log of the bus is not understood");
        Ok(())
    });
}

/// Pieces of `whole` that occur in `other`, from different places, none of them monotonous.
fn pieces_in<'b>(whole: &'b [u8], other: &[u8]) -> Vec<&'b [u8]> {
    let pieces = whole
        .chunks(1024)
        .filter_map(|chunk| chunk.get(512..512 + PIECE));
    let varied = pieces.filter(|piece| {
        let mut bytes = piece.to_vec();
        bytes.sort_unstable();
        bytes.dedup();
        bytes.len() > PIECE / 2
    });
    varied.filter(|piece| contains(other, piece)).collect()
}

fn contains(bytes: &[u8], piece: &[u8]) -> bool {
    bytes.windows(piece.len()).any(|window| window == piece)
}

fn nowhere_in(pieces: &[&[u8]], bytes: &[u8], place: &str) {
    let found = pieces.iter().any(|piece| contains(bytes, piece));
    assert!(!found, "plaintext in {place}");
}

/// All files below a folder; one that is not there is a mistake of the test.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        })
        .collect()
}

/// The payload of ISO-TP messages under `id` on a classical bus, in order.
fn payload(log: &str, id: u16) -> Vec<u8> {
    let marker = format!(" {id:03X}#");
    let frames = log.lines().filter_map(|line| line.split_once(&marker));
    let frames = frames.map(|(_, data)| {
        (0..data.len() / 2)
            .map_while(move |at| u8::from_str_radix(data.get(2 * at..2 * at + 2)?, 16).ok())
    });
    frames
        .flat_map(|frame| {
            let frame: Vec<u8> = frame.collect();
            let start = match frame.first().map(|pci| pci >> 4) {
                Some(1) => 2,
                _ => 1,
            };
            frame.get(start..).map(<[u8]>::to_vec).unwrap_or_default()
        })
        .collect()
}
