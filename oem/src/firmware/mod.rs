//! Firmware files as linkers and programmers write them: ELF, Intel HEX, S-record, raw binary.
//!
//! All formats become pieces of bytes at addresses; [`Firmware::from_pieces`] joins them, filling
//! gaps with 0xFF as erased flash reads.

mod elf;
mod intel_hex;
mod srec;

/// Largest firmware in bytes: 2048 pages of 64 KiB.
pub const FIRMWARE_MAX: u64 = 128 << 20;

/// Largest gap between two pieces that is filled, in bytes. A larger one means that the pieces do
/// not belong into one image.
pub const GAP_MAX: u64 = 1 << 20;

/// What an ECU shall have in its flash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// Address of the first byte.
    pub load_address: u64,
    /// The bytes, at least one.
    pub bytes: Vec<u8>,
}

/// The format of a firmware file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// By the first bytes: ELF, Intel HEX or S-record; raw for anything else that is no text.
    Auto,
    /// ELF, 32 or 64 bits: the loadable segments at their physical addresses.
    Elf,
    /// Intel HEX.
    Hex,
    /// Motorola S-record.
    Srec,
    /// The bytes as they are, at address 0.
    Raw,
}

/// Why a firmware file cannot be packed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FirmwareError {
    /// Nothing to load.
    #[error("holds no byte to load")]
    Empty,
    /// More than [`FIRMWARE_MAX`].
    #[error("spans {len} bytes, an image has at most {FIRMWARE_MAX}")]
    TooLong {
        /// From the first byte to the last.
        len: u64,
    },
    /// Two pieces for one address.
    #[error("two pieces overlap at address {address:#x}")]
    Overlap {
        /// The first byte that both have.
        address: u64,
    },
    /// Pieces far apart.
    #[error("{len} bytes of nothing before address {address:#x}, at most {GAP_MAX} are filled")]
    Gap {
        /// Address of the piece after the gap.
        address: u64,
        /// Length of the gap in bytes.
        len: u64,
    },
    /// A piece that ends behind the address space.
    #[error("a piece at address {address:#x} ends behind the address space")]
    AddressSpace {
        /// Its address.
        address: u64,
    },
    /// Text that is not one of the formats: the wrong file, more often than firmware.
    #[error("text, but neither Intel HEX nor S-record; --format raw packs it as it is")]
    Text,
    /// Not an ELF file that can be loaded.
    #[error("ELF: {0}")]
    Elf(String),
    /// A line that is wrong.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// No end record: the file is cut.
    #[error("the end record is missing: the file is incomplete")]
    NoEnd,
}

/// Bytes at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Address of the first byte.
    pub address: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Firmware {
    /// Reads `bytes` as `format`.
    ///
    /// # Errors
    ///
    /// [`FirmwareError`].
    pub fn parse(bytes: &[u8], format: Format) -> Result<Self, FirmwareError> {
        match format {
            Format::Auto => match detect(bytes) {
                Format::Raw if is_text(bytes) => Err(FirmwareError::Text),
                format => Self::parse(bytes, format),
            },
            Format::Elf => Self::from_pieces(elf::pieces(bytes)?),
            Format::Hex => Self::from_pieces(intel_hex::pieces(bytes)?),
            Format::Srec => Self::from_pieces(srec::pieces(bytes)?),
            Format::Raw => Self::from_pieces(vec![Piece {
                address: 0,
                bytes: bytes.to_vec(),
            }]),
        }
    }

    /// Joins pieces in any order, filling gaps with 0xFF.
    ///
    /// # Errors
    ///
    /// Nothing to load, overlaps, large gaps, too long.
    pub fn from_pieces(mut pieces: Vec<Piece>) -> Result<Self, FirmwareError> {
        pieces.retain(|piece| !piece.bytes.is_empty());
        pieces.sort_by_key(|piece| piece.address);
        let load_address = pieces.first().ok_or(FirmwareError::Empty)?.address;
        let mut bytes = Vec::new();
        let mut end = load_address;
        for piece in pieces {
            let address = piece.address;
            let Some(gap) = address.checked_sub(end) else {
                return Err(FirmwareError::Overlap { address });
            };
            if gap > GAP_MAX {
                return Err(FirmwareError::Gap { address, len: gap });
            }
            let len = u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX);
            end = address
                .checked_add(len)
                .ok_or(FirmwareError::AddressSpace { address })?;
            let total = end.saturating_sub(load_address);
            if total > FIRMWARE_MAX {
                return Err(FirmwareError::TooLong { len: total });
            }
            let filled = bytes
                .len()
                .saturating_add(usize::try_from(gap).unwrap_or(0));
            bytes.resize(filled, 0xFF);
            bytes.extend_from_slice(&piece.bytes);
        }
        Ok(Self {
            load_address,
            bytes,
        })
    }
}

/// Whether somebody could have written this in an editor.
fn is_text(bytes: &[u8]) -> bool {
    let printed = |char: char| !char.is_control() || char.is_ascii_whitespace();
    let text = std::str::from_utf8(bytes);
    text.is_ok_and(|text| !text.is_empty() && text.chars().all(printed))
}

/// The format by the first bytes.
fn detect(bytes: &[u8]) -> Format {
    let digits = |range: std::ops::Range<usize>| {
        bytes
            .get(range)
            .is_some_and(|text| text.iter().all(u8::is_ascii_hexdigit))
    };
    if bytes.starts_with(b"\x7fELF") {
        Format::Elf
    } else if bytes.starts_with(b":") && digits(1..11) {
        Format::Hex
    } else if matches!(bytes, [b'S', b'0'..=b'3', ..]) && digits(2..8) {
        Format::Srec
    } else {
        Format::Raw
    }
}

/// The lines of a text format with their numbers; line ends of any kind.
fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = (usize, &str)>, FirmwareError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or(&[]);
        let line = before
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            .saturating_add(1);
        FirmwareError::Line {
            line,
            reason: "not text".into(),
        }
    })?;
    let numbered = (1..)
        .zip(text.split('\n'))
        .map(|(number, line)| (number, line.trim()));
    Ok(numbered.filter(|(_, line)| !line.is_empty()))
}

fn line_error(line: usize, reason: impl ToString) -> FirmwareError {
    FirmwareError::Line {
        line,
        reason: reason.to_string(),
    }
}

/// Adds bytes at `address`, to the last piece where they continue it.
fn append(pieces: &mut Vec<Piece>, address: u64, bytes: &[u8]) {
    if let Some(last) = pieces.last_mut() {
        let len = u64::try_from(last.bytes.len()).unwrap_or(u64::MAX);
        if last.address.checked_add(len) == Some(address) {
            last.bytes.extend_from_slice(bytes);
            return;
        }
    }
    pieces.push(Piece {
        address,
        bytes: bytes.to_vec(),
    });
}

#[cfg(test)]
mod tests;
