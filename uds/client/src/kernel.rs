//! The kernel's ISO-TP (CAN_ISOTP, `Documentation/networking/iso15765-2.rst`) through
//! `socketcan-isotp`, with its traps handled:
//!
//! - A frame gap of 50 µs by default, which makes it 16 to 24 times slower: set to zero, where the
//!   kernel knows how.
//! - `write` returns before the PDU is sent: CAN_ISOTP_WAIT_TX_DONE, on a thread for blocking calls.
//! - A receive buffer of 4096 bytes in the crate: we read the socket ourselves.
//! - PDUs of 8300 bytes at most, unless the module is told otherwise: [`kernel_pdu_limit`].
//! - One socket has one pair of identifiers: functional requests leave through a second one.

use crate::{Incoming, TransportError};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv, send};
use socketcan_isotp::{
    FlowControlOptions, Id, IsoTpBehaviour, IsoTpOptions, IsoTpSocket, LinkLayerOptions, TxFlags,
};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use uds::can::{CanId, Format};
use uds::isotp::{Addressing, Config};

/// Flags of `linux/can/isotp.h` that `socketcan-isotp` does not name.
const CAN_ISOTP_WAIT_TX_DONE: u32 = 0x400;
const CAN_ISOTP_SF_BROADCAST: u32 = 0x800;
/// CAN_ISOTP_FRAME_TXTIME_ZERO.
const NO_FRAME_GAP: u32 = 0xFFFF_FFFF;
/// What a kernel that knows `NO_FRAME_GAP` has as default.
const DEFAULT_FRAME_TXTIME: u32 = 50_000;
/// What the kernel carries where it does not say: before version 6.4.
const OLD_PDU_LIMIT: usize = 8200;
/// Longer than any module parameter allows.
const RECEIVE_BUFFER: usize = 1_025 << 10;
const CANFD_MTU: u8 = 72;
const CAN_MTU: u8 = 16;

/// One connection of the kernel's ISO-TP.
#[derive(Debug)]
pub struct KernelTransport {
    socket: Arc<AsyncFd<Socket>>,
    functional: Option<Arc<Socket>>,
    single_frame: usize,
    limit: usize,
    /// Held while sending: an error of the socket goes to whoever asks first.
    io: tokio::sync::Mutex<()>,
}

struct Socket(IsoTpSocket);

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IsoTpSocket({})", self.0.as_raw_fd())
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

impl KernelTransport {
    /// Opens the connection that `config` describes on the interface `name`. Its timeouts and
    /// `wft_max` are the kernel's own. Within a tokio runtime.
    ///
    /// # Errors
    /// [`TransportError`], which says what to do.
    pub fn open(name: &str, config: &Config) -> Result<Self, TransportError> {
        if name.starts_with("bus:") {
            return Err(TransportError::NotAnInterface { name: name.into() });
        }
        let gap = frame_gap()?;
        let socket = open_socket(name, config, config.tx_id, CAN_ISOTP_WAIT_TX_DONE, gap)?;
        socket
            .set_nonblocking(true)
            .map_err(|error| TransportError::io("set non-blocking", error))?;
        // SAFETY: the socket owns its open descriptor, gives the same one at every call, and closes
        // it only when it is dropped, with the AsyncFd around it.
        #[allow(unsafe_code)]
        let socket = unsafe { AsyncFd::register(Socket(socket)) }
            .map_err(|error| TransportError::io("register the socket", error))?;
        let functional = match config.functional_id {
            Some(id) => Some(open_socket(name, config, id, CAN_ISOTP_SF_BROADCAST, gap)?),
            None => None,
        };
        Ok(Self {
            socket: Arc::new(socket),
            functional: functional.map(|socket| Arc::new(Socket(socket))),
            single_frame: config.single_frame_len(),
            limit: kernel_pdu_limit(),
            io: tokio::sync::Mutex::new(()),
        })
    }

    /// The longest PDU it sends, in bytes.
    #[must_use]
    pub const fn pdu_limit(&self) -> usize {
        self.limit
    }

    /// The next PDU if one is there.
    fn try_receive(&self) -> Option<Incoming> {
        let mut buffer = vec![0; RECEIVE_BUFFER.min(self.limit.saturating_add(1))];
        let fd = self.socket.get_ref().as_raw_fd();
        match recv(fd, &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(len) => {
                buffer.truncate(len);
                Some(Incoming::Pdu(buffer))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            Err(error) => Some(Incoming::Failed(fault(error, "receive"))),
        }
    }

    async fn send_functional(&self, pdu: &[u8]) -> Result<(), TransportError> {
        let Some(socket) = &self.functional else {
            return Err(TransportError::Functional(
                "no functional identifier is configured",
            ));
        };
        if pdu.len() > self.single_frame {
            return Err(TransportError::Functional("it does not fit one frame"));
        }
        write(socket.clone(), pdu).await
    }
}

impl crate::Transport for KernelTransport {
    async fn send(&self, pdu: &[u8], functional: bool) -> Result<(), TransportError> {
        if functional {
            return self.send_functional(pdu).await;
        }
        if pdu.len() > self.limit {
            return Err(TransportError::TooLong {
                len: pdu.len(),
                limit: self.limit,
            });
        }
        let _sending = self.io.lock().await;
        write(self.socket.clone(), pdu).await
    }

    async fn next(&self) -> Result<Incoming, TransportError> {
        loop {
            let ready = self.socket.readable().await;
            let mut ready = ready.map_err(|error| TransportError::io("wait", error))?;
            let _not_sending = self.io.lock().await;
            match self.try_receive() {
                Some(incoming) => return Ok(incoming),
                None => ready.clear_ready(),
            }
        }
    }

    /// The kernel gives whole PDUs only.
    fn announces(&self) -> bool {
        false
    }
}

/// CAN_ISOTP_WAIT_TX_DONE blocks even a non-blocking socket, up to N_Bs of 1 s for each FlowControl.
async fn write<S: AsRawFd + Send + Sync + 'static>(
    socket: Arc<S>,
    pdu: &[u8],
) -> Result<(), TransportError> {
    let pdu = pdu.to_vec();
    let written = tokio::task::spawn_blocking(move || {
        loop {
            match send(socket.as_raw_fd(), &pdu, MsgFlags::empty()) {
                // The PDU before, cut off by a signal, is still on its way.
                Err(Errno::EAGAIN) => std::thread::sleep(Duration::from_millis(1)),
                other => return other,
            }
        }
    });
    match written.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(fault(error, "send")),
        Err(_) => Err(TransportError::KernelIsoTp("the runtime is shutting down")),
    }
}

/// What an error of the socket means (`net/can/isotp.c`).
fn fault(error: Errno, operation: &'static str) -> TransportError {
    TransportError::KernelIsoTp(match error {
        Errno::ECOMM => "the peer sent no FlowControl in time (N_Bs), or the bus took no frame",
        Errno::ETIMEDOUT => "the peer sent no ConsecutiveFrame in time (N_Cr)",
        Errno::EILSEQ => "a ConsecutiveFrame was lost or out of order",
        Errno::EMSGSIZE => "the PDU is too long for the kernel or for the peer",
        Errno::EBADMSG => "a frame of the peer was malformed",
        Errno::ENETDOWN => "the interface is down",
        other => return TransportError::io(operation, other),
    })
}

fn open_socket(
    name: &str,
    config: &Config,
    tx_id: CanId,
    flag: u32,
    gap: Option<u32>,
) -> Result<IsoTpSocket, TransportError> {
    let functional = flag == CAN_ISOTP_SF_BROADCAST;
    let opened = IsoTpSocket::open_with_opts(
        name,
        id(config.rx_id),
        id(tx_id),
        Some(options(config, functional, flag, gap)?),
        Some(FlowControlOptions::new(
            config.block_size,
            config.st_min.to_wire(),
            config.wft_max,
        )),
        Some(link_layer(config)),
    );
    opened.map_err(|error| match error {
        socketcan_isotp::Error::Lookup { .. } => TransportError::NoSuchInterface {
            name: name.to_owned(),
        },
        socketcan_isotp::Error::Io { source } => open_error(name, config, source),
    })
}

fn open_error(name: &str, config: &Config, error: io::Error) -> TransportError {
    let name = name.to_owned();
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAFNOSUPPORT) => TransportError::NoKernelCan,
        Some(Errno::EPROTONOSUPPORT) => TransportError::NoKernelIsoTp,
        Some(Errno::ENODEV) => TransportError::NoSuchInterface { name },
        // What binding says to FD on an interface of MTU 16.
        Some(Errno::EINVAL) if config.format != Format::Classical => TransportError::NotFd { name },
        _ => TransportError::io("open the ISO-TP socket", error),
    }
}

fn options(
    config: &Config,
    functional: bool,
    flag: u32,
    gap: Option<u32>,
) -> Result<IsoTpOptions, TransportError> {
    let mut flags = flag;
    let padding = config.padding.unwrap_or(0xCC);
    if config.padding.is_some() {
        flags |= IsoTpBehaviour::CAN_ISOTP_TX_PADDING.bits();
    }
    let (tx, rx) = match config.addressing {
        Addressing::Normal => (None, None),
        Addressing::Extended {
            functional: group,
            rx,
            ..
        } if functional => (Some(group), Some(rx)),
        Addressing::Extended { tx, rx, .. } => (Some(tx), Some(rx)),
        Addressing::Mixed { extension } => (Some(extension), Some(extension)),
    };
    if tx.is_some() {
        flags |= IsoTpBehaviour::CAN_ISOTP_EXTEND_ADDR.bits();
        flags |= IsoTpBehaviour::CAN_ISOTP_RX_EXT_ADDR.bits();
    }
    let gap = Duration::from_nanos(gap.unwrap_or(0).into());
    let (tx, rx) = (tx.unwrap_or(0), rx.unwrap_or(0));
    IsoTpOptions::new(
        IsoTpBehaviour::from_bits_retain(flags),
        gap,
        tx,
        padding,
        padding,
        rx,
    )
    .map_err(|_| TransportError::KernelIsoTp("the frame gap does not fit 32 bits"))
}

fn link_layer(config: &Config) -> LinkLayerOptions {
    let tx_dl = u8::try_from(config.tx_dl.bytes()).unwrap_or(8);
    match config.format {
        Format::Classical => LinkLayerOptions::new(CAN_MTU, 8, TxFlags::empty()),
        Format::Fd { brs } => {
            let mut flags = TxFlags::empty();
            flags.set(TxFlags::CANFD_BRS, brs);
            LinkLayerOptions::new(CANFD_MTU, tx_dl, flags)
        }
    }
}

fn id(id: CanId) -> Id {
    match id {
        CanId::Standard(id) => Id::Standard(id),
        CanId::Extended(id) => Id::Extended(id),
    }
}

/// The longest PDU that the kernel's ISO-TP carries, in bytes: the module's `max_pdu_size`, which
/// kernels have from version 6.4 on.
#[must_use]
pub fn kernel_pdu_limit() -> usize {
    std::fs::read_to_string("/sys/module/can_isotp/parameters/max_pdu_size")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(OLD_PDU_LIMIT)
}

/// What to set the frame gap to for none: kernels before 5.18 have none by default, and would take
/// [`NO_FRAME_GAP`] for 4.3 s. The default of an unbound socket tells.
fn frame_gap() -> Result<Option<u32>, TransportError> {
    let socket = unbound_socket()?;
    Ok((default_frame_txtime(&socket)? == DEFAULT_FRAME_TXTIME).then_some(NO_FRAME_GAP))
}

#[allow(unsafe_code)]
fn unbound_socket() -> Result<OwnedFd, TransportError> {
    // SAFETY: no pointer is passed; the result is checked before it is used.
    let fd = unsafe {
        libc::socket(
            libc::PF_CAN,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            libc::CAN_ISOTP,
        )
    };
    if fd >= 0 {
        // SAFETY: the descriptor was just made and belongs to nobody else.
        return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    Err(match Errno::last() {
        Errno::EAFNOSUPPORT => TransportError::NoKernelCan,
        Errno::EPROTONOSUPPORT => TransportError::NoKernelIsoTp,
        error => TransportError::io("open an ISO-TP socket", error),
    })
}

#[allow(unsafe_code)]
fn default_frame_txtime(socket: &OwnedFd) -> Result<u32, TransportError> {
    // struct can_isotp_options: flags, frame_txtime, then four bytes.
    let mut options = [0u32; 3];
    let mut len: libc::socklen_t = 12;
    // SAFETY: `options` has room for the 12 bytes that `len` announces, any bytes are valid for it,
    // and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            socketcan_isotp::SOL_CAN_ISOTP,
            socketcan_isotp::CAN_ISOTP_OPTS,
            options.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    match result {
        0 => Ok(options[1]),
        _ => Err(TransportError::io("read the ISO-TP options", Errno::last())),
    }
}
