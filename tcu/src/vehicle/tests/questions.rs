//! Questions for data identifiers beside the jobs.

use super::*;
use crate::vehicle::Event;

const QUESTION: [u8; 3] = [0x22, 0xF4, 0x0D];

/// Each ECU is asked again and again, but never while a job runs on it; what is sent to it otherwise is
/// the same as if nobody asked.
#[test]
fn no_ecu_is_asked_while_a_job_runs_on_it_and_no_job_is_disturbed() {
    let mut quiet = World::new(4);
    assert_eq!(finish(&mut quiet), CampaignState::Completed);
    let jobs = |world: &World| {
        let mut requests = vec![Vec::new(); 4];
        for (_, ecu, pdu) in &world.requests {
            if !pdu.starts_with(&QUESTION) {
                requests[*ecu].push(pdu.clone());
            }
        }
        requests
    };
    for every in [3, 10, 50] {
        let mut world = World::new(4);
        world.questions = Some(Duration::from_millis(every));
        assert_eq!(finish(&mut world), CampaignState::Completed, "{every}");
        assert!(world.all_new(), "{every}");
        assert_eq!(jobs(&world), jobs(&quiet), "{every}");
        let mut answers = [0; 4];
        for event in &world.events {
            if let Event::Answered(ecu, record) = event {
                assert_eq!(record.as_deref(), Some(&[0, 0x04, 0xD2][..]));
                answers[*ecu] += 1;
            }
        }
        assert!(
            answers.iter().all(|count| *count > 0),
            "{every} {answers:?}"
        );
        // A job's first request is FD01; from there to its last nothing else goes to the ECU.
        let staging = |pdu: &[u8]| [0x10, 0x27, 0x2E, 0x34, 0x36, 0x37].contains(&pdu[0]);
        for ecu in 0..4 {
            let of_ecu = world.requests.iter().filter(|(_, other, _)| *other == ecu);
            let sent: Vec<&[u8]> = of_ecu.map(|(_, _, pdu)| pdu.as_slice()).collect();
            for three in sent.windows(3) {
                let inside = staging(three[0]) && staging(three[2]);
                assert!(
                    !inside || !three[1].starts_with(&QUESTION),
                    "{every} {three:02X?}"
                );
            }
        }
    }
}

/// A question that is not answered ends, and the job that waited for its end goes on.
#[test]
fn an_ecu_that_does_not_answer_a_question_is_flashed_all_the_same() {
    let mut world = World::new(2);
    world.questions = Some(Duration::from_millis(20));
    let ended = world.run(None, &mut |_, pdu, _| {
        pdu.starts_with(&QUESTION).then_some(Fault::LostResponse)
    });
    assert_eq!(ended, Ended::Finished(CampaignState::Completed));
    assert!(world.all_new());
    let answers = world.events.iter().filter_map(|event| match event {
        Event::Answered(_, record) => Some(record),
        _ => None,
    });
    let answers: Vec<_> = answers.collect();
    assert!(!answers.is_empty() && answers.iter().all(|it| it.is_none()));
}
