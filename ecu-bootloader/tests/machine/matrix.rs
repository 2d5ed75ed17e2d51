//! Every service, in every state, physically and functionally addressed: the whole matrix of answers
//! as a snapshot for readers, each of its cells checked by rules that are written down a second time
//! here, from `docs/spec/ecu-profile.md` and the order of ISO 14229-1:2020 figures 5 to 7.

use ecu_bootloader::boot::ResetCause;
use nor::Nor;

use crate::bench::{Bench, Setup, board};
use crate::images::{Image, recipe};

/// What the bootloader is doing when the request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    Default,
    Extended,
    ExtendedUnlocked,
    Programming,
    Unlocked,
    /// A metadata transfer with one block accepted.
    Metadata,
    /// A payload transfer with one block accepted.
    Payload,
    /// An image is staged.
    Staged,
    /// An erase is under way.
    Pending,
}

use Scene::*;

const SCENES: [(Scene, &str); 9] = [
    (Default, "default"),
    (Extended, "extended"),
    (ExtendedUnlocked, "ext+key"),
    (Programming, "prog"),
    (Unlocked, "prog+key"),
    (Metadata, "metadata"),
    (Payload, "payload"),
    (Staged, "staged"),
    (Pending, "pending"),
];

impl Scene {
    fn session(self) -> u8 {
        match self {
            Default => 1,
            Extended | ExtendedUnlocked => 3,
            _ => 2,
        }
    }

    fn unlocked(self) -> bool {
        !matches!(self, Default | Extended | Programming)
    }
}

/// Flash contents that scenes begin with, made once.
struct Stage {
    setup: Setup,
    image: Image,
    provisioned: Nor,
    erased: Nor,
    staged: Nor,
}

impl Stage {
    fn new() -> Self {
        let setup = Setup::new(true);
        let image = recipe(2).make();
        let mut bench = Bench::new(&setup, &recipe(1).make(), 1);
        let provisioned = bench.nor.borrow().fork().unwrap();
        bench.enter_programming().unwrap();
        bench.unlock().unwrap();
        bench.send_metadata(&image).unwrap();
        bench.routine(0xFF00).unwrap();
        let erased = bench.nor.borrow().fork().unwrap();
        bench.send_pages(&image, 0).unwrap();
        bench.routine(0x0202).unwrap();
        let staged = bench.nor.borrow().fork().unwrap();
        Self {
            setup,
            image,
            provisioned,
            erased,
            staged,
        }
    }

    fn enter(&self, scene: Scene) -> Bench {
        let flash = match scene {
            Payload | Pending => &self.erased,
            Staged => &self.staged,
            _ => &self.provisioned,
        };
        let mut bench = Bench::on(board(self.setup.layout), flash.fork().unwrap());
        bench.start(ResetCause::PowerOn, None).unwrap();
        bench.enter_programming().unwrap();
        if scene.session() != 2 {
            bench.ask(&[0x10, scene.session()]).unwrap();
        }
        if scene.unlocked() {
            bench.unlock().unwrap();
        }
        match scene {
            Metadata => {
                let metadata = self.image.metadata();
                bench
                    .request_download(0, 0xF000_0000, metadata.len())
                    .unwrap();
                bench.block(1, &metadata[..100]).unwrap();
            }
            Payload => {
                let pages = self.image.pages();
                bench.request_download(1, 0, pages.len()).unwrap();
                bench.block(1, &pages[..100]).unwrap();
            }
            Pending => bench.send(&[0x31, 1, 0xFF, 0]).unwrap(),
            _ => {}
        }
        bench
    }
}

/// A service as the profile has it: sessions, whether it needs access, whether it is served
/// functionally, its shortest and longest request, and its sub-functions with the length of each.
struct Row {
    sid: u8,
    sessions: &'static [u8],
    secured: bool,
    functional: bool,
    length: (usize, usize),
    subs: &'static [(u8, usize, bool)],
}

const ALL: &[u8] = &[1, 2, 3];
const NOT_DEFAULT: &[u8] = &[2, 3];
const NOT_PROGRAMMING: &[u8] = &[1, 3];
const PROGRAMMING: &[u8] = &[2];
const ANY: usize = usize::MAX;

const fn row(sid: u8, sessions: &'static [u8], subs: &'static [(u8, usize, bool)]) -> Row {
    Row {
        sid,
        sessions,
        secured: false,
        functional: true,
        length: (2, ANY),
        subs,
    }
}

const fn plain(
    sid: u8,
    sessions: &'static [u8],
    secured: bool,
    functional: bool,
    length: (usize, usize),
) -> Row {
    Row {
        sid,
        sessions,
        secured,
        functional,
        length,
        subs: &[],
    }
}

const PROFILE: &[Row] = &[
    row(0x10, ALL, &[(1, 2, true), (2, 2, false), (3, 2, true)]),
    row(0x11, ALL, &[(1, 2, false), (2, 2, false), (3, 2, false)]),
    plain(0x14, NOT_PROGRAMMING, false, false, (4, 4)),
    row(0x19, NOT_PROGRAMMING, &[(1, 3, false), (2, 3, false)]),
    plain(0x22, ALL, false, true, (3, ANY)),
    row(0x27, NOT_DEFAULT, &[(1, 2, false), (2, 18, false)]),
    row(
        0x28,
        NOT_DEFAULT,
        &[(0, 3, true), (1, 3, true), (2, 3, true), (3, 3, true)],
    ),
    plain(0x2E, PROGRAMMING, true, false, (4, ANY)),
    row(0x31, ALL, &[(1, 4, false)]),
    plain(0x34, PROGRAMMING, true, false, (11, 11)),
    plain(0x36, PROGRAMMING, true, false, (2, ANY)),
    plain(0x37, PROGRAMMING, true, false, (1, 1)),
    row(0x3E, ALL, &[(0, 2, true)]),
    row(0x85, NOT_DEFAULT, &[(1, 2, true), (2, 2, true)]),
];

const POSITIVE: u8 = 0;

/// The requests: each service right, too short, too long, and with a parameter that it does not know.
fn requests() -> Vec<Vec<u8>> {
    let mut requests: Vec<Vec<u8>> = [
        "10 01",
        "10 02",
        "10 03",
        "10 83",
        "10 7F",
        "10",
        "10 01 00", //
        "11 01",
        "11 02",
        "11 03",
        "11 04",
        "11",
        "11 01 00", //
        "14 FF FF FF",
        "14 00 00 01",
        "14",
        "14 FF FF",
        "14 FF FF FF 00", //
        "19 01 FF",
        "19 02 FF",
        "19 0A FF",
        "19",
        "19 01",
        "19 01 FF 00", //
        "22 F1 8C",
        "22 FD 00",
        "22 FD 01",
        "22 FD 02",
        "22 12 34",
        "22",
        "22 F1",
        "22 F1 8C F1",
        "22 F1 8C F1 8C F1 8C F1 8C F1 8C F1 8C F1 8C F1 8C F1 8C", //
        "27 01",
        "27 03",
        "27",
        "27 01 00",
        "27 02", //
        "28 00 01",
        "28 83 01",
        "28 04 01",
        "28",
        "28 00",
        "28 00 01 00", //
        "2E 12 34 00",
        "2E",
        "2E F1 5A",
        "2E F1 5A 00", //
        "31 01 02 03",
        "31 01 FF 00",
        "31 01 02 02",
        "31 01 FF 01",
        "31 01 02 10",
        "31 01 02 11",
        "31 01 02 12",
        "31 01 02 13",
        "31 01 77 77",
        "31 02 FF 00",
        "31",
        "31 01 02",
        "31 01 02 03 00", //
        "34 00 44 F0 00 00 00 00 00 17 00",
        "34 00 44 F0 00 00 00 00 00 17 01",
        "34 00 44 00 00 00 00 00 00 17 00",
        "34 01 44 00 00 00 00 00 00 40 00",
        "34 01 44 00 00 10 00 00 00 30 00",
        "34 11 44 F0 00 00 00 00 00 17 00",
        "34 00 33 F0 00 00 00 00 00 17 00",
        "34",
        "34 00 44",
        "34 00 44 F0 00 00 00 00 00 17 00 00", //
        "36 01 00",
        "36 02 00",
        "36 03 00",
        "36",
        "36 01",
        "36 02", //
        "37",
        "37 00", //
        "3E 00",
        "3E 80",
        "3E 01",
        "3E",
        "3E 00 00", //
        "85 01",
        "85 82",
        "85 03",
        "85",
        "85 01 00", //
        // Not served: by this ECU, by this standard, or no request at all.
        "00",
        "01 00",
        "23 11 00 01",
        "2C 01",
        "2F F1 8C 00",
        "35 00 44",
        "3D 11 00 01",
        "83 01",
        "84",
        "86 00",
        "87 01",
        "BA 00",
        "BF",
        "50 01",
        "7F 10 11",
        "FF",
    ]
    .iter()
    .map(|text| hex(text))
    .collect();
    requests.push([&[0x27, 2], &[0; 16][..]].concat());
    requests.push([&[0x27, 2], &[0; 17][..]].concat());
    requests.push([&[0x2E, 0xF1, 0x5A], &[0x26; 10][..]].concat());
    requests.push([&[0x2E, 0xF1, 0x5A], &[0x26; 11][..]].concat());
    // Without a tester's key there is no Authentication.
    requests.push(vec![0x29, 0]);
    requests.sort();
    requests
}

fn hex(text: &str) -> Vec<u8> {
    let bytes = text.split(' ').map(|byte| u8::from_str_radix(byte, 16));
    bytes.collect::<Result<_, _>>().unwrap()
}

/// What must be answered: `None` for silence, `Some(0)` for a positive response, else the NRC.
fn expected(scene: Scene, pdu: &[u8], functional: bool) -> Option<u8> {
    let (sid, sub) = (pdu[0], pdu.get(1).map(|byte| byte & 0x7F));
    // A response of another server is not a request (ISO 14229-1 table 2).
    if sid & 0x40 != 0 {
        return None;
    }
    if scene == Pending {
        // Busy; a keep-alive is no reason to say so, nor is what was said to all.
        return (!functional && pdu != [0x3E, 0x80]).then_some(0x21);
    }
    let profile = PROFILE.iter().find(|row| row.sid == sid);
    let has_sub = profile.is_some_and(|row| !row.subs.is_empty());
    let nrc = match profile {
        None => 0x11,
        Some(row) => {
            let entry = row.subs.iter().find(|(value, ..)| Some(*value) == sub);
            let served = match entry {
                Some((.., served)) => *served,
                None => row.functional,
            };
            let known_session = row.sessions.contains(&scene.session());
            let lengths = match entry {
                Some((_, len, _)) => (*len, if sid == 0x85 { ANY } else { *len }),
                None => row.length,
            };
            match () {
                () if !known_session => 0x7F,
                () if functional && !row.functional => return None,
                () if row.secured && !scene.unlocked() => 0x33,
                () if has_sub && sub.is_none() => 0x13,
                () if has_sub && entry.is_none() => 0x12,
                () if functional && !served => return None,
                () if !(lengths.0..=lengths.1).contains(&pdu.len()) => 0x13,
                () => by_content(scene, pdu),
            }
        }
    };
    let silent = match nrc {
        POSITIVE => has_sub && pdu[1] & 0x80 != 0,
        0x11 | 0x12 | 0x31 | 0x7E | 0x7F => functional,
        _ => false,
    };
    (!silent).then_some(nrc)
}

/// The answer to a request whose service, session, access, sub-function and length are right.
fn by_content(scene: Scene, pdu: &[u8]) -> u8 {
    let locked = !scene.unlocked();
    let programming = scene.session() == 2;
    match *pdu {
        [0x14, 0xFF, 0xFF, 0xFF] => POSITIVE,
        [0x14, ..] => 0x31,
        [0x22, ref dids @ ..] if dids.len() % 2 == 1 || dids.len() > 16 => 0x13,
        [0x22, 0xFD, 2] if locked => 0x33,
        [0x22, 0x12, 0x34] => 0x31,
        [0x27, 2, ..] => 0x24,
        [0x2E, 0xF1, 0x5A, ref content @ ..] if content.len() != 10 => 0x13,
        [0x2E, 0x12, ..] => 0x31,
        [0x31, 1, 2, 3] => POSITIVE,
        [0x31, 1, 2, 0x11..=0x13] if scene == Default => 0x31,
        [0x31, 1, 0xFF, 0 | 1] | [0x31, 1, 2, 2 | 0x10] if !programming => 0x31,
        [0x31, 1, 0x77, 0x77] => 0x31,
        [0x31, ..] if locked => 0x33,
        // Nothing runs that could be healthy or sealed; there is always nothing to revert.
        [0x31, 1, 2, 0x11 | 0x12] => 0x22,
        [0x31, 1, 2, 0x13] => POSITIVE,
        [0x31, 1, 0xFF, 0] => sequence(scene == Payload),
        [0x31, ..] => sequence(scene == Staged),
        [0x34, format, alfid, ..] if format > 1 || alfid != 0x44 => 0x31,
        [0x34, ..] if matches!(scene, Metadata | Payload) => 0x22,
        [0x34, 0, _, 0xF0, 0, 0, 0, .., low] => {
            if low == 0 {
                POSITIVE
            } else {
                0x70
            }
        }
        [0x34, 0, ..] => 0x70,
        // Nothing accepted that a page could belong to.
        [0x34, ..] => 0x24,
        [0x36, ..] if !matches!(scene, Metadata | Payload) && pdu.len() > 2 => 0x24,
        [0x36, _] => 0x13,
        // The last block again, the next one, and one that is not due.
        [0x36, 1 | 2, ..] => POSITIVE,
        [0x36, ..] => 0x73,
        [0x37] => 0x24,
        _ => POSITIVE,
    }
}

fn sequence(right: bool) -> u8 {
    if right { POSITIVE } else { 0x24 }
}

/// What the machine answers.
fn answered(stage: &Stage, scene: Scene, pdu: &[u8], functional: bool) -> Option<u8> {
    let mut bench = stage.enter(scene);
    let before = bench.nor.borrow().operations();
    let response = if functional {
        bench.functional(pdu)
    } else {
        bench.physical_within(pdu, std::time::Duration::from_millis(1500))
    };
    let answer = response.unwrap().filter(|response| {
        // In a pending scene the job's own response is not the answer.
        scene != Pending || response[0] == 0x7F
    });
    let nrc = answer.map(|response| match *response {
        [0x7F, sid, nrc] => {
            assert_eq!(sid, pdu[0]);
            nrc
        }
        [first, ..] => {
            assert_eq!(first, pdu[0] | 0x40, "{response:02X?}");
            POSITIVE
        }
        [] => unreachable!("no response is empty"),
    });
    // A refusal writes nothing.
    if nrc.is_some_and(|nrc| nrc != POSITIVE) && scene != Pending {
        let after = bench.nor.borrow().operations();
        assert_eq!(after, before, "{scene:?} {pdu:02X?}");
    }
    nrc
}

fn shown(answer: Option<u8>) -> String {
    match answer {
        None => "..".into(),
        Some(POSITIVE) => "+".into(),
        Some(nrc) => format!("{nrc:02X}"),
    }
}

#[test]
fn every_service_in_every_state() {
    let stage = Stage::new();
    let mut table = String::new();
    let mut wrong = Vec::new();
    for functional in [false, true] {
        let title = if functional { "functional" } else { "physical" };
        table += &format!("\n{title:34}");
        for (_, name) in SCENES {
            table += &format!("{name:>9}");
        }
        table += "\n";
        for pdu in requests() {
            let mut text: Vec<_> = pdu.iter().map(|byte| format!("{byte:02X}")).collect();
            if text.len() > 11 {
                text.splice(9.., [format!("({})", pdu.len())]);
            }
            table += &format!("{:34}", text.join(" "));
            for (scene, name) in SCENES {
                let answer = answered(&stage, scene, &pdu, functional);
                table += &format!("{:>9}", shown(answer));
                let rule = expected(scene, &pdu, functional);
                if answer != rule {
                    wrong.push(format!(
                        "{title} {name} {}: {} instead of {}",
                        text.join(" "),
                        shown(answer),
                        shown(rule)
                    ));
                }
            }
            table += "\n";
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    insta::assert_snapshot!(table);
}

#[test]
fn the_last_block_again_is_answered_and_not_written_twice() {
    let stage = Stage::new();
    let mut bench = stage.enter(Payload);
    let pages = stage.image.pages();
    bench.block(2, &pages[100..4000]).unwrap();
    let before = bench.nor.borrow().operations();
    bench.block(3, &pages[4000..4096]).unwrap();
    bench.pass(std::time::Duration::from_millis(100)).unwrap();
    let written = bench.nor.borrow().operations();
    assert_eq!(written - before, 1, "a page is one operation");
    for _ in 0..3 {
        bench.block(3, &pages[4000..4096]).unwrap();
        bench.pass(std::time::Duration::from_millis(100)).unwrap();
    }
    assert_eq!(bench.nor.borrow().operations(), written);
    bench.block(4, &pages[4096..6000]).unwrap();
    let last = bench.ask(&[0x36, 3, 0]).unwrap_err();
    assert!(format!("{last:?}").contains("nrc: 115"), "{last:?}");
}
