//! CAN frames and ISO-TP channels on tokio: raw SocketCAN or the user-space bus.
