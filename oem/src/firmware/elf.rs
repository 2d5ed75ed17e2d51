//! ELF: the loadable segments at their physical addresses. Sections, and with them debug
//! information and symbols, are never looked at.

use object::{
    Endianness,
    elf::{FileHeader32, FileHeader64, PT_LOAD},
    read::elf::{FileHeader, ProgramHeader as _},
};

use super::{FirmwareError, Piece};

pub(super) fn pieces(bytes: &[u8]) -> Result<Vec<Piece>, FirmwareError> {
    match bytes.get(4) {
        Some(1) => segments(FileHeader32::<Endianness>::parse(bytes), bytes),
        Some(2) => segments(FileHeader64::<Endianness>::parse(bytes), bytes),
        _ => Err(FirmwareError::Elf("neither 32 nor 64 bits".into())),
    }
}

fn segments<H: FileHeader<Endian = Endianness>>(
    header: object::read::Result<&H>,
    bytes: &[u8],
) -> Result<Vec<Piece>, FirmwareError> {
    let error = |error: object::read::Error| FirmwareError::Elf(error.to_string());
    let header = header.map_err(error)?;
    let endian = header.endian().map_err(error)?;
    let mut pieces = Vec::new();
    for segment in header.program_headers(endian, bytes).map_err(error)? {
        if segment.p_type(endian) != PT_LOAD {
            continue;
        }
        let address: u64 = segment.p_paddr(endian).into();
        let data = segment.data(endian, bytes).map_err(|()| {
            FirmwareError::Elf(format!("the segment at {address:#x} is outside the file"))
        })?;
        // Zero-initialised memory (p_memsz beyond p_filesz) is no content of the flash.
        pieces.push(Piece {
            address,
            bytes: data.to_vec(),
        });
    }
    Ok(pieces)
}
