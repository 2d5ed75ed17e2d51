//! Reading and writing PDUs without panicking on what a peer sends.

use super::ServiceId;
use crate::nrc::Nrc;
use core::fmt;

/// Why bytes are no PDU of the expected kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseError {
    /// The first byte of the PDU, 0 where there is none.
    pub first: u8,
    /// The offset at which it stops to make sense.
    pub at: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

/// What is wrong with a PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseErrorKind {
    /// The first byte is not of the expected service, or of none that this crate knows.
    Service,
    /// The PDU ends before this parameter does.
    TooShort(&'static str),
    /// The PDU goes on after its last parameter.
    Trailing,
    /// The service has no such sub-function.
    SubFunction(u8),
    /// A parameter has a value that no PDU may have.
    Value(&'static str),
}

impl ParseError {
    /// The code that a server refuses such a request with.
    #[must_use]
    pub const fn nrc(&self) -> Nrc {
        match self.kind {
            ParseErrorKind::Service => Nrc::SERVICE_NOT_SUPPORTED,
            ParseErrorKind::TooShort(_) | ParseErrorKind::Trailing => {
                Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT
            }
            ParseErrorKind::SubFunction(_) => Nrc::SUB_FUNCTION_NOT_SUPPORTED,
            ParseErrorKind::Value(_) => Nrc::REQUEST_OUT_OF_RANGE,
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PDU 0x{:02X}, byte {}: ", self.first, self.at)?;
        match self.kind {
            ParseErrorKind::Service => f.write_str("not the expected service"),
            ParseErrorKind::TooShort(what) => write!(f, "ends before {what} does"),
            ParseErrorKind::Trailing => f.write_str("goes on after its last parameter"),
            ParseErrorKind::SubFunction(value) => write!(f, "no sub-function 0x{value:02X}"),
            ParseErrorKind::Value(what) => write!(f, "{what} is out of range"),
        }
    }
}

impl core::error::Error for ParseError {}

/// The buffer is shorter than the PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom {
    /// The length of the PDU.
    pub needed: usize,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the PDU needs {} bytes", self.needed)
    }
}

impl core::error::Error for NoRoom {}

/// A request or a positive response of one service.
pub trait Pdu<'a>: Sized {
    /// The first byte.
    const FIRST: u8;

    /// Reads what follows the first byte.
    ///
    /// # Errors
    /// Where the bytes are not this PDU.
    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError>;

    /// Writes what follows the first byte.
    fn emit(&self, writer: &mut Writer<'_>);

    /// Parses a whole PDU.
    ///
    /// # Errors
    /// Where the bytes are not this PDU.
    fn parse(pdu: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(pdu);
        if reader.u8("service identifier")? != Self::FIRST {
            return Err(reader.error_at(0, ParseErrorKind::Service));
        }
        let value = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }

    /// Writes the whole PDU to the front of `out`; its length.
    ///
    /// # Errors
    /// When `out` is shorter than the PDU.
    fn write(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        let mut writer = Writer::new(out);
        writer.u8(Self::FIRST);
        self.emit(&mut writer);
        writer.finish()
    }
}

/// A cursor over a received PDU.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    pdu: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// At the first byte of `pdu`.
    #[must_use]
    pub const fn new(pdu: &'a [u8]) -> Self {
        Self { pdu, at: 0 }
    }

    /// The next `len` bytes, those of `what`.
    ///
    /// # Errors
    /// When fewer remain.
    pub fn bytes(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], ParseError> {
        let end = self.at.saturating_add(len);
        let bytes = self.pdu.get(self.at..end);
        let bytes = bytes.ok_or_else(|| self.error(ParseErrorKind::TooShort(what)))?;
        self.at = end;
        Ok(bytes)
    }

    /// The next `N` bytes, those of `what`.
    ///
    /// # Errors
    /// When fewer remain.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ParseError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N, what)?);
        Ok(array)
    }

    /// The next byte.
    ///
    /// # Errors
    /// When none remains.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, ParseError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// The next two bytes, big-endian.
    ///
    /// # Errors
    /// When fewer remain.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, ParseError> {
        self.array(what).map(u16::from_be_bytes)
    }

    /// The next `width` bytes, at most 8, big-endian.
    ///
    /// # Errors
    /// When fewer remain.
    pub fn uint(&mut self, width: u8, what: &'static str) -> Result<u64, ParseError> {
        let bytes = self.bytes(usize::from(width), what)?;
        Ok(bytes
            .iter()
            .fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    }

    /// Two bytes of length and as many bytes.
    ///
    /// # Errors
    /// When fewer remain.
    pub fn field(&mut self, what: &'static str) -> Result<&'a [u8], ParseError> {
        let len = self.u16(what)?;
        self.bytes(usize::from(len), what)
    }

    /// Everything that remains.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = self.pdu.get(self.at..).unwrap_or(&[]);
        self.at = self.pdu.len();
        rest
    }

    /// Whether nothing remains.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.at >= self.pdu.len()
    }

    /// An error at the byte read last.
    #[must_use]
    pub fn invalid(&self, kind: ParseErrorKind) -> ParseError {
        self.error_at(self.at.saturating_sub(1), kind)
    }

    /// Ends the PDU.
    ///
    /// # Errors
    /// When something remains.
    pub fn finish(&self) -> Result<(), ParseError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(self.error(ParseErrorKind::Trailing))
        }
    }

    fn error(&self, kind: ParseErrorKind) -> ParseError {
        self.error_at(self.at, kind)
    }

    fn error_at(&self, at: usize, kind: ParseErrorKind) -> ParseError {
        let first = self.pdu.first().copied().unwrap_or(0);
        ParseError { first, at, kind }
    }
}

/// A cursor over a buffer to write a PDU to. Past its end it counts on, so that
/// [`Writer::finish`] can say how much is needed.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut [u8],
    at: usize,
}

impl<'o> Writer<'o> {
    /// At the front of `out`.
    pub const fn new(out: &'o mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    /// Appends `bytes`.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        if let Some(place) = self.out.get_mut(self.at..end) {
            place.copy_from_slice(bytes);
        }
        self.at = end;
    }

    /// Appends a byte.
    pub fn u8(&mut self, byte: u8) {
        self.bytes(&[byte]);
    }

    /// Appends two bytes, big-endian.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    /// Appends the lowest `width` bytes, at most 8, big-endian.
    pub fn uint(&mut self, width: u8, value: u64) {
        let bytes = value.to_be_bytes();
        let skip = bytes.len().saturating_sub(usize::from(width));
        self.bytes(bytes.get(skip..).unwrap_or(&[]));
    }

    /// Appends two bytes of length and `field`.
    pub fn field(&mut self, field: Field<'_>) {
        self.u16(field.len);
        self.bytes(field.bytes);
    }

    /// The PDU's length.
    ///
    /// # Errors
    /// When the buffer is shorter than that.
    pub const fn finish(&self) -> Result<usize, NoRoom> {
        if self.at <= self.out.len() {
            Ok(self.at)
        } else {
            Err(NoRoom { needed: self.at })
        }
    }
}

/// Bytes of a parameter that carries its own 16-bit length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Field<'a> {
    bytes: &'a [u8],
    len: u16,
}

impl<'a> Field<'a> {
    /// A field of `bytes`, or `None` above 65535 of them.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let len = u16::try_from(bytes.len()).ok()?;
        Some(Self { bytes, len })
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn read(reader: &mut Reader<'a>, what: &'static str) -> Result<Self, ParseError> {
        let bytes = reader.field(what)?;
        Self::new(bytes).ok_or_else(|| reader.invalid(ParseErrorKind::Value(what)))
    }
}

/// The message `7F service NRC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NegativeResponse {
    /// The service that was refused.
    pub service: ServiceId,
    /// Why.
    pub nrc: Nrc,
}

impl<'a> Pdu<'a> for NegativeResponse {
    const FIRST: u8 = 0x7F;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        Ok(Self {
            service: ServiceId(reader.u8("service identifier")?),
            nrc: Nrc(reader.u8("negative response code")?),
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.bytes(&[self.service.0, self.nrc.0]);
    }
}
