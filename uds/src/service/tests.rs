//! Wire examples, round trips of arbitrary values, hostile bytes.

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

#[track_caller]
fn check_request(hex: &str, request: Request<'_>) {
    let pdu = bytes(hex);
    assert_eq!(Request::parse(&pdu), Ok(request));
    let mut out = [0; 64];
    let len = request.write(&mut out).unwrap();
    assert_eq!(out[..len], pdu);
}

#[track_caller]
fn check_response(hex: &str, response: Response<'_>) {
    let pdu = bytes(hex);
    assert_eq!(Response::parse(&pdu), Ok(response));
    let mut out = [0; 64];
    let len = response.write(&mut out).unwrap();
    assert_eq!(out[..len], pdu);
}

#[test]
fn requests_have_the_bytes_of_the_standard() {
    check_request(
        "10 82",
        Request::DiagnosticSessionControl(DiagnosticSessionControl {
            session: Session::PROGRAMMING,
            suppress: true,
        }),
    );
    check_request(
        "14 FF FF FF",
        Request::ClearDiagnosticInformation(ClearDiagnosticInformation {
            group: Dtc::ALL,
            memory: None,
        }),
    );
    check_request(
        "19 04 12 34 56 02",
        Request::ReadDtcInformation(ReadDtcInformation {
            report: DtcReport::SnapshotByDtc(Dtc::new(0x12_3456).unwrap(), 2),
            suppress: false,
        }),
    );
    check_request(
        "22 F1 90 F1 8C",
        Request::ReadDataByIdentifier(ReadDataByIdentifier {
            dids: DidList::new(&[Did::VIN, Did::ECU_SERIAL_NUMBER]).unwrap(),
        }),
    );
    check_request(
        "27 02 AA BB",
        Request::SecurityAccess(SecurityAccess {
            level: SecurityLevel::ONE,
            step: SecurityStep::SendKey,
            suppress: false,
            data: &[0xAA, 0xBB],
        }),
    );
    let disable = CommunicationMode::Plain(CommunicationControl::DISABLE);
    check_request(
        "28 83 01",
        Request::CommunicationControl(
            CommunicationControl::new(disable, CommunicationControl::NORMAL, true).unwrap(),
        ),
    );
    check_request(
        "31 01 FF 00",
        Request::RoutineControl(RoutineControl {
            control: RoutineControlType::Start,
            suppress: false,
            routine: RoutineId::ERASE_MEMORY,
            option: &[],
        }),
    );
    check_request(
        "34 11 33 60 20 00 00 FF FF",
        Request::RequestDownload(RequestDownload {
            format: DataFormat(0x11),
            area: MemoryArea::with_widths(0x60_2000, 3, 0xFFFF, 3).unwrap(),
        }),
    );
}

#[test]
fn responses_have_the_bytes_of_the_standard() {
    check_response(
        "50 02 00 32 01 F4",
        Response::DiagnosticSessionControl(DiagnosticSessionControlResponse {
            session: Session::PROGRAMMING,
            timing: Some(SessionTiming {
                p2_1ms: 50,
                p2_star_10ms: 500,
            }),
        }),
    );
    check_response(
        "74 20 0F FF",
        Response::RequestDownload(RequestDownloadResponse {
            max_block_length: MaxBlockLength::new(4095),
        }),
    );
    check_response(
        "59 02 FF 0A 9B 17 24",
        Response::ReadDtcInformation(
            ReadDtcInformationResponse::new(
                2,
                DtcReportBody::Status {
                    availability: 0xFF,
                    records: DtcRecords::new(&[0x0A, 0x9B, 0x17, 0x24]).unwrap(),
                },
            )
            .unwrap(),
        ),
    );
    check_response(
        "7F 31 72",
        Response::Negative(NegativeResponse {
            service: ServiceId::ROUTINE_CONTROL,
            nrc: crate::nrc::Nrc::GENERAL_PROGRAMMING_FAILURE,
        }),
    );
}

#[test]
fn errors_say_what_and_where() {
    let error = |hex: &str| format!("{}", Request::parse(&bytes(hex)).unwrap_err());
    insta::assert_snapshot!(error(""), @"PDU 0x00, byte 0: ends before service identifier does");
    insta::assert_snapshot!(error("99"), @"PDU 0x99, byte 0: not the expected service");
    insta::assert_snapshot!(error("10"), @"PDU 0x10, byte 1: ends before sub-function does");
    insta::assert_snapshot!(error("10 01 00"), @"PDU 0x10, byte 2: goes on after its last parameter");
    insta::assert_snapshot!(error("22 F1 90 F1"), @"PDU 0x22, byte 3: ends before dataIdentifier does");
    insta::assert_snapshot!(error("27 00"), @"PDU 0x27, byte 1: no sub-function 0x00");
    insta::assert_snapshot!(error("34 00 40 00"), @"PDU 0x34, byte 2: addressAndLengthFormatIdentifier is out of range");
    insta::assert_snapshot!(error("34 00 44 00 00"), @"PDU 0x34, byte 3: ends before memoryAddress does");
}

#[test]
fn a_short_buffer_says_how_much_is_needed() {
    let request = TesterPresent { suppress: true };
    assert_eq!(request.write(&mut [0; 1]), Err(NoRoom { needed: 2 }));
}

#[test]
fn values_that_no_pdu_has_cannot_be_made() {
    assert!(MemoryArea::with_widths(0x100, 1, 0, 1).is_none());
    assert!(MemoryArea::with_widths(0, 9, 0, 1).is_none());
    assert!(MemoryArea::with_widths(u64::MAX, 8, 0, 1).is_some());
    assert!(DidList::new(&[]).is_none());
    assert!(Dtc::new(0x0100_0000).is_none());
    assert!(SecurityLevel::new(2).is_none() && SecurityLevel::new(0x7F).is_none());
    assert!(CommunicationControl::new(CommunicationMode::Plain(4), 1, false).is_none());
    assert!(DtcRecords::<4>::new(&[0; 7]).is_none());
    assert!(ReadDtcInformationResponse::new(1, DtcReportBody::Other(&[])).is_none());
    assert_eq!(MaxBlockLength::new(0x1_0000).value(), 0x1_0000);
}

const REQUESTS: [u8; 18] = [
    0x10, 0x11, 0x14, 0x19, 0x22, 0x23, 0x27, 0x28, 0x29, 0x2E, 0x2F, 0x31, 0x34, 0x35, 0x36, 0x37,
    0x3E, 0x85,
];

/// Bytes that begin as a message of the standard does, mostly with a small sub-function.
fn likely_pdu() -> impl Strategy<Value = Vec<u8>> {
    let first = (prop::sample::select(&REQUESTS[..]), any::<bool>())
        .prop_map(|(sid, response)| if response { sid | 0x40 } else { sid });
    let second = prop_oneof![4 => 0u8..=0x1A, 1 => any::<u8>()];
    let rest = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(0u8..=0x12, 0..12),
    ];
    (first, second, rest).prop_map(|(first, second, rest)| [&[first, second], &rest[..]].concat())
}

fn field() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..12)
}

proptest! {
    #[test]
    fn hostile_bytes_are_refused_or_survive(pdu in prop::collection::vec(any::<u8>(), 0..64)) {
        fuzz::service(&pdu);
    }

    #[test]
    fn likely_bytes_are_refused_or_survive(pdu in likely_pdu()) {
        fuzz::service(&pdu);
    }

    #[test]
    fn memory_areas_survive(address: u64, size: u64, aw in 1u8..=8, sw in 1u8..=8) {
        let mask = |value: u64, width: u8| value & (u64::MAX >> (64 - 8 * u32::from(width)));
        let area = MemoryArea::with_widths(mask(address, aw), aw, mask(size, sw), sw).unwrap();
        let request = RequestUpload { format: DataFormat(0), area };
        let mut out = [0; 32];
        let len = request.write(&mut out).unwrap();
        prop_assert_eq!(RequestUpload::parse(&out[..len]), Ok(request));
    }

    #[test]
    fn authentication_survives(a in field(), b in field(), c in field(), d in field(), algorithm: [u8; 16], suppress: bool, id: u16) {
        let f = |bytes| Field::new(bytes).unwrap();
        use AuthenticationTask as Task;
        let certificate = CertificateParameters { communication_configuration: 1, certificate: f(&a), challenge: f(&b) };
        let proof = ProofParameters { algorithm, proof: f(&a), challenge: f(&b), additional: f(&c) };
        for task in [
            Task::DeAuthenticate,
            Task::VerifyCertificateUnidirectional(certificate),
            Task::VerifyCertificateBidirectional(certificate),
            Task::ProofOfOwnership { proof: f(&a), ephemeral_public_key: f(&b) },
            Task::TransmitCertificate { evaluation_id: id, certificate: f(&a) },
            Task::RequestChallenge { communication_configuration: 0, algorithm },
            Task::VerifyProofUnidirectional(proof),
            Task::VerifyProofBidirectional(proof),
            Task::Configuration,
        ] {
            let request = Request::Authentication(Authentication { task, suppress });
            let mut out = [0; 128];
            let len = request.write(&mut out).unwrap();
            prop_assert_eq!(Request::parse(&out[..len]), Ok(request));
            prop_assert!(Request::parse(&out[..len - 1]).is_err());
        }
        use AuthenticationResult as Done;
        for result in [
            Done::DeAuthenticate,
            Done::VerifyCertificateUnidirectional { challenge: f(&a), ephemeral_public_key: f(&b) },
            Done::VerifyCertificateBidirectional { challenge: f(&a), certificate: f(&b), proof: f(&c), ephemeral_public_key: f(&d) },
            Done::ProofOfOwnership { session_key_info: f(&a) },
            Done::TransmitCertificate,
            Done::RequestChallenge { algorithm, challenge: f(&a), needed_additional: f(&b) },
            Done::VerifyProofUnidirectional { algorithm, session_key_info: f(&a) },
            Done::VerifyProofBidirectional { algorithm, proof: f(&a), session_key_info: f(&b) },
            Done::Configuration,
        ] {
            let response = Response::Authentication(AuthenticationResponse { return_parameter: 0x12, result });
            let mut out = [0; 128];
            let len = response.write(&mut out).unwrap();
            prop_assert_eq!(Response::parse(&out[..len]), Ok(response));
        }
    }

    #[test]
    fn block_lengths_survive(value: u64, shift in 0u32..64) {
        let response = RequestDownloadResponse { max_block_length: MaxBlockLength::new(value >> shift) };
        let mut out = [0; 16];
        let len = response.write(&mut out).unwrap();
        prop_assert_eq!(RequestDownloadResponse::parse(&out[..len]), Ok(response));
    }
}

/// Every input of the corpus, as the fuzz target would run it.
#[test]
fn the_corpus_passes() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/uds_service");
    let inputs: Vec<_> = std::fs::read_dir(corpus).unwrap().collect();
    assert!(inputs.len() >= REQUESTS.len());
    for input in inputs {
        fuzz::service(&std::fs::read(input.unwrap().path()).unwrap());
    }
}
