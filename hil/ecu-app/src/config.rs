//! The block of the program that is written after linking: version and behaviour.

/// What the program does once it is started. Numbers as in `virtual_ecu::app::Behaviour`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Good,
    Crash,
    Hang,
    FailSelfTest,
}

/// The block's content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    pub(crate) major: u16,
    pub(crate) minor: u16,
    pub(crate) patch: u32,
    pub(crate) behaviour: Behaviour,
}

impl Config {
    /// The content of the block; `virtual_ecu::app` has its layout.
    pub(crate) const fn of_block(block: [u8; 32]) -> Self {
        let [
            ..,
            m0,
            m1,
            n0,
            n1,
            p0,
            p1,
            p2,
            p3,
            behaviour,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
        ] = block;
        Self {
            major: u16::from_le_bytes([m0, m1]),
            minor: u16::from_le_bytes([n0, n1]),
            patch: u32::from_le_bytes([p0, p1, p2, p3]),
            behaviour: match behaviour {
                0 => Behaviour::Good,
                1 => Behaviour::Crash,
                2 => Behaviour::Hang,
                _ => Behaviour::FailSelfTest,
            },
        }
    }

    /// The data of the heartbeat frame: major u16, minor u16, patch u32, big-endian.
    pub(crate) fn heartbeat(&self) -> [u8; 8] {
        let [m0, m1] = self.major.to_be_bytes();
        let [n0, n1] = self.minor.to_be_bytes();
        let [p0, p1, p2, p3] = self.patch.to_be_bytes();
        [m0, m1, n0, n1, p0, p1, p2, p3]
    }
}
