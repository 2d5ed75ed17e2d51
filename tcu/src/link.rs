//! Carries PDUs between a [`Vehicle`] machine and the buses: one ISO-TP connection per ECU, all at
//! once.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use campaign::vehicle::{self, Addressing, Ecu};
use can_link::{Bus, ChannelEvent, ChannelOptions, IsoTpChannel, now};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use uds::can::CanId;
use uds::client::TransportFault;
use uds::isotp;

use crate::error::Error;
use crate::vehicle::{Address, Event, Vehicle};

/// Inputs that wait for the machine.
const QUEUE: usize = 256;

/// How PDUs are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// Our ISO-TP, over raw SocketCAN or the user-space bus.
    Isotp,
    /// The kernel's ISO-TP sockets.
    Kernel,
}

/// What a connection has received.
#[derive(Debug)]
pub enum Received {
    /// The first frame of a longer PDU.
    Started,
    /// A PDU.
    Pdu(Vec<u8>),
    /// A PDU that had begun did not arrive whole.
    Failed,
}

/// A future of a port.
pub type PortFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The connection to one ECU.
pub trait Link: Send + Sync {
    /// Sends a PDU; ends when it is on the bus. An error says why it is not.
    fn send<'a>(&'a self, pdu: &'a [u8]) -> PortFuture<'a, Result<(), String>>;
    /// Sends a PDU to the functional address.
    fn send_functional<'a>(&'a self, pdu: &'a [u8]) -> PortFuture<'a, Result<(), String>>;
    /// The next thing received. An error ends the connection.
    fn receive(&self) -> PortFuture<'_, Result<Received, String>>;
}

impl Link for IsoTpChannel {
    fn send<'a>(&'a self, pdu: &'a [u8]) -> PortFuture<'a, Result<(), String>> {
        Box::pin(async move { self.send(pdu).await.map_err(|error| error.to_string()) })
    }

    fn send_functional<'a>(&'a self, pdu: &'a [u8]) -> PortFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let sent = self.send_functional(pdu).await;
            sent.map_err(|error| error.to_string())
        })
    }

    fn receive(&self) -> PortFuture<'_, Result<Received, String>> {
        Box::pin(async move {
            match self.next_event().await {
                Ok(ChannelEvent::Started { .. }) => Ok(Received::Started),
                Ok(ChannelEvent::Received { pdu, .. }) => Ok(Received::Pdu(pdu)),
                Ok(ChannelEvent::Failed(_)) => Ok(Received::Failed),
                Err(error) => Err(error.to_string()),
            }
        })
    }
}

/// The connections to some ECUs of a vehicle, in the order they were asked for.
pub struct Links {
    ecus: Vec<Arc<dyn Link>>,
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
        let mut opened: HashMap<&str, Bus> = HashMap::new();
        let mut links = Self {
            ecus: Vec::new(),
            buses: Vec::new(),
        };
        for (index, (ecu, bus)) in ecus.iter().enumerate() {
            let config = vehicle.bus(&ecu.bus).ok_or_else(|| Error::Link {
                bus: ecu.bus.to_string(),
                what: "no bus of this name".into(),
            })?;
            let failed = |what: String| Error::Link {
                bus: config.name.to_string(),
                what: format!("{}: {what}", config.link),
            };
            let link: Arc<dyn Link> = match transport {
                Transport::Isotp => {
                    let shared = match opened.get(config.name.as_str()) {
                        Some(shared) => shared.clone(),
                        None => Bus::open(&config.link.to_string(), config.fd)
                            .map_err(|error| failed(error.to_string()))?,
                    };
                    let channel = channel(&shared, ecu, config.fd).map_err(failed)?;
                    opened.insert(config.name.as_str(), shared);
                    Arc::new(channel)
                }
                Transport::Kernel => return Err(failed("kernel ISO-TP is not linked in".into())),
            };
            links.ecus.push(link);
            if links.buses.len() <= *bus {
                links.buses.resize(bus + 1, Vec::new());
            }
            // One frame reaches all that share the functional identifier.
            if let Some(group) = links.buses.get_mut(*bus) {
                let shares = |other: &usize| {
                    ecus.get(*other)
                        .is_some_and(|(other, _)| other.functional_id == ecu.functional_id)
                };
                if !group.iter().any(shares) {
                    group.push(index);
                }
            }
        }
        Ok(links)
    }
}

/// Our ISO-TP to one ECU.
fn channel(bus: &Bus, ecu: &Ecu, fd: bool) -> Result<IsoTpChannel, String> {
    let (tx, rx) = (can_id(ecu.request_id)?, can_id(ecu.response_id)?);
    let base = match fd {
        true => isotp::Config::fd(tx, rx),
        false => isotp::Config::new(tx, rx),
    };
    let config = isotp::Config {
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
    };
    let options = ChannelOptions::default();
    IsoTpChannel::open(bus, config, &options).map_err(|error| error.to_string())
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
    Received(usize, Received),
    Sent(Address),
    NotSent(Address, String),
    Broken(usize, String),
}

/// Runs a machine over its links until it has finished or `stop` says so. Events go to `on_event`.
///
/// # Errors
///
/// [`Error::Stopped`]; the machine's journal then stands where it stopped.
pub async fn drive(
    vehicle: &mut dyn Vehicle,
    links: &Links,
    stop: &mut watch::Receiver<bool>,
    on_event: &mut (dyn FnMut(Event) + Send),
) -> Result<(), Error> {
    let mut tasks = JoinSet::new();
    let (inputs, mut received) = mpsc::channel(QUEUE);
    let mut outputs = HashMap::new();
    for (index, link) in links.ecus.iter().enumerate() {
        tasks.spawn(receive(index, link.clone(), inputs.clone()));
        let address = Address::Ecu(index);
        let (pdus, queue) = mpsc::unbounded_channel();
        tasks.spawn(send(address, vec![link.clone()], queue, inputs.clone()));
        outputs.insert(address, pdus);
    }
    for (index, group) in links.buses.iter().enumerate() {
        let address = Address::Bus(index);
        let group = group.iter().filter_map(|ecu| links.ecus.get(*ecu).cloned());
        let (pdus, queue) = mpsc::unbounded_channel();
        tasks.spawn(send(address, group.collect(), queue, inputs.clone()));
        outputs.insert(address, pdus);
    }
    loop {
        while let Some(transmit) = vehicle.poll_transmit(now()) {
            if let Some(queue) = outputs.get(&transmit.to) {
                // The task ends with this function only.
                let _ = queue.send(transmit.pdu);
            }
        }
        while let Some(event) = vehicle.poll_event() {
            on_event(event);
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
            () = sleep_until(timeout) => vehicle.handle_timeout(now()),
            _ = stop.wait_for(|stop| *stop) => return Err(Error::Stopped),
        }
    }
}

fn handle(vehicle: &mut dyn Vehicle, input: Input) {
    match input {
        Input::Received(ecu, Received::Pdu(pdu)) => vehicle.handle_pdu(now(), ecu, &pdu),
        Input::Received(ecu, Received::Started) => vehicle.handle_receive_started(now(), ecu),
        Input::Received(ecu, Received::Failed) => {
            vehicle.handle_fault(now(), Address::Ecu(ecu), TransportFault::Receive);
        }
        Input::Sent(to) => vehicle.handle_sent(now(), to),
        Input::NotSent(to, what) => {
            tracing::debug!(?to, what, "not sent");
            vehicle.handle_fault(now(), to, TransportFault::Send);
        }
        Input::Broken(ecu, what) => tracing::warn!(ecu, what, "the connection has ended"),
    }
}

async fn sleep_until(timeout: Option<uds::time::Instant>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout.saturating_since(now())).await,
        None => std::future::pending().await,
    }
}

async fn receive(index: usize, link: Arc<dyn Link>, inputs: mpsc::Sender<Input>) {
    loop {
        let input = match link.receive().await {
            Ok(received) => Input::Received(index, received),
            Err(what) => {
                let _ = inputs.send(Input::Broken(index, what)).await;
                return;
            }
        };
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

/// Sends what is queued for one address, through every link of it.
async fn send(
    to: Address,
    links: Vec<Arc<dyn Link>>,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
    inputs: mpsc::Sender<Input>,
) {
    while let Some(pdu) = queue.recv().await {
        let mut result = Ok(());
        for link in &links {
            let sent = match to {
                Address::Ecu(_) => link.send(&pdu).await,
                Address::Bus(_) => link.send_functional(&pdu).await,
            };
            result = result.and(sent);
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
