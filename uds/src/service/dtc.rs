//! Stored data (ISO 14229-1:2020 clause 12): 14 and 19.

use super::SubFunction;
use super::codec::{ParseError, ParseErrorKind, Pdu, Reader, Writer};
use core::fmt;

/// A diagnostic trouble code, or a groupOfDTC: three bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dtc([u8; 3]);

impl Dtc {
    /// The group of all DTCs.
    pub const ALL: Self = Self([0xFF; 3]);

    /// A code, or `None` above `0xFF_FFFF`.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        match value.to_be_bytes() {
            [0, a, b, c] => Some(Self([a, b, c])),
            _ => None,
        }
    }

    /// Its value.
    #[must_use]
    pub const fn value(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_be_bytes([0, a, b, c])
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        reader.array("DTC").map(Self)
    }
}

impl fmt::Display for Dtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06X}", self.value())
    }
}

impl fmt::Debug for Dtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `14 group [memory]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClearDiagnosticInformation {
    /// groupOfDTC.
    pub group: Dtc,
    /// MemorySelection.
    pub memory: Option<u8>,
}

impl<'a> Pdu<'a> for ClearDiagnosticInformation {
    const FIRST: u8 = 0x14;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let group = Dtc::read(reader)?;
        let memory = match reader.is_empty() {
            true => None,
            false => Some(reader.u8("MemorySelection")?),
        };
        Ok(Self { group, memory })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.bytes(&self.group.0);
        writer.bytes(self.memory.as_slice());
    }
}

/// `54`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClearDiagnosticInformationResponse;

impl<'a> Pdu<'a> for ClearDiagnosticInformationResponse {
    const FIRST: u8 = 0x54;

    fn read(_reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        Ok(Self)
    }

    fn emit(&self, _writer: &mut Writer<'_>) {}
}

/// What is asked for (table 317): the sub-function with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtcReport {
    /// 01 reportNumberOfDTCByStatusMask.
    NumberByStatusMask(u8),
    /// 02 reportDTCByStatusMask.
    ByStatusMask(u8),
    /// 03 reportDTCSnapshotIdentification.
    SnapshotIdentification,
    /// 04 reportDTCSnapshotRecordByDTCNumber; record 0xFF is all.
    SnapshotByDtc(Dtc, u8),
    /// 05 reportDTCStoredDataByRecordNumber.
    StoredDataByRecord(u8),
    /// 06 reportDTCExtDataRecordByDTCNumber; record 0xFF is all.
    ExtendedDataByDtc(Dtc, u8),
    /// 07 reportNumberOfDTCBySeverityMaskRecord: severity, status.
    NumberBySeverityMask(u8, u8),
    /// 08 reportDTCBySeverityMaskRecord: severity, status.
    BySeverityMask(u8, u8),
    /// 09 reportSeverityInformationOfDTC.
    SeverityOfDtc(Dtc),
    /// 0A reportSupportedDTC.
    Supported,
    /// 0B reportFirstTestFailedDTC.
    FirstTestFailed,
    /// 0C reportFirstConfirmedDTC.
    FirstConfirmed,
    /// 0D reportMostRecentTestFailedDTC.
    MostRecentTestFailed,
    /// 0E reportMostRecentConfirmedDTC.
    MostRecentConfirmed,
    /// 14 reportDTCFaultDetectionCounter.
    FaultDetectionCounter,
    /// 15 reportDTCWithPermanentStatus.
    PermanentStatus,
    /// 16 reportDTCExtDataRecordByRecordNumber.
    ExtendedDataByRecord(u8),
    /// 17 reportUserDefMemoryDTCByStatusMask: status, memory.
    UserMemoryByStatusMask(u8, u8),
    /// 18 reportUserDefMemoryDTCSnapshotRecordByDTCNumber: record, memory.
    UserMemorySnapshotByDtc(Dtc, u8, u8),
    /// 19 reportUserDefMemoryDTCExtDataRecordByDTCNumber: record, memory.
    UserMemoryExtendedDataByDtc(Dtc, u8, u8),
    /// 1A reportSupportedDTCExtDataRecord.
    SupportedExtendedData(u8),
    /// 42 reportWWHOBDDTCByMaskRecord: functional group, status, severity.
    WwhObdByMask(u8, u8, u8),
    /// 55 reportWWHOBDDTCWithPermanentStatus: functional group.
    WwhObdPermanentStatus(u8),
    /// 56 reportDTCInformationByDTCReadinessGroupIdentifier: functional group, readiness group.
    ByReadinessGroup(u8, u8),
}

impl DtcReport {
    /// The sub-function's value.
    #[must_use]
    pub const fn value(&self) -> u8 {
        match self {
            Self::NumberByStatusMask(_) => 0x01,
            Self::ByStatusMask(_) => 0x02,
            Self::SnapshotIdentification => 0x03,
            Self::SnapshotByDtc(..) => 0x04,
            Self::StoredDataByRecord(_) => 0x05,
            Self::ExtendedDataByDtc(..) => 0x06,
            Self::NumberBySeverityMask(..) => 0x07,
            Self::BySeverityMask(..) => 0x08,
            Self::SeverityOfDtc(_) => 0x09,
            Self::Supported => 0x0A,
            Self::FirstTestFailed => 0x0B,
            Self::FirstConfirmed => 0x0C,
            Self::MostRecentTestFailed => 0x0D,
            Self::MostRecentConfirmed => 0x0E,
            Self::FaultDetectionCounter => 0x14,
            Self::PermanentStatus => 0x15,
            Self::ExtendedDataByRecord(_) => 0x16,
            Self::UserMemoryByStatusMask(..) => 0x17,
            Self::UserMemorySnapshotByDtc(..) => 0x18,
            Self::UserMemoryExtendedDataByDtc(..) => 0x19,
            Self::SupportedExtendedData(_) => 0x1A,
            Self::WwhObdByMask(..) => 0x42,
            Self::WwhObdPermanentStatus(_) => 0x55,
            Self::ByReadinessGroup(..) => 0x56,
        }
    }
}

/// `19 report parameters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadDtcInformation {
    /// What is asked for.
    pub report: DtcReport,
    /// No positive response is wanted.
    pub suppress: bool,
}

impl<'a> Pdu<'a> for ReadDtcInformation {
    const FIRST: u8 = 0x19;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        use DtcReport as Report;
        let sub_function = SubFunction::from_byte(reader.u8("reportType")?);
        let unknown = reader.invalid(ParseErrorKind::SubFunction(sub_function.value()));
        let r = reader;
        let report = match sub_function.value() {
            0x01 => Report::NumberByStatusMask(r.u8("DTCStatusMask")?),
            0x02 => Report::ByStatusMask(r.u8("DTCStatusMask")?),
            0x03 => Report::SnapshotIdentification,
            0x04 => Report::SnapshotByDtc(Dtc::read(r)?, r.u8("DTCSnapshotRecordNumber")?),
            0x05 => Report::StoredDataByRecord(r.u8("DTCStoredDataRecordNumber")?),
            0x06 => Report::ExtendedDataByDtc(Dtc::read(r)?, r.u8("DTCExtDataRecordNumber")?),
            0x07 => Report::NumberBySeverityMask(r.u8("DTCSeverityMask")?, r.u8("DTCStatusMask")?),
            0x08 => Report::BySeverityMask(r.u8("DTCSeverityMask")?, r.u8("DTCStatusMask")?),
            0x09 => Report::SeverityOfDtc(Dtc::read(r)?),
            0x0A => Report::Supported,
            0x0B => Report::FirstTestFailed,
            0x0C => Report::FirstConfirmed,
            0x0D => Report::MostRecentTestFailed,
            0x0E => Report::MostRecentConfirmed,
            0x14 => Report::FaultDetectionCounter,
            0x15 => Report::PermanentStatus,
            0x16 => Report::ExtendedDataByRecord(r.u8("DTCExtDataRecordNumber")?),
            0x17 => {
                Report::UserMemoryByStatusMask(r.u8("DTCStatusMask")?, r.u8("MemorySelection")?)
            }
            0x18 => Report::UserMemorySnapshotByDtc(
                Dtc::read(r)?,
                r.u8("UserDefDTCSnapshotRecordNumber")?,
                r.u8("MemorySelection")?,
            ),
            0x19 => Report::UserMemoryExtendedDataByDtc(
                Dtc::read(r)?,
                r.u8("DTCExtDataRecordNumber")?,
                r.u8("MemorySelection")?,
            ),
            0x1A => Report::SupportedExtendedData(r.u8("DTCExtDataRecordNumber")?),
            0x42 => Report::WwhObdByMask(
                r.u8("FunctionalGroupIdentifier")?,
                r.u8("DTCStatusMask")?,
                r.u8("DTCSeverityMask")?,
            ),
            0x55 => Report::WwhObdPermanentStatus(r.u8("FunctionalGroupIdentifier")?),
            0x56 => Report::ByReadinessGroup(
                r.u8("FunctionalGroupIdentifier")?,
                r.u8("DTCReadinessGroupIdentifier")?,
            ),
            _ => return Err(unknown),
        };
        Ok(Self {
            report,
            suppress: sub_function.suppress,
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        use DtcReport as Report;
        writer.u8(SubFunction::new(self.report.value(), self.suppress).byte());
        match self.report {
            Report::SnapshotIdentification
            | Report::Supported
            | Report::FirstTestFailed
            | Report::FirstConfirmed
            | Report::MostRecentTestFailed
            | Report::MostRecentConfirmed
            | Report::FaultDetectionCounter
            | Report::PermanentStatus => {}
            Report::NumberByStatusMask(a)
            | Report::ByStatusMask(a)
            | Report::StoredDataByRecord(a)
            | Report::ExtendedDataByRecord(a)
            | Report::SupportedExtendedData(a)
            | Report::WwhObdPermanentStatus(a) => writer.u8(a),
            Report::NumberBySeverityMask(a, b)
            | Report::BySeverityMask(a, b)
            | Report::UserMemoryByStatusMask(a, b)
            | Report::ByReadinessGroup(a, b) => writer.bytes(&[a, b]),
            Report::WwhObdByMask(a, b, c) => writer.bytes(&[a, b, c]),
            Report::SeverityOfDtc(dtc) => writer.bytes(&dtc.0),
            Report::SnapshotByDtc(dtc, record) | Report::ExtendedDataByDtc(dtc, record) => {
                writer.bytes(&dtc.0);
                writer.u8(record);
            }
            Report::UserMemorySnapshotByDtc(dtc, record, memory)
            | Report::UserMemoryExtendedDataByDtc(dtc, record, memory) => {
                writer.bytes(&dtc.0);
                writer.bytes(&[record, memory]);
            }
        }
    }
}

/// Records of `N` bytes each, of which the DTC is three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DtcRecords<'a, const N: usize>(&'a [u8]);

impl<'a, const N: usize> DtcRecords<'a, N> {
    /// The records of `bytes`, or `None` where the last one is cut off.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.len().is_multiple_of(N).then_some(Self(bytes))
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let records = Self::new(reader.rest());
        records.ok_or_else(|| reader.invalid(ParseErrorKind::TooShort("DTC record")))
    }

    /// The bytes of each record.
    pub fn iter(&self) -> impl Iterator<Item = [u8; N]> + 'a {
        self.0.as_chunks().0.iter().copied()
    }
}

impl DtcRecords<'_, 4> {
    /// Each DTC with its byte: the status, a snapshot record number or a fault counter.
    pub fn dtcs(&self) -> impl Iterator<Item = (Dtc, u8)> + '_ {
        self.iter().map(|[a, b, c, byte]| (Dtc([a, b, c]), byte))
    }
}

/// What a report holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtcReportBody<'a> {
    /// 01 and 07.
    Number {
        /// DTCStatusAvailabilityMask.
        availability: u8,
        /// DTCFormatIdentifier.
        format: u8,
        /// DTCCount.
        count: u16,
    },
    /// 02, 0A to 0E and 15.
    Status {
        /// DTCStatusAvailabilityMask.
        availability: u8,
        /// DTC and status.
        records: DtcRecords<'a, 4>,
    },
    /// 03 and 14: DTC and snapshot record number or fault detection counter.
    Pairs(DtcRecords<'a, 4>),
    /// 08 and 09.
    Severity {
        /// DTCStatusAvailabilityMask.
        availability: u8,
        /// Severity, functional unit, DTC, status.
        records: DtcRecords<'a, 6>,
    },
    /// The others: what only the server's documentation parts.
    Other(&'a [u8]),
}

/// `59 report body`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadDtcInformationResponse<'a> {
    report: u8,
    body: DtcReportBody<'a>,
}

impl<'a> ReadDtcInformationResponse<'a> {
    /// A response to `report`; `None` where that report has another body.
    #[must_use]
    pub fn new(report: u8, body: DtcReportBody<'a>) -> Option<Self> {
        let fits = match report {
            0x01 | 0x07 => matches!(body, DtcReportBody::Number { .. }),
            0x02 | 0x0A..=0x0E | 0x15 => matches!(body, DtcReportBody::Status { .. }),
            0x03 | 0x14 => matches!(body, DtcReportBody::Pairs(_)),
            0x08 | 0x09 => matches!(body, DtcReportBody::Severity { .. }),
            _ => report <= 0x7F && matches!(body, DtcReportBody::Other(_)),
        };
        fits.then_some(Self { report, body })
    }

    /// The sub-function.
    #[must_use]
    pub const fn report(&self) -> u8 {
        self.report
    }

    /// The report.
    #[must_use]
    pub const fn body(&self) -> DtcReportBody<'a> {
        self.body
    }
}

impl<'a> Pdu<'a> for ReadDtcInformationResponse<'a> {
    const FIRST: u8 = 0x59;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let report = super::management::echoed(reader)?;
        let body = match report {
            0x01 | 0x07 => DtcReportBody::Number {
                availability: reader.u8("DTCStatusAvailabilityMask")?,
                format: reader.u8("DTCFormatIdentifier")?,
                count: reader.u16("DTCCount")?,
            },
            0x02 | 0x0A..=0x0E | 0x15 => DtcReportBody::Status {
                availability: reader.u8("DTCStatusAvailabilityMask")?,
                records: DtcRecords::read(reader)?,
            },
            0x03 | 0x14 => DtcReportBody::Pairs(DtcRecords::read(reader)?),
            0x08 | 0x09 => DtcReportBody::Severity {
                availability: reader.u8("DTCStatusAvailabilityMask")?,
                records: DtcRecords::read(reader)?,
            },
            _ => DtcReportBody::Other(reader.rest()),
        };
        Ok(Self { report, body })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(self.report);
        match self.body {
            DtcReportBody::Number {
                availability,
                format,
                count,
            } => {
                writer.bytes(&[availability, format]);
                writer.u16(count);
            }
            DtcReportBody::Status {
                availability,
                records,
            } => {
                writer.u8(availability);
                writer.bytes(records.0);
            }
            DtcReportBody::Pairs(records) => writer.bytes(records.0),
            DtcReportBody::Severity {
                availability,
                records,
            } => {
                writer.u8(availability);
                writer.bytes(records.0);
            }
            DtcReportBody::Other(bytes) => writer.bytes(bytes),
        }
    }
}
