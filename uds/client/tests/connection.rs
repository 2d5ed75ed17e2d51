//! A connection and a client against a server on the other end of a link, and of a line that fails.

use can_link::{Bus, FrameLink, now};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use uds::can::CanId;
use uds::isotp;
use uds::nrc::Nrc;
use uds::server::{
    Addressing, Config as ServerConfig, Context, Handler, Length, Outcome, SecurityConfig, Server,
    ServiceEntry, SubFunctionEntry,
};
use uds::service::{
    BlockSequenceCounter, CommunicationMode, DataFormat as TransferFormat, IoControlParameter,
    MemoryArea, RoutineControlType, RoutineId, SecurityLevel, ServiceId, Session,
};
use uds::time::Instant;
use uds_client::{
    ChannelTransport, Config, Connection, DataFormat, Error, Incoming, NegativeResponseCode,
    NrcData, Options, Progress, ReadDTCInformationResponse, ResetType, Response, Transport,
    TransportError, UdsClient, UdsError, UdsResponse,
};

const ALL: &[Session] = &[Session::DEFAULT, Session::EXTENDED];
const ANY: Length = Length::at_least(1);
const SUB: &[SubFunctionEntry] = &[
    SubFunctionEntry::new(0, ALL, ANY).functional(),
    SubFunctionEntry::new(1, ALL, ANY),
    SubFunctionEntry::new(2, ALL, ANY),
    SubFunctionEntry::new(3, ALL, ANY),
];

const fn plain(service: ServiceId) -> ServiceEntry {
    ServiceEntry::new(service, ALL, ANY)
}

const fn with_sub(service: ServiceId) -> ServiceEntry {
    ServiceEntry::with_sub_functions(service, ALL, SUB)
}

const SERVICES: &[ServiceEntry] = &[
    with_sub(ServiceId::DIAGNOSTIC_SESSION_CONTROL),
    with_sub(ServiceId::ECU_RESET),
    plain(ServiceId::CLEAR_DIAGNOSTIC_INFORMATION),
    with_sub(ServiceId::READ_DTC_INFORMATION),
    plain(ServiceId::READ_DATA_BY_IDENTIFIER),
    plain(ServiceId::READ_MEMORY_BY_ADDRESS),
    with_sub(ServiceId::SECURITY_ACCESS),
    with_sub(ServiceId::COMMUNICATION_CONTROL),
    plain(ServiceId::WRITE_DATA_BY_IDENTIFIER),
    plain(ServiceId::INPUT_OUTPUT_CONTROL_BY_IDENTIFIER),
    with_sub(ServiceId::ROUTINE_CONTROL),
    plain(ServiceId::REQUEST_DOWNLOAD),
    plain(ServiceId::TRANSFER_DATA),
    plain(ServiceId::REQUEST_TRANSFER_EXIT),
    with_sub(ServiceId::TESTER_PRESENT),
    with_sub(ServiceId::CONTROL_DTC_SETTING),
];

/// Answers with the bytes that each test expects; routine 0001 runs until the test says so.
struct Ecu;

impl Handler for Ecu {
    fn handle(&mut self, _: Instant, _: Context, request: &[u8], out: &mut [u8]) -> Outcome {
        let answer: &[u8] = match *request {
            [0x10, ..] => return Outcome::Positive(0),
            [0x11, ..] => &[0x51, 1],
            [0x14, 0xFF, 0xFF, 0xFF] => &[0x54],
            [0x19, 2, ..] => &[0x59, 2, 0xFF, 0x01, 0x02, 0x03, 0x2F],
            [0x22, 0xF1, 0x90] => &[0x62, 0xF1, 0x90, b'V', b'I', b'N'],
            [0x22, 0xF1, 0x90, 0xF1, 0x8C] => &[0x62, 0xF1, 0x90, b'V', 0xF1, 0x8C, b'S'],
            [0x22, 0x00, 0x04] => {
                out[1..3].copy_from_slice(&[0, 4]);
                return Outcome::Positive(4000);
            }
            [0x23, 0x14, 0, 0, 0x10, 0, 2] => &[0x63, 0xAA, 0xBB],
            [0x28, 3, 1] => &[0x68, 3],
            [0x2E, 0xF1, 0x5A, ..] => &[0x6E, 0xF1, 0x5A],
            [0x2F, 0x9B, 0, 3, 7] => &[0x6F, 0x9B, 0, 3, 7],
            [0x31, 1, 0, 1] => return Outcome::PendingLong,
            [0x31, 1, 0xFF, 0, ..] => &[0x71, 1, 0xFF, 0, 0],
            [0x34, ..] => &[0x74, 0x20, 0x0F, 0xFF],
            [0x36, counter, ..] => {
                out[1] = counter;
                return Outcome::Positive(2);
            }
            [0x37] => &[0x77],
            [0x85, 2] => &[0xC5, 2],
            _ => return Outcome::Negative(Nrc::REQUEST_OUT_OF_RANGE),
        };
        out[..answer.len()].copy_from_slice(answer);
        Outcome::Positive(answer.len())
    }

    fn make_seed(
        &mut self,
        _: Instant,
        _: SecurityLevel,
        _: &[u8],
        seed: &mut [u8],
    ) -> Result<(), Nrc> {
        seed.fill(9);
        Ok(())
    }

    fn verify_key(&mut self, _: Instant, _: SecurityLevel, key: &[u8]) -> bool {
        key == [1, 2]
    }
}

fn server() -> Server<Vec<u8>> {
    let mut config = ServerConfig::new(SERVICES);
    config.security = Some(SecurityConfig {
        seed_len: 4,
        attempts: 3,
        delay: Duration::from_secs(10),
    });
    Server::new(config, vec![0; 4095])
}

/// Serves over `transport` until the client has gone; a pending job ends when `finish` says so.
async fn serve(transport: impl Transport, mut finish: mpsc::Receiver<Outcome>) {
    let mut server = server();
    loop {
        while let Some(pdu) = server.poll_transmit().map(<[u8]>::to_vec) {
            let _lost = transport.send(&pdu, false).await;
            server.on_sent(now());
        }
        let wait = server
            .poll_timeout()
            .map_or(Duration::from_secs(60), |at| at.saturating_since(now()));
        tokio::select! {
            incoming = transport.next() => match incoming {
                Ok(Incoming::Pdu(pdu)) => server.on_pdu(now(), Addressing::Physical, &pdu, &mut Ecu),
                Ok(_) => {}
                Err(_) => return,
            },
            Some(outcome) = finish.recv() => server.complete(now(), |out| {
                out[1..5].copy_from_slice(&[1, 0, 1, 0]);
                outcome
            }),
            () = tokio::time::sleep(wait) => server.handle_timeout(now()),
        }
    }
}

const TX: u16 = 0x7E0;
const RX: u16 = 0x7E8;

fn config(tx: u16, rx: u16) -> isotp::Config {
    isotp::Config::new(CanId::standard(tx).unwrap(), CanId::standard(rx).unwrap())
}

fn patient() -> Config {
    Config {
        margin: Duration::from_secs(20),
        ..Config::default()
    }
}

/// A connection over our ISO-TP to a server, and what ends its jobs.
fn connection() -> (Connection, mpsc::Sender<Outcome>) {
    let (a, b) = FrameLink::pair().unwrap();
    let tester = ChannelTransport::on(&Bus::new(a), config(TX, RX)).unwrap();
    let ecu = ChannelTransport::on(&Bus::new(b), config(RX, TX)).unwrap();
    let (finish, finished) = mpsc::channel(1);
    tokio::spawn(serve(ecu, finished));
    (Connection::new(tester, patient()), finish)
}

fn client() -> UdsClient {
    let (connection, _) = connection();
    UdsClient::from_connection(connection)
}

#[tokio::test]
async fn requests_of_one_and_of_many_frames() {
    let (connection, _) = connection();
    let ask = |pdu: Vec<u8>| {
        let connection = &connection;
        async move { connection.exchange(&pdu, Options::default()).await.unwrap() }
    };
    let vin = ask(vec![0x22, 0xF1, 0x90]).await;
    assert_eq!(vin.pdu(), [0x62, 0xF1, 0x90, b'V', b'I', b'N']);
    assert_eq!(ask(vec![0x22, 0, 4]).await.pdu().len(), 4000);
    let block = [&[0x36, 1][..], &[0xAB; 4000]].concat();
    assert_eq!(ask(block).await, Response::Positive(vec![0x76, 1]));
    let briefly = Options {
        p2: Some(Duration::from_millis(100)),
        ..Options::default()
    };
    let silence = connection.exchange(&[0x3E, 0x80], briefly).await;
    assert_eq!(silence.unwrap(), Response::Silence);
}

#[tokio::test]
async fn the_session_and_its_timing_are_known() {
    let (connection, _) = connection();
    let default = connection.status();
    assert_eq!(default.session, Session::DEFAULT);
    let entered = connection.exchange(&[0x10, 3], Options::default()).await;
    assert_eq!(entered.unwrap().pdu(), [0x50, 3, 0, 50, 0x01, 0xF4]);
    assert_eq!(connection.status().session, Session::EXTENDED);
}

#[tokio::test]
async fn a_long_job_tells_its_progress() {
    let (connection, finish) = connection();
    let mut told = Vec::new();
    let (response, ()) = tokio::join!(
        connection.exchange_with(&[0x31, 1, 0, 1], Options::default(), |progress| {
            told.push(progress);
            let _sent = finish.try_send(Outcome::Positive(5));
        }),
        async {}
    );
    assert_eq!(response.unwrap().pdu(), [0x71, 1, 0, 1, 0]);
    assert_eq!(told, [Progress::Pending { count: 1 }]);
}

#[tokio::test]
async fn an_abandoned_request_leaves_the_connection_usable() {
    let (connection, finish) = connection();
    let (announced, mut seen) = mpsc::channel(1);
    tokio::select! {
        _ = connection.exchange_with(&[0x31, 1, 0, 1], Options::default(), |_| {
            let _first = announced.try_send(());
        }) => panic!("the job has not ended"),
        _ = seen.recv() => {}
    }
    // The late response is of another request, and ignored.
    finish.send(Outcome::Positive(5)).await.unwrap();
    let vin = connection.exchange(&[0x22, 0xF1, 0x90], Options::default());
    assert_eq!(vin.await.unwrap().pdu().len(), 6);
}

#[tokio::test]
async fn a_refusal_is_an_error_with_its_code() {
    let (connection, _) = connection();
    let refused = connection.exchange(&[0x22, 0, 0], Options::default()).await;
    assert_eq!(refused.unwrap_err().nrc(), Some(Nrc::REQUEST_OUT_OF_RANGE));
    let nonsense = connection.exchange(&[0x62], Options::default()).await;
    assert!(matches!(nonsense, Err(Error::Request(_))));
}

/// Loses the first `losses` PDUs that are sent, and hands the others to the server at once.
struct Lossy {
    server: Mutex<Server<Vec<u8>>>,
    losses: AtomicU32,
    sent: Arc<AtomicU32>,
    responses: Mutex<mpsc::Receiver<Vec<u8>>>,
    respond: mpsc::Sender<Vec<u8>>,
}

impl Lossy {
    fn new(losses: u32) -> (Self, Arc<AtomicU32>) {
        let (respond, responses) = mpsc::channel(16);
        let sent = Arc::new(AtomicU32::new(0));
        let lossy = Self {
            server: Mutex::new(server()),
            losses: AtomicU32::new(losses),
            sent: sent.clone(),
            responses: Mutex::new(responses),
            respond,
        };
        (lossy, sent)
    }
}

impl Transport for Lossy {
    async fn send(&self, pdu: &[u8], _functional: bool) -> Result<(), TransportError> {
        self.sent.fetch_add(1, Ordering::SeqCst);
        let lose = |left: u32| left.checked_sub(1);
        let lost = self
            .losses
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose);
        if lost.is_ok() {
            return Err(TransportError::KernelIsoTp("lost by the test"));
        }
        let mut server = self.server.lock().await;
        server.on_pdu(now(), Addressing::Physical, pdu, &mut Ecu);
        while let Some(response) = server.poll_transmit().map(<[u8]>::to_vec) {
            self.respond.send(response).await.unwrap();
            server.on_sent(now());
        }
        Ok(())
    }

    async fn next(&self) -> Result<Incoming, TransportError> {
        let next = self.responses.lock().await.recv().await;
        next.map(Incoming::Pdu)
            .ok_or(TransportError::KernelIsoTp("the test has ended"))
    }
}

#[tokio::test]
async fn a_block_is_sent_again_and_a_write_is_not() {
    let (lossy, sent) = Lossy::new(2);
    let connection = Connection::new(lossy, patient());
    let block = connection.exchange(&[0x36, 1, 0], Options::default()).await;
    assert_eq!(block.unwrap().pdu(), [0x76, 1]);
    assert_eq!(sent.load(Ordering::SeqCst), 3);
    let (lossy, sent) = Lossy::new(1);
    let connection = Connection::new(lossy, patient());
    let write = connection
        .exchange(&[0x2E, 0xF1, 0x5A, 0], Options::default())
        .await;
    let error = write.unwrap_err();
    assert_eq!(error.to_string(), "kernel ISO-TP: lost by the test");
    assert_eq!(sent.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_dead_link_ends_every_request_with_the_reason() {
    let (a, b) = FrameLink::pair().unwrap();
    let tester = ChannelTransport::on(&Bus::new(a), config(TX, RX)).unwrap();
    let connection = Connection::new(tester, patient());
    drop(b);
    for _ in 0..2 {
        let result = connection.exchange(&[0x22, 0xF1, 0x90], Options::default());
        let error = result.await.unwrap_err();
        assert!(matches!(error, Error::Transport(_)), "{error}");
    }
}

#[tokio::test]
async fn the_calls_of_uds_rs() {
    let client = client();
    let vin = client.read_data_by_identifier(&[0xF190]).await.unwrap();
    let UdsResponse::ReadDataByIdentifier(DataFormat::Parsed(vin)) = vin else {
        panic!("{vin:?}");
    };
    assert_eq!(vin.data_records[0].data_identifier, 0xF190);
    assert_eq!(vin.data_records[0].data, b"VIN");
    let two = client.read_data_by_identifier(&[0xF190, 0xF18C]).await;
    let raw = vec![0xF1, 0x90, b'V', 0xF1, 0x8C, b'S'];
    assert_eq!(
        two,
        Ok(UdsResponse::ReadDataByIdentifier(DataFormat::Raw(raw)))
    );
    let dtcs = client.report_dtc_by_status_mask(0xFF).await.unwrap();
    let UdsResponse::ReadDTCInformation(DataFormat::Parsed(
        ReadDTCInformationResponse::ReportDTCByStatusMask(list),
    )) = dtcs
    else {
        panic!("{dtcs:?}");
    };
    assert_eq!(list.dtc_and_status_records[0].dtc, 0x01_0203);
    let cleared = client.clear_diagnostic_information(0xFF_FFFF).await;
    assert_eq!(cleared, Ok(UdsResponse::ClearDiagnosticInformation));
    let reset = client.ecu_reset(ResetType::HardReset).await.unwrap();
    assert!(matches!(
        reset,
        UdsResponse::EcuReset(DataFormat::Parsed(_))
    ));
    let memory = client.read_memory_by_address_simplified(0x1000, 2, Some(4), None);
    assert!(matches!(
        memory.await,
        Ok(UdsResponse::ReadMemoryByAddress(_))
    ));
    let written = client.write_data_by_identifier(0xF15A, &[1, 2, 3]).await;
    assert!(matches!(written, Ok(UdsResponse::WriteDataByIdentifier(_))));
    let session = client.diagnostic_session_control(3).await;
    assert!(matches!(
        session,
        Ok(UdsResponse::DiagnosticSessionControl(_))
    ));
}

#[tokio::test]
async fn the_services_that_uds_rs_lacks() {
    let client = client();
    let seed = client.security_access_request_seed(1, &[]).await.unwrap();
    assert!(matches!(seed, UdsResponse::SecurityAccess(seed) if seed.seed == [9; 4]));
    let key = client.security_access_send_key(1, &[1, 2]).await;
    assert!(matches!(key, Ok(UdsResponse::SecurityAccess(_))));
    let quiet = client.communication_control(CommunicationMode::Plain(3), 1);
    assert!(matches!(
        quiet.await,
        Ok(UdsResponse::CommunicationControl(_))
    ));
    let adjusted = client.input_output_control_by_identifier(
        0x9B00,
        IoControlParameter::SHORT_TERM_ADJUSTMENT,
        &[7],
    );
    let adjusted = adjusted.await.unwrap();
    assert!(matches!(
        adjusted,
        UdsResponse::InputOutputControlByIdentifier(_)
    ));
    let erased = client.routine_control(RoutineControlType::Start, RoutineId::ERASE_MEMORY, &[]);
    let erased = erased.await.unwrap();
    assert!(matches!(erased, UdsResponse::RoutineControl(r) if r.status == [0]));
    let area = MemoryArea::new(0, 4096);
    let download = client.request_download(TransferFormat(0), area).await;
    assert!(matches!(download, Ok(UdsResponse::RequestDownload(r)) if r.max_block_length == 4095));
    let block = client
        .transfer_data(BlockSequenceCounter::FIRST, &[0; 100])
        .await;
    assert!(matches!(block, Ok(UdsResponse::TransferData(_))));
    let done = client.request_transfer_exit(&[]).await;
    assert_eq!(done, Ok(UdsResponse::RequestTransferExit(vec![])));
    assert_eq!(
        client.tester_present().await,
        Ok(UdsResponse::TesterPresent)
    );
    let frozen = client.control_dtc_setting(2, &[]).await;
    assert!(matches!(frozen, Ok(UdsResponse::ControlDTCSetting(_))));
}

#[tokio::test]
async fn errors_have_the_shape_of_uds_rs() {
    let client = client();
    let refused = client.read_data_by_identifier(&[0x1234]).await;
    let nrc = NrcData {
        rejected_sid: 0x22,
        nrc: NegativeResponseCode::RequestOutOfRange,
    };
    assert_eq!(refused, Err(UdsError::NRC { nrc }));
    let none = client.read_data_by_identifier(&[]).await;
    assert_eq!(none, Err(UdsError::InvalidArgument));
    assert_eq!(
        client.send_and_receive(&[]).await,
        Err(UdsError::RequestEmpty)
    );
    let mismatch = client.read_memory_by_address(0x14, &[0; 3], &[2]).await;
    assert_eq!(mismatch, Err(UdsError::InvalidArgument));
}
