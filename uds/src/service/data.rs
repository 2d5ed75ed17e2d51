//! Data transmission and input/output control (ISO 14229-1:2020 clauses 11 and 13): 22 23 2E 2F.

use super::codec::{ParseError, ParseErrorKind, Pdu, Reader, Writer};
use super::{Did, MemoryArea};

/// One or more identifiers, from the wire or from a program.
#[derive(Debug, Clone, Copy)]
pub struct DidList<'a>(Source<'a>);

#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    /// An even number of bytes, at least 2.
    Wire(&'a [u8]),
    /// At least one.
    List(&'a [Did]),
}

impl<'a> DidList<'a> {
    /// A list of `dids`, or `None` where there is none.
    #[must_use]
    pub const fn new(dids: &'a [Did]) -> Option<Self> {
        if dids.is_empty() {
            None
        } else {
            Some(Self(Source::List(dids)))
        }
    }

    /// The identifiers in their order.
    pub fn iter(&self) -> impl Iterator<Item = Did> + 'a {
        let (wire, list) = match self.0 {
            Source::Wire(bytes) => (bytes, &[][..]),
            Source::List(dids) => (&[][..], dids),
        };
        let wire = wire.chunks_exact(2).filter_map(|pair| match *pair {
            [high, low] => Some(Did(u16::from_be_bytes([high, low]))),
            _ => None,
        });
        wire.chain(list.iter().copied())
    }
}

impl PartialEq for DidList<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for DidList<'_> {}

/// `22 did...`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadDataByIdentifier<'a> {
    /// What to read.
    pub dids: DidList<'a>,
}

impl<'a> Pdu<'a> for ReadDataByIdentifier<'a> {
    const FIRST: u8 = 0x22;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let bytes = reader.rest();
        if bytes.is_empty() || !bytes.len().is_multiple_of(2) {
            return Err(reader.invalid(ParseErrorKind::TooShort("dataIdentifier")));
        }
        Ok(Self {
            dids: DidList(Source::Wire(bytes)),
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        self.dids.iter().for_each(|did| writer.u16(did.0));
    }
}

/// `2E did data`, and the response `62 did data` alike; after several identifiers, more `did data`
/// follow inside `data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DidRecord<'a, const FIRST: u8> {
    /// The first identifier.
    pub did: Did,
    /// Its data, and what follows of others: only who knows the length of each can part them.
    pub data: &'a [u8],
}

/// The response to [`ReadDataByIdentifier`].
pub type ReadDataByIdentifierResponse<'a> = DidRecord<'a, 0x62>;
/// The request to write one.
pub type WriteDataByIdentifier<'a> = DidRecord<'a, 0x2E>;

impl<'a, const FIRST_BYTE: u8> Pdu<'a> for DidRecord<'a, FIRST_BYTE> {
    const FIRST: u8 = FIRST_BYTE;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let did = Did(reader.u16("dataIdentifier")?);
        let data = reader.rest();
        Ok(Self { did, data })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u16(self.did.0);
        writer.bytes(self.data);
    }
}

/// `23 format address size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMemoryByAddress {
    /// What to read.
    pub area: MemoryArea,
}

impl<'a> Pdu<'a> for ReadMemoryByAddress {
    const FIRST: u8 = 0x23;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let area = MemoryArea::read(reader)?;
        Ok(Self { area })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        self.area.emit(writer);
    }
}

/// `63 data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMemoryByAddressResponse<'a> {
    /// The bytes of the memory.
    pub data: &'a [u8],
}

impl<'a> Pdu<'a> for ReadMemoryByAddressResponse<'a> {
    const FIRST: u8 = 0x63;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let data = reader.rest();
        Ok(Self { data })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.bytes(self.data);
    }
}

/// `6E did`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteDataByIdentifierResponse {
    /// What was written.
    pub did: Did,
}

impl<'a> Pdu<'a> for WriteDataByIdentifierResponse {
    const FIRST: u8 = 0x6E;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let did = Did(reader.u16("dataIdentifier")?);
        Ok(Self { did })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u16(self.did.0);
    }
}

/// inputOutputControlParameter (annex E.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IoControlParameter(pub u8);

impl IoControlParameter {
    /// The server has its own way again.
    pub const RETURN_CONTROL_TO_ECU: Self = Self(0);
    /// The default value is held.
    pub const RESET_TO_DEFAULT: Self = Self(1);
    /// The present value is held.
    pub const FREEZE_CURRENT_STATE: Self = Self(2);
    /// The value that follows is held.
    pub const SHORT_TERM_ADJUSTMENT: Self = Self(3);
}

/// `2F did parameter state mask`, and the response `6F did parameter state` alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoControl<'a, const FIRST: u8> {
    /// Which input or output.
    pub did: Did,
    /// What is done with it.
    pub parameter: IoControlParameter,
    /// controlState, and in a request the enable mask after it.
    pub state: &'a [u8],
}

/// The request.
pub type InputOutputControlByIdentifier<'a> = IoControl<'a, 0x2F>;
/// The positive response.
pub type InputOutputControlByIdentifierResponse<'a> = IoControl<'a, 0x6F>;

impl<'a, const FIRST_BYTE: u8> Pdu<'a> for IoControl<'a, FIRST_BYTE> {
    const FIRST: u8 = FIRST_BYTE;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        Ok(Self {
            did: Did(reader.u16("dataIdentifier")?),
            parameter: IoControlParameter(reader.u8("inputOutputControlParameter")?),
            state: reader.rest(),
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u16(self.did.0);
        writer.u8(self.parameter.0);
        writer.bytes(self.state);
    }
}
