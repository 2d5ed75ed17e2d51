//! One node of one bus: raw SocketCAN or a hub's Unix socket, the same bytes on both.

use crate::layout::{self, CANFD_MTU, LayoutError};
use crate::{LinkError, now};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket,
    socketpair, sockopt,
};
use socketcan::{CanFdSocket, CanFilter, CanSocket, Socket as _, SocketOptions as _};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use uds::can::{CanId, Format, Frame};
use uds::time::Instant;

/// How many bytes a kernel interface may hold for us while we are not scheduled.
const KERNEL_RECEIVE_BUFFER: usize = 4 << 20;
/// Send buffer towards a hub: about 32 frames. Larger would let a sender believe that frames are
/// sent long before they are on the bus, and its response timers run.
const HUB_SEND_BUFFER: usize = 12 << 10;
/// Pause before sending again where an interface's queue is full, which `poll` does not report.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(1);

/// How to open a link.
#[derive(Debug, Clone, Default)]
pub struct LinkOptions {
    /// CAN FD frames are sent and received, besides classical ones.
    pub fd: bool,
    /// Receive only these identifiers; `None` for all.
    pub filters: Option<Vec<CanId>>,
}

/// A frame and when it was taken from the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// See [`now`].
    pub at: Instant,
    /// The frame.
    pub frame: Frame,
}

/// One node of one bus. All methods take `&self`; several tasks may send.
#[derive(Debug)]
pub struct FrameLink {
    name: String,
    fd: bool,
    socket: AsyncFd<Socket>,
}

#[derive(Debug)]
enum Socket {
    Classical(CanSocket),
    Fd(CanFdSocket),
    User(OwnedFd),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Classical(socket) => socket.as_fd(),
            Self::Fd(socket) => socket.as_fd(),
            Self::User(socket) => socket.as_fd(),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl FrameLink {
    /// Opens the interface or hub called `name`: `vcan0`, `can0`, `bus:PATH`. Within a tokio runtime.
    ///
    /// # Errors
    /// [`LinkError`], which says what to do.
    pub fn open(name: &str, options: &LinkOptions) -> Result<Self, LinkError> {
        let socket = match name.strip_prefix("bus:") {
            Some(path) if !path.is_empty() => Socket::User(connect_hub(Path::new(path))?),
            None if interface_name(name) => open_interface(name, options.fd)?,
            _ => return Err(LinkError::BadName { name: name.into() }),
        };
        let link = Self::over(name.into(), options.fd, socket)?;
        if let Some(ids) = &options.filters {
            link.set_filters(Some(ids))?;
        }
        Ok(link)
    }

    /// A link over an inherited `SOCK_SEQPACKET` socket that carries frames in the kernel's layouts.
    ///
    /// # Errors
    /// [`LinkError::Io`].
    pub fn from_fd(name: &str, fd: OwnedFd) -> Result<Self, LinkError> {
        Self::over(name.into(), true, Socket::User(fd))
    }

    /// Two links that are each other's only peer, without any bus between them.
    ///
    /// # Errors
    /// [`LinkError::Io`].
    pub fn pair() -> Result<(Self, Self), LinkError> {
        let pair = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        );
        let (a, b) = pair.map_err(|error| io_error("pair", "socketpair", error))?;
        Ok((Self::from_fd("pair", a)?, Self::from_fd("pair", b)?))
    }

    #[allow(deprecated)] // `AsyncFd::new`, without unsafe code; a `Socket` keeps its descriptor.
    fn over(name: String, fd: bool, socket: Socket) -> Result<Self, LinkError> {
        if let Socket::User(user) = &socket {
            let set = nix::fcntl::fcntl(
                user,
                nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
            );
            set.map_err(|error| io_error(&name, "set non-blocking", error))?;
            let sized = setsockopt(user, sockopt::SndBuf, &HUB_SEND_BUFFER);
            sized.map_err(|error| io_error(&name, "set the send buffer", error))?;
        }
        let socket = AsyncFd::new(socket).map_err(|error| io_error(&name, "register", error))?;
        Ok(Self { name, fd, socket })
    }

    /// The name by which it was opened.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether FD frames may be sent.
    #[must_use]
    pub fn is_fd(&self) -> bool {
        self.fd
    }

    /// Receives only these identifiers from now on; `None` for all.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn set_filters(&self, ids: Option<&[CanId]>) -> Result<(), LinkError> {
        let exact = |id: &CanId| CanFilter::from(layout::exact_filter(*id));
        let filters = match ids {
            Some(ids) => ids.iter().map(exact).collect(),
            None => vec![CanFilter::new(0, 0)],
        };
        let set = match self.socket.get_ref() {
            Socket::Classical(socket) => socket.set_filters(&filters),
            Socket::Fd(socket) => socket.set_filters(&filters),
            Socket::User(socket) => send_filter(socket, &layout::encode_filter(ids)),
        };
        set.map_err(|error| io_error(&self.name, "set filters", error))
    }

    /// Sends a frame, waiting for room.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn send(&self, frame: &Frame) -> Result<(), LinkError> {
        while !self.try_send(frame)? {
            self.sendable().await?;
        }
        Ok(())
    }

    /// Sends a frame if there is room; `false` where there is none.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn try_send(&self, frame: &Frame) -> Result<bool, LinkError> {
        if frame.format() != Format::Classical && !self.fd {
            return Err(LinkError::NotFd {
                name: self.name.clone(),
            });
        }
        let raw = layout::encode(frame);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.socket.as_raw_fd(), raw.as_bytes(), flags) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::ENOBUFS) => Ok(false),
            Err(error) => Err(self.send_error(error)),
        }
    }

    fn send_error(&self, error: Errno) -> LinkError {
        let name = self.name.clone();
        match error {
            Errno::ENETDOWN => LinkError::Down { name },
            Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN => LinkError::Closed { name },
            // What a raw socket answers to an FD frame on an interface of MTU 16.
            Errno::EINVAL if self.fd => LinkError::NotFd { name },
            error => io_error(&self.name, "send", error),
        }
    }

    /// Waits until [`try_send`](Self::try_send) is worth another try after it returned `false`.
    ///
    /// # Errors
    /// [`LinkError::Io`].
    pub async fn sendable(&self) -> Result<(), LinkError> {
        if !matches!(self.socket.get_ref(), Socket::User(_)) {
            tokio::time::sleep(QUEUE_FULL_PAUSE).await;
            return Ok(());
        }
        loop {
            let ready = self.socket.writable().await;
            let mut ready = ready.map_err(|error| io_error(&self.name, "wait", error))?;
            // Tokio remembers the last edge: ask the socket itself.
            if writable(self.socket.get_ref(), PollTimeout::ZERO) {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    /// The next frame. Remote and error frames are left out.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when the other side has gone, and others.
    pub async fn recv(&self) -> Result<Received, LinkError> {
        loop {
            let ready = self.socket.readable().await;
            let mut ready = ready.map_err(|error| io_error(&self.name, "wait", error))?;
            match self.try_recv()? {
                Some(received) => return Ok(received),
                None => ready.clear_ready(),
            }
        }
    }

    /// Waits for frames and lets `drain` take them; it says whether it took all.
    pub(crate) async fn when_readable(
        &self,
        mut drain: impl FnMut() -> Result<bool, LinkError>,
    ) -> Result<(), LinkError> {
        let ready = self.socket.readable().await;
        let mut ready = ready.map_err(|error| io_error(&self.name, "wait", error))?;
        if drain()? {
            ready.clear_ready();
        }
        Ok(())
    }

    /// The next frame, if one is there.
    ///
    /// # Errors
    /// See [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Received>, LinkError> {
        loop {
            let mut message = [0; CANFD_MTU + 1];
            let len = match recv(
                self.socket.as_raw_fd(),
                &mut message,
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(0) | Err(Errno::ECONNRESET) => {
                    return Err(LinkError::Closed {
                        name: self.name.clone(),
                    });
                }
                Ok(len) => len,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(Errno::ENETDOWN) => {
                    return Err(LinkError::Down {
                        name: self.name.clone(),
                    });
                }
                Err(error) => return Err(io_error(&self.name, "receive", error)),
            };
            match layout::decode(&message[..len]) {
                Ok(frame) => return Ok(Some(Received { at: now(), frame })),
                Err(LayoutError::NotData) => {}
                Err(error) => tracing::debug!(link = self.name, %error, "message ignored"),
            }
        }
    }
}

/// Whether the socket takes a message within `timeout`.
fn writable(socket: &impl AsFd, timeout: PollTimeout) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    // An error shows when sending.
    !matches!(poll(&mut fds, timeout), Ok(0))
}

/// A filter takes its turn behind the frames sent before; a hub reads those in milliseconds.
fn send_filter(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    if send(socket.as_raw_fd(), message, flags) == Err(Errno::EAGAIN) {
        writable(socket, PollTimeout::from(1000u16));
        send(socket.as_raw_fd(), message, flags)?;
    }
    Ok(())
}

fn interface_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    (1..=15).contains(&name.len()) && name.chars().all(plain)
}

fn connect_hub(path: &Path) -> Result<OwnedFd, LinkError> {
    let attempt = || -> Result<OwnedFd, Errno> {
        let fd = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(fd)
    };
    attempt().map_err(|error| LinkError::NoHub {
        path: PathBuf::from(path),
        source: Arc::new(error.into()),
    })
}

fn open_interface(name: &str, fd: bool) -> Result<Socket, LinkError> {
    let opened = if fd {
        CanFdSocket::open(name).map(Socket::Fd)
    } else {
        CanSocket::open(name).map(Socket::Classical)
    };
    let socket = opened.map_err(|error| interface_error(name, error))?;
    let nonblocking = match &socket {
        Socket::Classical(socket) => socket.set_nonblocking(true),
        Socket::Fd(socket) => socket.set_nonblocking(true),
        Socket::User(_) => Ok(()),
    };
    nonblocking.map_err(|error| io_error(name, "set non-blocking", error))?;
    enlarge_receive_buffer(&socket);
    Ok(socket)
}

/// As large as we may: beyond the system's limit only with CAP_NET_ADMIN.
fn enlarge_receive_buffer(socket: &Socket) {
    if setsockopt(socket, sockopt::RcvBufForce, &KERNEL_RECEIVE_BUFFER).is_err() {
        let _smaller = setsockopt(socket, sockopt::RcvBuf, &KERNEL_RECEIVE_BUFFER);
    }
}

fn interface_error(name: &str, error: io::Error) -> LinkError {
    let name = name.to_owned();
    // Looking the interface up comes first and fails alike where there is no CAN at all.
    let family = socket(
        AddressFamily::Can,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    );
    if family.is_err_and(|error| error == Errno::EAFNOSUPPORT) {
        return LinkError::NoKernelCan;
    }
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAFNOSUPPORT) => LinkError::NoKernelCan,
        Some(Errno::ENODEV) if is_interface(&name) => LinkError::NotCan { name },
        Some(Errno::ENODEV | Errno::ENXIO) => LinkError::NoSuchInterface { name },
        _ => io_error(&name, "open", error),
    }
}

fn is_interface(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

fn io_error(name: &str, operation: &'static str, error: impl Into<io::Error>) -> LinkError {
    LinkError::Io {
        name: name.into(),
        operation,
        source: Arc::new(error.into()),
    }
}
