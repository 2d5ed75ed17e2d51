//! Intel HEX (I8HEX, I16HEX, I32HEX).

use ihex::Record;

use super::{FirmwareError, Piece, append, line_error, lines};

pub(super) fn pieces(bytes: &[u8]) -> Result<Vec<Piece>, FirmwareError> {
    let mut pieces = Vec::new();
    let mut base = 0u64;
    let mut ended = false;
    for (number, line) in lines(bytes)? {
        if ended {
            return Err(line_error(number, "a record after the end record"));
        }
        let record = Record::from_record_string(line).map_err(|error| line_error(number, error))?;
        match record {
            Record::Data { offset, value } => {
                append(&mut pieces, base.saturating_add(offset.into()), &value);
            }
            Record::EndOfFile => ended = true,
            Record::ExtendedSegmentAddress(segment) => base = u64::from(segment) << 4,
            Record::ExtendedLinearAddress(upper) => base = u64::from(upper) << 16,
            Record::StartSegmentAddress { .. } | Record::StartLinearAddress(_) => {}
        }
    }
    if ended {
        Ok(pieces)
    } else {
        Err(FirmwareError::NoEnd)
    }
}
