//! Carries PDUs between a [`Vehicle`] machine and the buses: one ISO-TP connection per ECU, all at
//! once.

use std::collections::HashMap;
use std::sync::Arc;

use campaign::vehicle::{self, Addressing, Ecu};
use can_link::{Bus, now};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use uds::can::CanId;
use uds::client::TransportFault;
use uds::isotp;
use uds_client::{
    AnyTransport, ChannelTransport, Incoming, KernelTransport, Transport as _, TransportError,
};

use crate::error::Error;
use crate::lines::Held;
use crate::vehicle::{Address, Control, Event, Vehicle};

/// Inputs that wait for the machine.
const QUEUE: usize = 256;

/// How PDUs are carried.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Our ISO-TP, over raw SocketCAN or the user-space bus.
    Isotp,
    /// The kernel's ISO-TP sockets.
    Kernel,
}

/// The connections to some ECUs of a vehicle, in the order they were asked for.
#[derive(Debug)]
pub struct Links {
    /// `None`: nothing reaches it.
    ecus: Vec<Option<Arc<AnyTransport>>>,
    /// For each bus the ECUs through which functional requests go, one per functional identifier.
    buses: Vec<Vec<usize>>,
}

impl Links {
    /// Opens a connection to each of `ecus`, which name their bus by its index.
    ///
    /// # Errors
    ///
    /// [`Error::Link`].
    pub fn open(
        vehicle: &vehicle::Vehicle,
        ecus: &[(&Ecu, usize)],
        transport: Transport,
    ) -> Result<Self, Error> {
        let ecus: Vec<_> = ecus.iter().map(|(ecu, bus)| (Some(*ecu), *bus)).collect();
        let (links, missing) = Self::open_present(vehicle, &ecus, transport);
        missing.into_iter().next().map_or(Ok(links), Err)
    }

    /// Opens a connection to each ECU that can be reached, and says what keeps the others from it: to
    /// the machine they are silent.
    #[must_use]
    pub fn open_present(
        vehicle: &vehicle::Vehicle,
        ecus: &[(Option<&Ecu>, usize)],
        transport: Transport,
    ) -> (Self, Vec<Error>) {
        let mut opened = HashMap::new();
        let mut links = Self {
            ecus: Vec::new(),
            buses: Vec::new(),
        };
        let mut missing: Vec<Error> = Vec::new();
        for (index, (ecu, bus)) in ecus.iter().enumerate() {
            if links.buses.len() <= *bus {
                links.buses.resize(bus + 1, Vec::new());
            }
            let link = ecu.map(|ecu| connect_on(vehicle, ecu, transport, &mut opened));
            let link = link.and_then(|link| {
                let told =
                    |error: &Error| missing.iter().any(|it| it.to_string() == error.to_string());
                match link {
                    Ok(link) => Some(Arc::new(link)),
                    Err(error) if told(&error) => None,
                    Err(error) => {
                        missing.push(error);
                        None
                    }
                }
            });
            let reached = link.is_some();
            links.ecus.push(link);
            // One frame reaches all that share the functional identifier.
            let functional = |index: usize| Some(ecus.get(index)?.0?.functional_id);
            if let Some(group) = links.buses.get_mut(*bus).filter(|_| reached) {
                let shares = |other: &usize| functional(*other) == functional(index);
                if !group.iter().any(shares) {
                    group.push(index);
                }
            }
        }
        (links, missing)
    }
}

fn connect_on<'a>(
    vehicle: &'a vehicle::Vehicle,
    ecu: &Ecu,
    transport: Transport,
    opened: &mut HashMap<&'a str, Bus>,
) -> Result<AnyTransport, Error> {
    let failed = |bus: &campaign::ids::BusName, what| Error::Link {
        bus: bus.to_string(),
        what,
    };
    let config = vehicle.bus(&ecu.bus);
    let config = config.ok_or_else(|| failed(&ecu.bus, "no bus of this name".into()))?;
    let link = connect(config, ecu, transport, opened);
    link.map_err(|what| failed(&config.name, what))
}

/// A connection to one ECU, for who talks to it alone.
pub(crate) fn connect_alone(
    vehicle: &vehicle::Vehicle,
    ecu: &Ecu,
    transport: Transport,
) -> Result<AnyTransport, Error> {
    connect_on(vehicle, ecu, transport, &mut HashMap::new())
}

/// A connection to one ECU; those of our own ISO-TP share one link per bus.
fn connect<'a>(
    bus: &'a vehicle::Bus,
    ecu: &Ecu,
    transport: Transport,
    opened: &mut HashMap<&'a str, Bus>,
) -> Result<AnyTransport, String> {
    let name = bus.link.to_string();
    let failed = |error: &dyn std::fmt::Display| format!("{name}: {error}");
    let config = connection(ecu, bus.fd)?;
    if transport == Transport::Kernel {
        let opened = KernelTransport::open(&name, &config);
        return opened
            .map(AnyTransport::Kernel)
            .map_err(|error| failed(&error));
    }
    let shared = match opened.get(bus.name.as_str()) {
        Some(shared) => shared.clone(),
        None => Bus::open(&name, bus.fd).map_err(|error| failed(&error))?,
    };
    let own = ChannelTransport::on(&shared, config).map_err(|error| failed(&error))?;
    opened.insert(bus.name.as_str(), shared);
    Ok(AnyTransport::Own(own))
}

/// ISO-TP to one ECU.
fn connection(ecu: &Ecu, fd: bool) -> Result<isotp::Config, String> {
    let (tx, rx) = (can_id(ecu.request_id)?, can_id(ecu.response_id)?);
    let base = match fd {
        true => isotp::Config::fd(tx, rx),
        false => isotp::Config::new(tx, rx),
    };
    Ok(isotp::Config {
        functional_id: Some(can_id(ecu.functional_id)?),
        addressing: match ecu.addressing {
            Addressing::Normal => isotp::Addressing::Normal,
            Addressing::Extended {
                ecu_address,
                tester_address,
            } => isotp::Addressing::Extended {
                tx: ecu_address,
                rx: tester_address,
                functional: ecu_address,
            },
            Addressing::Mixed { address_extension } => isotp::Addressing::Mixed {
                extension: address_extension,
            },
        },
        ..base
    })
}

fn can_id(id: campaign::ids::CanId) -> Result<CanId, String> {
    let converted = match id.is_extended() {
        true => CanId::extended(id.raw()),
        false => u16::try_from(id.raw()).ok().and_then(CanId::standard),
    };
    converted.ok_or_else(|| format!("{id} is no CAN identifier"))
}

/// What comes back from the connections.
enum Input {
    Incoming(usize, Incoming),
    Sent(Address),
    NotSent(Address, TransportError),
    Lost(Address),
    Broken(usize, TransportError),
}

/// Runs a machine over its links until it has finished or `control` says stop. Events go to
/// `on_event`.
///
/// # Errors
///
/// [`Error::Stopped`]; the machine's journal then stands where it stopped.
pub async fn drive(
    vehicle: &mut dyn Vehicle,
    links: &Links,
    held: &mut Held,
    control: &mut watch::Receiver<Control>,
    on_event: &mut (dyn FnMut(Event) + Send),
) -> Result<(), Error> {
    let mut tasks = JoinSet::new();
    let (inputs, mut received) = mpsc::channel(QUEUE);
    let mut outputs = HashMap::new();
    let mut replies = HashMap::new();
    for (index, link) in links.ecus.iter().enumerate() {
        let address = Address::Ecu(index);
        let (pdus, queue) = mpsc::unbounded_channel();
        match link {
            Some(link) => {
                tasks.spawn(receive(index, link.clone(), inputs.clone()));
                tasks.spawn(send(address, vec![link.clone()], queue, inputs.clone()));
            }
            None => {
                tasks.spawn(lose(address, queue, inputs.clone()));
            }
        }
        outputs.insert(address, pdus);
    }
    for (index, group) in links.buses.iter().enumerate() {
        let address = Address::Bus(index);
        let group = group.iter();
        let group = group.filter_map(|ecu| links.ecus.get(*ecu).cloned().flatten());
        let (pdus, queue) = mpsc::unbounded_channel();
        tasks.spawn(send(address, group.collect(), queue, inputs.clone()));
        outputs.insert(address, pdus);
    }
    control.mark_changed();
    loop {
        if control.has_changed().unwrap_or(false) {
            let wanted = *control.borrow_and_update();
            if wanted.stop {
                return Err(Error::Stopped);
            }
            vehicle.handle_control(&wanted);
        }
        while let Some(transmit) = vehicle.poll_transmit(now()) {
            if let Some(queue) = outputs.get(&transmit.to) {
                // The task ends with this function only.
                let _ = queue.send(transmit.pdu);
            }
        }
        while let Some(event) = vehicle.poll_event() {
            if let Event::Answered(ecu, record) = event {
                let reply: Option<oneshot::Sender<Vec<u8>>> = replies.remove(&ecu);
                // Who asked may have gone.
                reply.zip(record).map(|(reply, record)| reply.send(record));
            } else {
                on_event(event);
            }
        }
        if vehicle.is_finished() {
            return Ok(());
        }
        let timeout = vehicle.poll_timeout();
        tokio::select! {
            biased;
            Some(input) = received.recv() => {
                handle(vehicle, input);
                // What came while the machine was busy came before the next deadline.
                while let Ok(input) = received.try_recv() {
                    handle(vehicle, input);
                }
            }
            Some(question) = held.asked.recv() => {
                if vehicle.handle_question(now(), question.ecu, question.did) {
                    replies.insert(question.ecu, question.reply);
                }
            }
            () = sleep_until(timeout) => vehicle.handle_timeout(now()),
            Ok(()) = control.changed() => control.mark_changed(),
        }
    }
}

fn handle(vehicle: &mut dyn Vehicle, input: Input) {
    match input {
        Input::Incoming(ecu, Incoming::Pdu(pdu)) => vehicle.handle_pdu(now(), ecu, &pdu),
        Input::Incoming(ecu, Incoming::Started) => vehicle.handle_receive_started(now(), ecu),
        Input::Incoming(ecu, Incoming::Failed(error)) => {
            tracing::debug!(ecu, %error, "not received");
            vehicle.handle_fault(now(), Address::Ecu(ecu), TransportFault::Receive);
        }
        Input::Sent(to) => vehicle.handle_sent(now(), to),
        Input::NotSent(to, error) => {
            tracing::debug!(?to, %error, "not sent");
            vehicle.handle_fault(now(), to, TransportFault::Send);
        }
        Input::Lost(to) => vehicle.handle_fault(now(), to, TransportFault::Send),
        Input::Broken(ecu, error) => tracing::warn!(ecu, %error, "the connection has ended"),
    }
}

async fn sleep_until(timeout: Option<uds::time::Instant>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout.saturating_since(now())).await,
        None => std::future::pending().await,
    }
}

async fn receive(index: usize, link: Arc<AnyTransport>, inputs: mpsc::Sender<Input>) {
    loop {
        let input = match link.next().await {
            Ok(incoming) => Input::Incoming(index, incoming),
            Err(error) => {
                let _ = inputs.send(Input::Broken(index, error)).await;
                return;
            }
        };
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

/// Nothing reaches this address.
async fn lose(
    to: Address,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
    inputs: mpsc::Sender<Input>,
) {
    while queue.recv().await.is_some() {
        if inputs.send(Input::Lost(to)).await.is_err() {
            return;
        }
    }
}

/// Sends what is queued for one address, through every link of it.
async fn send(
    to: Address,
    links: Vec<Arc<AnyTransport>>,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
    inputs: mpsc::Sender<Input>,
) {
    while let Some(pdu) = queue.recv().await {
        let mut result = Ok(());
        for link in &links {
            let functional = matches!(to, Address::Bus(_));
            result = result.and(link.send(&pdu, functional).await);
        }
        let input = match result {
            Ok(()) => Input::Sent(to),
            Err(what) => Input::NotSent(to, what),
        };
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}
