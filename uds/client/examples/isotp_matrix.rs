//! Our ISO-TP against the kernel's, on a real interface: every length that matters, classical and FD
//! frames, 11-bit and 29-bit identifiers, both directions; then a functional request from the kernel's
//! second socket, and a peer that is not there. One line per cell; the exit code is the
//! number of cells that failed, or 101 for a wrong command line.
//!
//! ```text
//! isotp_matrix vcan0
//! ```

use can_link::{Bus, ChannelEvent, ChannelOptions, IsoTpChannel};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use uds::can::CanId;
use uds::isotp::{Config, normal_fixed};
use uds_client::{
    ChannelTransport, Incoming, KernelTransport, Transport, TransportError, kernel_pdu_limit,
};

/// What one message may take, on an emulated machine too.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST: usize = 8200;

#[derive(Clone, Copy)]
struct Cell {
    fd: bool,
    extended: bool,
    /// The kernel sends and we receive, or the other way round.
    kernel_sends: bool,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let format = if self.fd { "fd" } else { "classical" };
        let bits = if self.extended { 29 } else { 11 };
        let direction = match self.kernel_sends {
            true => "kernel -> ours",
            false => "ours -> kernel",
        };
        write!(f, "{format:9} {bits} bit  {direction}")
    }
}

impl Cell {
    fn all() -> impl Iterator<Item = Self> {
        (0..8u8).map(|bits| Self {
            fd: bits & 1 != 0,
            extended: bits & 2 != 0,
            kernel_sends: bits & 4 != 0,
        })
    }

    /// The sender's end and the receiver's.
    fn configs(self) -> (Config, Config) {
        let ids = match self.extended {
            true => (normal_fixed(0x10, 0xF1), normal_fixed(0xF1, 0x10)),
            false => (CanId::standard(0x6F0), CanId::standard(0x6F8)),
        };
        let (Some(tx), Some(rx)) = ids else {
            unreachable!("identifiers in range");
        };
        match self.fd {
            true => (Config::fd(tx, rx), Config::fd(rx, tx)),
            false => (Config::new(tx, rx), Config::new(rx, tx)),
        }
    }

    async fn run(self, interface: &str) -> Result<usize, String> {
        let (sender, receiver) = self.configs();
        let bus = Bus::open(interface, self.fd).map_err(|error| error.to_string())?;
        let text = |error: TransportError| error.to_string();
        if self.kernel_sends {
            let from = KernelTransport::open(interface, &sender).map_err(text)?;
            let to = ChannelTransport::on(&bus, receiver).map_err(|error| error.to_string())?;
            exchange(&from, &to).await
        } else {
            let from = ChannelTransport::on(&bus, sender).map_err(|error| error.to_string())?;
            let to = KernelTransport::open(interface, &receiver).map_err(text)?;
            exchange(&from, &to).await
        }
    }
}

/// A functional request leaves the kernel's end under its own identifier.
async fn functional(interface: &str) -> Result<(), String> {
    let cell = Cell {
        fd: false,
        extended: false,
        kernel_sends: true,
    };
    let (mut sender, mut receiver) = cell.configs();
    sender.functional_id = CanId::standard(0x7DF);
    receiver.functional_id = sender.functional_id;
    let text = |error: TransportError| error.to_string();
    let bus = Bus::open(interface, false).map_err(|error| error.to_string())?;
    let options = ChannelOptions {
        receive_functional: true,
        ..ChannelOptions::default()
    };
    let channel = IsoTpChannel::open(&bus, receiver, &options);
    let channel = channel.map_err(|error| error.to_string())?;
    let kernel = KernelTransport::open(interface, &sender).map_err(text)?;
    kernel.send(&[0x3E, 0x80], true).await.map_err(text)?;
    let event = tokio::time::timeout(PATIENCE, channel.next_event()).await;
    match event.map_err(|_| "nothing within 30 s")? {
        Ok(ChannelEvent::Received {
            pdu,
            functional: true,
        }) if pdu == [0x3E, 0x80] => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Sending ends with an error where nobody answers the first frame.
async fn nobody(interface: &str) -> Result<(), String> {
    let ids = CanId::standard(0x6E0).zip(CanId::standard(0x6E8));
    let (tx, rx) = ids.ok_or("identifiers in range")?;
    let kernel = KernelTransport::open(interface, &Config::new(tx, rx));
    let kernel = kernel.map_err(|error| error.to_string())?;
    match kernel.send(&[0; 100], false).await {
        Err(TransportError::KernelIsoTp(reason)) if reason.contains("N_Bs") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Every length up to 300, then the edges of blocks, wraps of the sequence number, and limits.
fn lengths() -> Vec<usize> {
    let mut lengths: Vec<usize> = (1..=300).collect();
    for edge in [512, 1000, 1024, 2048, 4095, 4096, 4100, 6000, 8192, LONGEST] {
        lengths.extend(edge - 1..=edge + 1);
    }
    lengths.extend((350..LONGEST).step_by(397));
    lengths.retain(|len| *len <= LONGEST.min(kernel_pdu_limit()));
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|n| u8::try_from((n * 7 + len) % 251).unwrap_or(0))
        .collect()
}

async fn exchange(from: &impl Transport, to: &impl Transport) -> Result<usize, String> {
    let lengths = lengths();
    for len in &lengths {
        let pdu = pattern(*len);
        let both = async { tokio::join!(from.send(&pdu, false), receive(to)) };
        let done = tokio::time::timeout(PATIENCE, both).await;
        let (sent, received) = done.map_err(|_| format!("{len} bytes: nothing within 30 s"))?;
        sent.map_err(|error| format!("{len} bytes, sending: {error}"))?;
        let received = received.map_err(|error| format!("{len} bytes, receiving: {error}"))?;
        if received != pdu {
            return Err(format!(
                "{len} bytes: {} other bytes arrived",
                received.len()
            ));
        }
    }
    Ok(lengths.len())
}

async fn receive(transport: &impl Transport) -> Result<Vec<u8>, TransportError> {
    loop {
        match transport.next().await? {
            Incoming::Started => {}
            Incoming::Pdu(pdu) => return Ok(pdu),
            Incoming::Failed(error) => return Err(error),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(interface) = std::env::args().nth(1) else {
        eprintln!("usage: isotp_matrix INTERFACE, such as vcan0 with an MTU of 72");
        return ExitCode::from(101);
    };
    println!("kernel ISO-TP carries {} bytes", kernel_pdu_limit());
    let mut failed = 0u8;
    for cell in Cell::all() {
        let start = Instant::now();
        match cell.run(&interface).await {
            Ok(count) => {
                let seconds = start.elapsed().as_secs_f32();
                println!("ok      {cell}  {count} lengths in {seconds:.1} s");
            }
            Err(reason) => {
                failed += 1;
                println!("FAILED  {cell}  {reason}");
            }
        }
    }
    let rules = [
        (
            "functional request of the kernel",
            functional(&interface).await,
        ),
        ("nobody answers the kernel", nobody(&interface).await),
    ];
    for (name, result) in rules {
        match result {
            Ok(()) => println!("ok      {name}"),
            Err(reason) => {
                failed += 1;
                println!("FAILED  {name}: {reason}");
            }
        }
    }
    match failed {
        0 => println!("all cells ok"),
        failed => println!("{failed} cells failed"),
    }
    ExitCode::from(failed)
}
