//! What carries PDUs, and the choice among what does.

use crate::TransportError;
use crate::kernel::{KernelTransport, kernel_pdu_limit};
use can_link::{Bus, ChannelEvent, ChannelOptions, IsoTpChannel, LinkError};
use std::future::Future;
use uds::isotp;

/// What came in.
#[derive(Debug, Clone)]
pub enum Incoming {
    /// The beginning of a longer PDU.
    Started,
    /// A PDU.
    Pdu(Vec<u8>),
    /// A PDU that had begun did not arrive whole. The transport goes on.
    Failed(TransportError),
}

/// Carries PDUs to and from one server.
pub trait Transport: Send + Sync + 'static {
    /// Sends a PDU; ends when it is on the bus.
    ///
    /// # Errors
    /// When it did not get there.
    fn send(
        &self,
        pdu: &[u8],
        functional: bool,
    ) -> impl Future<Output = Result<(), TransportError>> + Send;

    /// What comes in next. Cancelling loses nothing.
    ///
    /// # Errors
    /// When the transport has ended.
    fn next(&self) -> impl Future<Output = Result<Incoming, TransportError>> + Send;

    /// Whether [`Incoming::Started`] precedes a PDU of several frames. Where it does not, a long
    /// response must be waited for beyond P2.
    fn announces(&self) -> bool {
        true
    }
}

/// Our ISO-TP, over a raw interface or the user-space bus.
#[derive(Debug)]
pub struct ChannelTransport(IsoTpChannel);

impl ChannelTransport {
    /// Over an open channel.
    #[must_use]
    pub const fn new(channel: IsoTpChannel) -> Self {
        Self(channel)
    }

    /// Opens a channel on a bus that others share. Within a tokio runtime.
    ///
    /// # Errors
    /// When the link fails.
    pub fn on(bus: &Bus, config: isotp::Config) -> Result<Self, LinkError> {
        IsoTpChannel::open(bus, config, &ChannelOptions::default()).map(Self)
    }
}

impl Transport for ChannelTransport {
    async fn send(&self, pdu: &[u8], functional: bool) -> Result<(), TransportError> {
        match functional {
            true => self.0.send_functional(pdu).await?,
            false => self.0.send(pdu).await?,
        }
        Ok(())
    }

    async fn next(&self) -> Result<Incoming, TransportError> {
        Ok(match self.0.next_event().await? {
            ChannelEvent::Started { .. } => Incoming::Started,
            ChannelEvent::Received { pdu, .. } => Incoming::Pdu(pdu),
            ChannelEvent::Failed(error) => {
                Incoming::Failed(can_link::ChannelError::IsoTp(error).into())
            }
        })
    }
}

/// Whose ISO-TP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// The kernel's, where the link is an interface, the kernel has it and it carries PDUs of 4095
    /// bytes; else ours.
    #[default]
    Auto,
    /// The kernel's.
    Kernel,
    /// Ours.
    Own,
}

/// Either transport.
#[derive(Debug)]
pub enum AnyTransport {
    /// Ours.
    Own(ChannelTransport),
    /// The kernel's.
    Kernel(KernelTransport),
}

impl Transport for AnyTransport {
    async fn send(&self, pdu: &[u8], functional: bool) -> Result<(), TransportError> {
        match self {
            Self::Own(own) => own.send(pdu, functional).await,
            Self::Kernel(kernel) => kernel.send(pdu, functional).await,
        }
    }

    async fn next(&self) -> Result<Incoming, TransportError> {
        match self {
            Self::Own(own) => own.next().await,
            Self::Kernel(kernel) => kernel.next().await,
        }
    }

    fn announces(&self) -> bool {
        match self {
            Self::Own(own) => own.announces(),
            Self::Kernel(kernel) => kernel.announces(),
        }
    }
}

/// The PDU that [`Backend::Auto`] wants carried.
const ORDINARY_PDU: usize = 4095;

/// Opens a connection on `link`: `can0`, `vcan0`, `bus:PATH`. Within a tokio runtime.
///
/// # Errors
/// [`TransportError`], which says what to do.
pub fn open(
    link: &str,
    config: isotp::Config,
    backend: Backend,
) -> Result<AnyTransport, TransportError> {
    let kernel = match backend {
        Backend::Own => false,
        Backend::Kernel => true,
        Backend::Auto => !link.starts_with("bus:") && kernel_pdu_limit() >= ORDINARY_PDU,
    };
    if kernel {
        match KernelTransport::open(link, &config) {
            Ok(transport) => return Ok(AnyTransport::Kernel(transport)),
            Err(TransportError::NoKernelIsoTp) if backend == Backend::Auto => {
                tracing::info!(link, "no ISO-TP in this kernel: using our own");
            }
            Err(error) => return Err(error),
        }
    }
    let fd = config.format != uds::can::Format::Classical;
    let bus = Bus::open(link, fd).map_err(|error| match error {
        LinkError::NoKernelCan => TransportError::NoKernelCan,
        error => error.into(),
    })?;
    Ok(AnyTransport::Own(ChannelTransport::on(&bus, config)?))
}
