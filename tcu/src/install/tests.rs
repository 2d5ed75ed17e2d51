//! A campaign that goes on where things are missing that it once had.

use tokio::sync::watch;

use super::*;
use crate::engine::{Journal as _, Running};
use crate::flash::What;

const VEHICLE: &str = r#"{"vin": "WCANPS00000000001",
    "buses": [{"name": "body", "link": "bus:/nowhere/body", "bitrate": 500000},
              {"name": "chassis", "link": "bus:/nowhere/chassis", "bitrate": 500000}],
    "ecus": [{"name": "door", "bus": "body", "serial": "SN-1", "hardware_id": "hw-a",
              "request_id": "7E0", "response_id": "7E8", "functional_id": "7DF",
              "access_key": "000102030405060708090a0b0c0d0e0f"},
             {"name": "brake", "bus": "chassis", "serial": "SN-2", "hardware_id": "hw-a",
              "request_id": "7E0", "response_id": "7E8", "functional_id": "7DF",
              "access_key": "000102030405060708090a0b0c0d0e0f"}]}"#;

/// Nobody is waited for.
fn context() -> (Context, watch::Sender<Control>) {
    let (sender, control) = watch::channel(Control::default());
    let vehicle = Vehicle::from_json(VEHICLE.as_bytes()).unwrap();
    let context = Context {
        lines: Lines::new(vehicle.clone(), Transport::Isotp),
        vehicle,
        root: PathBuf::new(),
        ca: None,
        tcu_key: None,
        transport: Transport::Isotp,
        policy: engine::Policy {
            converge_attempts: 1,
            ..engine::Policy::default()
        },
        flash: flash::Policy {
            patience: std::time::Duration::ZERO,
            attempts: 1,
            ..flash::Policy::default()
        },
        images: ImagePolicy::default(),
        battery: None,
        desk: None,
        control,
    };
    (context, sender)
}

fn planned(name: &str, bus: &str, packed: &[u8]) -> PlannedEcu {
    PlannedEcu {
        name: name.into(),
        bus: bus.into(),
        image: ecu_image::ImageDigest([2; 32]),
        artifact: ecu_image::crypto::sha256(&[packed]),
        length: packed.len() as u64,
        grant: String::new(),
        key_set: None,
        from: Running {
            version: "1.0.0".into(),
            image: ecu_image::ImageDigest([1; 32]),
        },
        to_version: "2.0.0".into(),
        unchanged: false,
        last: false,
        restore: None,
        after: Vec::new(),
    }
}

fn plan(ecus: Vec<PlannedEcu>) -> Plan {
    Plan {
        campaign: "spring".into(),
        ecus,
        rxswins: BTreeMap::new(),
        together: engine::Together::default(),
    }
}

fn begin(state: &State, plan: &Plan, records: &[Record]) {
    let mut journal = state.journal().unwrap();
    journal.begin(plan).unwrap();
    for record in records {
        journal.append(record, None).unwrap();
    }
}

const COMMITTED: [Record; 3] = [Record::AllStaged, Record::AllActivated, Record::Commit];

#[tokio::test]
async fn interfaces_that_are_missing_are_named_and_end_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    // One of them is not in the vehicle's file any more, either.
    let mut ecus = vec![
        planned("door", "body", b"a"),
        planned("brake", "chassis", b"b"),
    ];
    ecus.push(planned("gone", "chassis", b"c"));
    begin(&state, &plan(ecus), &COMMITTED);
    let mut output = Output::plain(true);
    let (context, _control) = context();
    let report = context.resume("/nowhere", &state, &mut output).await;
    let report = report.unwrap().unwrap();
    assert_eq!(report.campaign.state, CampaignState::Incomplete);
    let reason = report.campaign.reason.unwrap();
    for named in ["bus body", "bus chassis", "gone"] {
        assert!(reason.contains(named), "{reason}");
    }
    let last = state.journal().unwrap().last().unwrap().unwrap();
    let named = Record::Incomplete {
        ecus: vec![0, 1, 2],
    };
    assert_eq!(last.records.last(), Some(&named));
}

/// The images of a bundle, under their hashes.
fn bundle(path: &std::path::Path, images: &[&[u8]]) {
    let mut archive = tar::Builder::new(std::fs::File::create(path).unwrap());
    for image in images {
        let name = campaign::layout::artifact_path(&ecu_image::crypto::sha256(&[image]));
        let mut header = tar::Header::new_ustar();
        header.set_size(image.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *image).unwrap();
    }
    archive.finish().unwrap();
}

#[tokio::test]
async fn images_that_are_lost_come_from_the_source_again_and_else_fail_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    let images: [&[u8]; 4] = [b"whole", b"damaged", b"deleted", b"nowhere"];
    let mut ecus: Vec<PlannedEcu> = Vec::new();
    for (index, image) in images.into_iter().enumerate() {
        let mut ecu = planned(&format!("ecu{index}"), "body", image);
        if index == 1 {
            // As a journal of before has it.
            ecu.length = 0;
        }
        ecus.push(ecu);
    }
    let file = |index: usize| state.image(&ecu_image::crypto::sha256(&[images[index]]));
    std::fs::write(file(0), images[0]).unwrap();
    std::fs::write(file(1), b"Damaged").unwrap();
    let source = dir.path().join("bundle.tar");
    bundle(&source, &images[1..3]);
    let plan = plan(ecus);
    let engine = Engine::new(plan.clone(), engine::Policy::default(), &[], 0);
    let (origin, mut output) = (source.to_str().unwrap(), Output::plain(true));
    let (context, _control) = context();
    let lost = context.mend_cache(origin, &engine, &state, &mut output);
    let lost = lost.await.unwrap();
    assert_eq!(lost.keys().collect::<Vec<_>>(), [&3]);
    assert!(lost[&3].contains("is missing"), "{lost:?}");
    for (index, image) in images.iter().enumerate().take(3) {
        assert_eq!(std::fs::read(file(index)).unwrap(), *image);
    }
    // Behind COMMIT none is needed, so none is looked for.
    let engine = Engine::new(plan.clone(), engine::Policy::default(), &COMMITTED, 0);
    std::fs::remove_file(file(0)).unwrap();
    let healthy = |ecu: usize| Record::End {
        ecu,
        job: Job::AwaitHealthy,
        result: Ok(engine::JobDone {
            version: None,
            running: ecu_image::ImageDigest([2; 32]),
        }),
        cost: engine::Cost::default(),
    };
    assert_eq!(engine.images_wanted().len(), 4, "as long as none is staged");
    let mut records: Vec<Record> = (0..4).map(healthy).collect();
    records.extend(COMMITTED);
    let engine = Engine::new(plan, engine::Policy::default(), &records, 0);
    let lost = context.mend_cache(origin, &engine, &state, &mut output);
    assert!(lost.await.unwrap().is_empty() && !file(0).exists());
}

/// With nothing but what is lost the campaign goes back, and says why.
#[tokio::test]
async fn an_image_that_is_lost_for_good_fails_inside_the_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    let lost = going_on::target(&planned("door", "body", b"a"), None, &state);
    assert!(lost.packed.unwrap_err().contains("No such file"));
    let why = "lost from the cache".to_owned();
    let lost = going_on::target(&planned("door", "body", b"a"), Some(&why), &state);
    let key = MacKey::new([0; 16]);
    let mut job = flash::Flash::new(Job::Stage, Some(lost), key, flash::Policy::default(), 0);
    let now = uds::time::Instant::ZERO;
    assert!(matches!(job.poll_action(now), flash::Action::Request(_)));
    let status = crate::testing::ecu::FakeEcu::new().request(now, &[0x22, 0xFD, 0x01], None);
    job.on_response(now, Ok(&status.unwrap()));
    let flash::Action::Done(Err(failure)) = job.poll_action(now) else {
        panic!("{job:?}")
    };
    assert_eq!(failure.what, What::Source(why));
    assert!(!failure.touched);
}
