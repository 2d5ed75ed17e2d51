//! Options of ISO-TP in the shape of `uds-rs`, and its socket.

use super::UdsCommunicationError;
use crate::{AnyTransport, Backend, Incoming, Transport, TransportError, open};
use socketcan_isotp::{Id, IsoTpBehaviour, IsoTpOptions, TxFlags};
use std::time::Duration;
use uds::can::{CanId, Format};
use uds::isotp::{Addressing, Config, StMin, TxDl};

/// What this end asks for in its FlowControl (`struct can_isotp_fc_options`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowControlOptions {
    /// BS: frames between two FlowControls, 0 for no limit.
    pub bs: u8,
    /// STmin as on the wire.
    pub stmin: u8,
    /// FlowControl.WAIT that are put up with.
    pub wftmax: u8,
}

impl FlowControlOptions {
    /// All three.
    #[must_use]
    pub const fn new(bs: u8, stmin: u8, wftmax: u8) -> Self {
        Self { bs, stmin, wftmax }
    }
}

/// The frames (`struct can_isotp_ll_options`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkLayerOptions {
    /// 16 for classical frames, 72 for FD.
    pub mtu: u8,
    /// TX_DL: the longest frame sent, 8 to 64 bytes.
    pub tx_dl: u8,
    /// The bits of [`TxFlags`], for FD frames.
    pub tx_flags: u8,
}

impl LinkLayerOptions {
    /// All three.
    #[must_use]
    pub fn new(mtu: u8, tx_dl: u8, tx_flags: TxFlags) -> Self {
        Self {
            mtu,
            tx_dl,
            tx_flags: tx_flags.bits(),
        }
    }
}

impl Default for LinkLayerOptions {
    fn default() -> Self {
        Self::new(16, 8, TxFlags::empty())
    }
}

/// How the connection below is made. Everything `None` is right for most servers.
#[derive(Default)]
pub struct UdsSocketOptions {
    /// Addressing and padding. The frame gap in it is not used: it is always as short as the server
    /// allows.
    pub isotp_options: Option<IsoTpOptions>,
    /// What this end asks for in its FlowControl.
    pub rx_flow_control_options: Option<FlowControlOptions>,
    /// Classical or FD.
    pub link_layer_options: Option<LinkLayerOptions>,
}

impl UdsSocketOptions {
    /// Whether nothing is set.
    #[must_use]
    pub const fn is_default(&self) -> bool {
        self.isotp_options.is_none()
            && self.rx_flow_control_options.is_none()
            && self.link_layer_options.is_none()
    }

    /// What servers of the Volkswagen group expect: frames filled with 0x55.
    ///
    /// # Errors
    /// None; the signature is that of `uds-rs`.
    pub fn vw() -> Result<Self, UdsCommunicationError> {
        let padded = IsoTpBehaviour::CAN_ISOTP_TX_PADDING | IsoTpBehaviour::CAN_ISOTP_RX_PADDING;
        let options = IsoTpOptions::new(padded, Duration::ZERO, 0, 0x55, 0xAA, 0);
        let options = options
            .map_err(|error| UdsCommunicationError::SocketCreationError(error.to_string()))?;
        Ok(Self {
            isotp_options: Some(options),
            ..Self::default()
        })
    }

    /// The connection that receives frames of `src` and sends frames of `dst`.
    ///
    /// # Errors
    /// When TX_DL is none that a frame has.
    pub fn isotp_config(&self, src: Id, dst: Id) -> Result<Config, UdsCommunicationError> {
        let mut config = Config::new(CanId::from(dst), CanId::from(src));
        if let Some(options) = &self.isotp_options {
            let flags = options.get_flags().unwrap_or(IsoTpBehaviour::empty());
            let padded = flags.contains(IsoTpBehaviour::CAN_ISOTP_TX_PADDING);
            config.padding = padded.then(|| options.get_txpad_content());
            if flags.contains(IsoTpBehaviour::CAN_ISOTP_EXTEND_ADDR) {
                let tx = options.get_ext_address();
                let rx = match flags.contains(IsoTpBehaviour::CAN_ISOTP_RX_EXT_ADDR) {
                    true => options.get_rx_ext_address(),
                    false => tx,
                };
                config.addressing = Addressing::Extended {
                    tx,
                    rx,
                    functional: tx,
                };
            }
        }
        if let Some(flow) = self.rx_flow_control_options {
            config.block_size = flow.bs;
            config.st_min = StMin::from_wire(flow.stmin);
            config.wft_max = flow.wftmax;
        }
        if let Some(link) = self.link_layer_options.filter(|link| link.mtu > 16) {
            let brs = link.tx_flags & TxFlags::CANFD_BRS.bits() != 0;
            config.format = Format::Fd { brs };
            config.tx_dl = TxDl::new(link.tx_dl.into()).ok_or_else(|| {
                UdsCommunicationError::SocketCreationError(format!(
                    "no frame is {} bytes long",
                    link.tx_dl
                ))
            })?;
        }
        Ok(config)
    }
}

/// Whole PDUs without any rule of UDS.
#[derive(Debug)]
pub struct UdsSocket(pub(super) AnyTransport);

impl UdsSocket {
    /// Opens the connection on `ifname` that receives frames of `src` and sends frames of `dst`.
    /// Within a tokio runtime.
    ///
    /// # Errors
    /// [`UdsCommunicationError`].
    pub fn new(
        ifname: &str,
        src: impl Into<Id>,
        dst: impl Into<Id>,
        options: UdsSocketOptions,
    ) -> Result<Self, UdsCommunicationError> {
        let config = options.isotp_config(src.into(), dst.into())?;
        Ok(Self(open(ifname, config, Backend::Auto)?))
    }

    /// Sends a PDU.
    ///
    /// # Errors
    /// [`UdsCommunicationError`].
    pub async fn send(&self, payload: &[u8]) -> Result<(), UdsCommunicationError> {
        Ok(self.0.send(payload, false).await?)
    }

    /// The next PDU.
    ///
    /// # Errors
    /// [`UdsCommunicationError`].
    pub async fn receive(&self) -> Result<Vec<u8>, UdsCommunicationError> {
        loop {
            match self.0.next().await? {
                Incoming::Started => {}
                Incoming::Pdu(pdu) => return Ok(pdu),
                Incoming::Failed(error) => return Err(TransportError::into(error)),
            }
        }
    }
}
