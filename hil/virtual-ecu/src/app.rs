//! The applications of the bench: one program, into which a version and a behaviour are written
//! after linking, as a production line writes calibration.
//!
//! The block is 32 bytes: [`MAGIC`] (16), major u16, minor u16, patch u32, behaviour u8, zeros; all
//! little-endian.

use std::fmt;

/// How the block begins.
pub const MAGIC: [u8; 16] = *b"CANOPUS-APP-CFG1";
/// Bytes of the block.
pub const BLOCK_LEN: usize = 32;

/// What an application does once it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Behaviour {
    /// Works.
    Good = 0,
    /// Crashes at start.
    Crash = 1,
    /// Stops kicking the watchdog after its first heartbeat.
    Hang = 2,
    /// Fails its self-test and ends.
    FailSelfTest = 3,
}

/// Version and behaviour of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppConfig {
    version: (u16, u16, u32),
    behaviour: Behaviour,
}

/// Why an application cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppError {
    /// Not `major.minor.patch`.
    Version(String),
    /// The program has no configuration block, or several.
    Blocks(usize),
    /// The program is longer than the size that was asked for, both in bytes.
    TooLong {
        /// Its length.
        len: usize,
        /// What was asked for.
        size: usize,
    },
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(text) => write!(f, "`{text}` is not a version: major.minor.patch"),
            Self::Blocks(count) => write!(f, "{count} configuration blocks instead of one"),
            Self::TooLong { len, size } => write!(f, "{len} bytes do not fit into {size}"),
        }
    }
}

impl std::error::Error for AppError {}

impl AppConfig {
    /// An application of `version` (`major.minor.patch`) with a behaviour.
    ///
    /// # Errors
    /// [`AppError::Version`].
    pub fn new(version: &str, behaviour: Behaviour) -> Result<Self, AppError> {
        let error = || AppError::Version(version.to_owned());
        let [major, minor, patch] = version.split('.').collect::<Vec<_>>()[..] else {
            return Err(error());
        };
        let version = (
            major.parse().map_err(|_| error())?,
            minor.parse().map_err(|_| error())?,
            patch.parse().map_err(|_| error())?,
        );
        Ok(Self { version, behaviour })
    }

    /// `major.minor.patch`.
    #[must_use]
    pub fn version(&self) -> String {
        let (major, minor, patch) = self.version;
        format!("{major}.{minor}.{patch}")
    }

    /// What it does.
    #[must_use]
    pub const fn behaviour(&self) -> Behaviour {
        self.behaviour
    }

    /// The block that begins `bytes`; `None` where there is none.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<16>()?;
        let (fields, _) = rest.split_first_chunk::<9>()?;
        let [m0, m1, n0, n1, p0, p1, p2, p3, behaviour] = *fields;
        let behaviour = match behaviour {
            0 => Behaviour::Good,
            1 => Behaviour::Crash,
            2 => Behaviour::Hang,
            3 => Behaviour::FailSelfTest,
            _ => return None,
        };
        let version = (
            u16::from_le_bytes([m0, m1]),
            u16::from_le_bytes([n0, n1]),
            u32::from_le_bytes([p0, p1, p2, p3]),
        );
        (*magic == MAGIC).then_some(Self { version, behaviour })
    }

    fn block(&self) -> [u8; BLOCK_LEN] {
        let (major, minor, patch) = self.version;
        let mut block = [0; BLOCK_LEN];
        block[..16].copy_from_slice(&MAGIC);
        block[16..18].copy_from_slice(&major.to_le_bytes());
        block[18..20].copy_from_slice(&minor.to_le_bytes());
        block[20..24].copy_from_slice(&patch.to_le_bytes());
        block[24] = self.behaviour as u8;
        block
    }
}

/// The program with `config` written into its block, filled with calibration data up to `size`
/// bytes; 0 leaves its length as it is.
///
/// # Errors
/// When it has not exactly one block, or is longer than `size`.
pub fn patch(program: &[u8], config: &AppConfig, size: usize) -> Result<Vec<u8>, AppError> {
    let blocks: Vec<usize> = blocks(program).collect();
    let [at] = blocks[..] else {
        return Err(AppError::Blocks(blocks.len()));
    };
    let mut patched = program.to_vec();
    patched[at..at + BLOCK_LEN].copy_from_slice(&config.block());
    if size > 0 {
        if patched.len() > size {
            return Err(AppError::TooLong {
                len: patched.len(),
                size,
            });
        }
        let seed = config.version.2 ^ u32::from(config.version.0) << 16;
        patched.extend(calibration(seed).take(size - program.len()));
    }
    Ok(patched)
}

/// An application for virtual time: nothing but its block and calibration data, `size` bytes.
///
/// # Errors
/// When `size` is shorter than a block.
pub fn scripted(config: &AppConfig, size: usize) -> Result<Vec<u8>, AppError> {
    let mut empty = MAGIC.to_vec();
    empty.resize(BLOCK_LEN, 0);
    patch(&empty, config, size)
}

/// Where in `flash` the program of `version` has its block.
#[must_use]
pub fn find(flash: &[u8], version: &str) -> Option<usize> {
    blocks(flash).find(|at| {
        AppConfig::parse(&flash[*at..]).is_some_and(|config| config.version() == version)
    })
}

/// The first block in `bytes`.
#[must_use]
pub fn config_of(bytes: &[u8]) -> Option<AppConfig> {
    blocks(bytes).find_map(|at| AppConfig::parse(&bytes[at..]))
}

/// The version in the data of a heartbeat frame: major u16, minor u16, patch u32, big-endian.
#[must_use]
pub fn heartbeat_version(data: &[u8]) -> Option<String> {
    let [m0, m1, n0, n1, p0, p1, p2, p3] = *<&[u8; 8]>::try_from(data).ok()?;
    let major = u16::from_be_bytes([m0, m1]);
    let minor = u16::from_be_bytes([n0, n1]);
    Some(format!(
        "{major}.{minor}.{}",
        u32::from_be_bytes([p0, p1, p2, p3])
    ))
}

fn blocks(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes
        .windows(BLOCK_LEN)
        .enumerate()
        .filter(|(_, window)| window.starts_with(&MAGIC))
        .map(|(at, _)| at)
}

/// Bytes that do not compress and differ between versions (xorshift).
fn calibration(seed: u32) -> impl Iterator<Item = u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(version: &str) -> AppConfig {
        AppConfig::new(version, Behaviour::Crash).unwrap()
    }

    #[test]
    fn a_patched_program_carries_its_configuration_and_nothing_else_changes() {
        let mut program = vec![0xAA; 100];
        program[40..56].copy_from_slice(&MAGIC);
        let patched = patch(&program, &config("2.1.70000"), 300).unwrap();
        assert_eq!(patched.len(), 300);
        assert_eq!(patched[..40], program[..40]);
        assert_eq!(patched[72..100], program[72..]);
        assert_eq!(config_of(&patched), Some(config("2.1.70000")));
        assert_eq!(find(&patched, "2.1.70000"), Some(40));
        assert_eq!(find(&patched, "2.1.7"), None);
    }

    #[test]
    fn programs_without_one_block_and_sizes_too_small_are_refused() {
        assert_eq!(
            patch(&[0; 64], &config("1.0.0"), 0),
            Err(AppError::Blocks(0))
        );
        let twice = [&scripted(&config("1.0.0"), 0).unwrap()[..]; 2].concat();
        assert_eq!(patch(&twice, &config("1.0.0"), 0), Err(AppError::Blocks(2)));
        let error = scripted(&config("1.0.0"), 31).unwrap_err();
        assert_eq!(error, AppError::TooLong { len: 32, size: 31 });
    }

    #[test]
    fn versions_have_three_numbers() {
        for text in ["1.0", "1.0.0.0", "a.b.c", "70000.0.0", ""] {
            assert!(AppConfig::new(text, Behaviour::Good).is_err(), "{text}");
        }
    }

    #[test]
    fn a_heartbeat_tells_the_version() {
        assert_eq!(
            heartbeat_version(&[0, 2, 0, 1, 0, 0, 0, 9]).unwrap(),
            "2.1.9"
        );
        assert_eq!(heartbeat_version(&[0; 7]), None);
    }
}
