//! Motorola S-record: S0 header, S1 to S3 data, S5 and S6 count, S7 to S9 end.

use super::{FirmwareError, Piece, append, line_error, lines};

pub(super) fn pieces(bytes: &[u8]) -> Result<Vec<Piece>, FirmwareError> {
    let mut pieces = Vec::new();
    let mut data_records = 0u64;
    let mut ended = false;
    for (number, line) in lines(bytes)? {
        if ended {
            return Err(line_error(number, "a record after the end record"));
        }
        let error = |reason: &str| line_error(number, reason);
        let record = Record::parse(line).map_err(error)?;
        match record.kind {
            b'0' => {}
            b'1'..=b'3' => {
                append(&mut pieces, record.address, &record.data);
                data_records = data_records.saturating_add(1);
            }
            b'5' | b'6' if record.address == data_records => {}
            b'5' | b'6' => return Err(error("the count of data records is wrong")),
            b'7'..=b'9' => ended = true,
            _ => return Err(error("unknown record type")),
        }
    }
    if ended {
        Ok(pieces)
    } else {
        Err(FirmwareError::NoEnd)
    }
}

struct Record {
    kind: u8,
    address: u64,
    data: Vec<u8>,
}

impl Record {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let (head, digits) = line.split_at_checked(2).ok_or("too short")?;
        let [b'S', kind] = *head.as_bytes() else {
            return Err("does not begin with S");
        };
        let bytes = hex::decode(digits).map_err(|_| "not pairs of hexadecimal digits")?;
        let (count, rest) = bytes.split_first().ok_or("too short")?;
        if usize::from(*count) != rest.len() {
            return Err("the byte count is wrong");
        }
        if bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) != 0xFF {
            return Err("the checksum is wrong");
        }
        let address_len = match kind {
            b'2' | b'6' | b'8' => 3,
            b'3' | b'7' => 4,
            _ => 2,
        };
        let (_, body) = rest.split_last().ok_or("too short")?;
        let (address, data) = body.split_at_checked(address_len).ok_or("too short")?;
        let address = address
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte));
        Ok(Self {
            kind,
            address,
            data: data.to_vec(),
        })
    }
}
