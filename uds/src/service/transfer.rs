//! Routines, upload and download (ISO 14229-1:2020 clauses 14 and 15): 31 34 35 36 37.

use super::codec::{ParseError, ParseErrorKind, Pdu, Reader, Writer};
use super::{BlockSequenceCounter, RoutineId, SubFunction};

/// A part of memory, with the widths of its numbers on the wire (annex H).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryArea {
    address: u64,
    size: u64,
    address_width: u8,
    size_width: u8,
}

impl MemoryArea {
    /// `size` bytes at `address`, four bytes wide each: the identifier 0x44.
    #[must_use]
    pub fn new(address: u32, size: u32) -> Self {
        Self {
            address: address.into(),
            size: size.into(),
            address_width: 4,
            size_width: 4,
        }
    }

    /// With widths of 1 to 8 bytes; `None` for other widths, and where a number does not fit.
    #[must_use]
    pub const fn with_widths(
        address: u64,
        address_width: u8,
        size: u64,
        size_width: u8,
    ) -> Option<Self> {
        if fits(address, address_width) && fits(size, size_width) {
            Some(Self {
                address,
                size,
                address_width,
                size_width,
            })
        } else {
            None
        }
    }

    /// memoryAddress.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// memorySize in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// addressAndLengthFormatIdentifier: the width of the size, then of the address.
    #[must_use]
    pub const fn format(&self) -> u8 {
        (self.size_width << 4) | self.address_width
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let format = reader.u8("addressAndLengthFormatIdentifier")?;
        let (size_width, address_width) = (format >> 4, format & 0x0F);
        if !(1..=8).contains(&size_width) || !(1..=8).contains(&address_width) {
            let kind = ParseErrorKind::Value("addressAndLengthFormatIdentifier");
            return Err(reader.invalid(kind));
        }
        Ok(Self {
            address: reader.uint(address_width, "memoryAddress")?,
            size: reader.uint(size_width, "memorySize")?,
            address_width,
            size_width,
        })
    }

    pub(super) fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(self.format());
        writer.uint(self.address_width, self.address);
        writer.uint(self.size_width, self.size);
    }
}

const fn fits(value: u64, width: u8) -> bool {
    match width {
        1..=7 => value >> (width << 3) == 0,
        8 => true,
        _ => false,
    }
}

/// routineControlType (table 426).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoutineControlType {
    /// startRoutine.
    Start,
    /// stopRoutine.
    Stop,
    /// requestRoutineResults.
    Results,
}

impl RoutineControlType {
    /// The sub-function's value.
    #[must_use]
    pub const fn value(self) -> u8 {
        match self {
            Self::Start => 1,
            Self::Stop => 2,
            Self::Results => 3,
        }
    }

    fn of(sub_function: SubFunction, reader: &Reader<'_>) -> Result<Self, ParseError> {
        match sub_function.value() {
            1 => Ok(Self::Start),
            2 => Ok(Self::Stop),
            3 => Ok(Self::Results),
            other => Err(reader.invalid(ParseErrorKind::SubFunction(other))),
        }
    }
}

/// `31 type routine option`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutineControl<'a> {
    /// Start, stop, or the results.
    pub control: RoutineControlType,
    /// No positive response is wanted.
    pub suppress: bool,
    /// Which routine.
    pub routine: RoutineId,
    /// routineControlOptionRecord.
    pub option: &'a [u8],
}

impl<'a> Pdu<'a> for RoutineControl<'a> {
    const FIRST: u8 = 0x31;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let sub_function = SubFunction::from_byte(reader.u8("routineControlType")?);
        Ok(Self {
            control: RoutineControlType::of(sub_function, reader)?,
            suppress: sub_function.suppress,
            routine: RoutineId(reader.u16("routineIdentifier")?),
            option: reader.rest(),
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(SubFunction::new(self.control.value(), self.suppress).byte());
        writer.u16(self.routine.0);
        writer.bytes(self.option);
    }
}

/// `71 type routine status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutineControlResponse<'a> {
    /// Start, stop, or the results.
    pub control: RoutineControlType,
    /// Which routine.
    pub routine: RoutineId,
    /// routineInfo and routineStatusRecord.
    pub status: &'a [u8],
}

impl<'a> Pdu<'a> for RoutineControlResponse<'a> {
    const FIRST: u8 = 0x71;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let value = super::management::echoed(reader)?;
        Ok(Self {
            control: RoutineControlType::of(SubFunction::new(value, false), reader)?,
            routine: RoutineId(reader.u16("routineIdentifier")?),
            status: reader.rest(),
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(self.control.value());
        writer.u16(self.routine.0);
        writer.bytes(self.status);
    }
}

/// dataFormatIdentifier: compressionMethod, then encryptingMethod; 00 is neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DataFormat(pub u8);

/// `34 format area` or `35 format area`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTransfer<const FIRST: u8> {
    /// How the data is compressed and encrypted.
    pub format: DataFormat,
    /// Where it goes to or comes from; the size is that of the uncompressed data.
    pub area: MemoryArea,
}

/// `34`: to the server.
pub type RequestDownload = RequestTransfer<0x34>;
/// `35`: from the server.
pub type RequestUpload = RequestTransfer<0x35>;

impl<'a, const FIRST_BYTE: u8> Pdu<'a> for RequestTransfer<FIRST_BYTE> {
    const FIRST: u8 = FIRST_BYTE;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        Ok(Self {
            format: DataFormat(reader.u8("dataFormatIdentifier")?),
            area: MemoryArea::read(reader)?,
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(self.format.0);
        self.area.emit(writer);
    }
}

/// maxNumberOfBlockLength: the length of a whole TransferData PDU, its first two bytes included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxBlockLength {
    value: u64,
    width: u8,
}

impl MaxBlockLength {
    /// `value` bytes in the fewest bytes of width that hold it, two at least: `20 xx xx`.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        let mut width = 2u8;
        while !fits(value, width) {
            width = width.saturating_add(1);
        }
        Self { value, width }
    }

    /// The length in bytes.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.value
    }

    /// The data that a block carries.
    #[must_use]
    pub const fn data(self) -> u64 {
        self.value.saturating_sub(2)
    }
}

/// `74 lengthFormat maxNumberOfBlockLength` or `75` alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTransferResponse<const FIRST: u8> {
    /// The longest TransferData PDU the server takes or gives.
    pub max_block_length: MaxBlockLength,
}

/// The positive response to RequestDownload.
pub type RequestDownloadResponse = RequestTransferResponse<0x74>;
/// The positive response to RequestUpload.
pub type RequestUploadResponse = RequestTransferResponse<0x75>;

impl<'a, const FIRST_BYTE: u8> Pdu<'a> for RequestTransferResponse<FIRST_BYTE> {
    const FIRST: u8 = FIRST_BYTE;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let width = match reader.u8("lengthFormatIdentifier")? {
            // The low nibble is reserved and not looked at.
            format @ 0x10..=0x8F => format >> 4,
            _ => return Err(reader.invalid(ParseErrorKind::Value("lengthFormatIdentifier"))),
        };
        let value = reader.uint(width, "maxNumberOfBlockLength")?;
        let max_block_length = MaxBlockLength { value, width };
        Ok(Self { max_block_length })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(self.max_block_length.width << 4);
        writer.uint(self.max_block_length.width, self.max_block_length.value);
    }
}

/// `36 counter data`, and the response `76 counter data` alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a, const FIRST: u8> {
    /// The block's number.
    pub counter: BlockSequenceCounter,
    /// transferRequestParameterRecord or transferResponseParameterRecord.
    pub data: &'a [u8],
}

/// The request.
pub type TransferData<'a> = Block<'a, 0x36>;
/// The positive response.
pub type TransferDataResponse<'a> = Block<'a, 0x76>;

impl<'a, const FIRST_BYTE: u8> Pdu<'a> for Block<'a, FIRST_BYTE> {
    const FIRST: u8 = FIRST_BYTE;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        Ok(Self {
            counter: BlockSequenceCounter(reader.u8("blockSequenceCounter")?),
            data: reader.rest(),
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(self.counter.0);
        writer.bytes(self.data);
    }
}

/// `37 record`, and the response `77 record` alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferExit<'a, const FIRST: u8> {
    /// transferRequestParameterRecord or transferResponseParameterRecord.
    pub record: &'a [u8],
}

/// The request.
pub type RequestTransferExit<'a> = TransferExit<'a, 0x37>;
/// The positive response.
pub type RequestTransferExitResponse<'a> = TransferExit<'a, 0x77>;

impl<'a, const FIRST_BYTE: u8> Pdu<'a> for TransferExit<'a, FIRST_BYTE> {
    const FIRST: u8 = FIRST_BYTE;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let record = reader.rest();
        Ok(Self { record })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.bytes(self.record);
    }
}
