//! Diagnostic and communication management (ISO 14229-1:2020 clause 10): 10 11 27 28 3E 85.

use super::codec::{ParseError, ParseErrorKind, Pdu, Reader, Writer};
use super::{SecurityLevel, Session, SubFunction};

fn sub_function(reader: &mut Reader<'_>) -> Result<SubFunction, ParseError> {
    reader.u8("sub-function").map(SubFunction::from_byte)
}

/// The sub-function that a response echoes: without suppressPosRspMsgIndicationBit.
pub(super) fn echoed(reader: &mut Reader<'_>) -> Result<u8, ParseError> {
    let sub_function = sub_function(reader)?;
    if sub_function.suppress {
        return Err(reader.invalid(ParseErrorKind::SubFunction(sub_function.byte())));
    }
    Ok(sub_function.value())
}

/// `10 session`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiagnosticSessionControl {
    /// The session to enter.
    pub session: Session,
    /// No positive response is wanted.
    pub suppress: bool,
}

impl<'a> Pdu<'a> for DiagnosticSessionControl {
    const FIRST: u8 = 0x10;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let sub_function = sub_function(reader)?;
        Ok(Self {
            session: Session::of(sub_function),
            suppress: sub_function.suppress,
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(SubFunction::new(self.session.value(), self.suppress).byte());
    }
}

/// The sessionParameterRecord (table 28).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionTiming {
    /// P2_server in 1 ms.
    pub p2_1ms: u16,
    /// P2*_server in 10 ms.
    pub p2_star_10ms: u16,
}

/// `50 session P2 P2*`; servers of the 2006 edition answer without timing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiagnosticSessionControlResponse {
    /// The session entered.
    pub session: Session,
    /// The server's timing in it.
    pub timing: Option<SessionTiming>,
}

impl<'a> Pdu<'a> for DiagnosticSessionControlResponse {
    const FIRST: u8 = 0x50;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let session = Session::of(SubFunction::new(echoed(reader)?, false));
        if reader.is_empty() {
            let timing = None;
            return Ok(Self { session, timing });
        }
        let timing = Some(SessionTiming {
            p2_1ms: reader.u16("P2")?,
            p2_star_10ms: reader.u16("P2*")?,
        });
        Ok(Self { session, timing })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(self.session.value());
        if let Some(timing) = self.timing {
            writer.u16(timing.p2_1ms);
            writer.u16(timing.p2_star_10ms);
        }
    }
}

/// What ECUReset resets (table 34).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetType(SubFunction);

impl ResetType {
    /// hardReset: as if power had been off.
    pub const HARD: Self = Self(SubFunction::new(1, false));
    /// keyOffOnReset.
    pub const KEY_OFF_ON: Self = Self(SubFunction::new(2, false));
    /// softReset: the program starts again.
    pub const SOFT: Self = Self(SubFunction::new(3, false));
    /// enableRapidPowerShutDown.
    pub const ENABLE_RAPID_POWER_SHUT_DOWN: Self = Self(SubFunction::new(4, false));
    /// disableRapidPowerShutDown.
    pub const DISABLE_RAPID_POWER_SHUT_DOWN: Self = Self(SubFunction::new(5, false));

    /// A reset type, or `None` above 0x7F.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 0x7F {
            Some(Self(SubFunction::new(value, false)))
        } else {
            None
        }
    }

    /// Its value.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0.value()
    }
}

/// `11 type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EcuReset {
    /// What to reset.
    pub reset: ResetType,
    /// No positive response is wanted.
    pub suppress: bool,
}

impl<'a> Pdu<'a> for EcuReset {
    const FIRST: u8 = 0x11;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let sub_function = sub_function(reader)?;
        Ok(Self {
            reset: ResetType(SubFunction::new(sub_function.value(), false)),
            suppress: sub_function.suppress,
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(SubFunction::new(self.reset.value(), self.suppress).byte());
    }
}

/// `51 type [powerDownTime]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EcuResetResponse {
    /// What is reset.
    pub reset: ResetType,
    /// In answer to enableRapidPowerShutDown: seconds of stand-by, 0xFF unknown.
    pub power_down_time: Option<u8>,
}

impl<'a> Pdu<'a> for EcuResetResponse {
    const FIRST: u8 = 0x51;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let reset = ResetType(SubFunction::new(echoed(reader)?, false));
        let power_down_time = match reader.is_empty() {
            true => None,
            false => Some(reader.u8("powerDownTime")?),
        };
        Ok(Self {
            reset,
            power_down_time,
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(self.reset.value());
        if let Some(time) = self.power_down_time {
            writer.u8(time);
        }
    }
}

/// Which half of SecurityAccess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityStep {
    /// requestSeed.
    RequestSeed,
    /// sendKey.
    SendKey,
}

fn security(value: u8) -> Option<(SecurityLevel, SecurityStep)> {
    let level = SecurityLevel::of_sub_function(value)?;
    let step = match value == level.request_seed() {
        true => SecurityStep::RequestSeed,
        false => SecurityStep::SendKey,
    };
    Some((level, step))
}

fn security_value(level: SecurityLevel, step: SecurityStep) -> u8 {
    match step {
        SecurityStep::RequestSeed => level.request_seed(),
        SecurityStep::SendKey => level.send_key(),
    }
}

/// `27 sub-function data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecurityAccess<'a> {
    /// Which level.
    pub level: SecurityLevel,
    /// Which half.
    pub step: SecurityStep,
    /// No positive response is wanted.
    pub suppress: bool,
    /// securityAccessDataRecord of requestSeed, or the key.
    pub data: &'a [u8],
}

impl<'a> Pdu<'a> for SecurityAccess<'a> {
    const FIRST: u8 = 0x27;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let sub_function = sub_function(reader)?;
        let (level, step) = security(sub_function.value())
            .ok_or_else(|| reader.invalid(ParseErrorKind::SubFunction(sub_function.value())))?;
        Ok(Self {
            level,
            step,
            suppress: sub_function.suppress,
            data: reader.rest(),
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        let value = security_value(self.level, self.step);
        writer.u8(SubFunction::new(value, self.suppress).byte());
        writer.bytes(self.data);
    }
}

/// `67 sub-function seed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecurityAccessResponse<'a> {
    /// Which level.
    pub level: SecurityLevel,
    /// Which half.
    pub step: SecurityStep,
    /// The seed; empty in answer to a key. All zeros where the level is unlocked.
    pub seed: &'a [u8],
}

impl<'a> Pdu<'a> for SecurityAccessResponse<'a> {
    const FIRST: u8 = 0x67;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let value = echoed(reader)?;
        let (level, step) =
            security(value).ok_or_else(|| reader.invalid(ParseErrorKind::SubFunction(value)))?;
        let seed = reader.rest();
        Ok(Self { level, step, seed })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(security_value(self.level, self.step));
        writer.bytes(self.seed);
    }
}

/// Whether and how a network is used (table 54).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommunicationMode {
    /// A controlType of four that switches the addressed nodes (00 to 03), or one of a manufacturer.
    Plain(u8),
    /// With enhanced address information (04 and 05) for one node behind a gateway.
    Enhanced {
        /// Whether reception stays on too (05), else only reception (04).
        receive_and_transmit: bool,
        /// nodeIdentificationNumber.
        node: u16,
    },
}

/// `28 controlType communicationType [node]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommunicationControl {
    control: SubFunction,
    /// communicationType (annex B.1): bits 0 and 1 message types, bits 4 to 7 the network.
    pub communication_type: u8,
    node: Option<u16>,
}

impl CommunicationControl {
    /// enableRxAndTx.
    pub const ENABLE: u8 = 0;
    /// enableRxAndDisableTx.
    pub const DISABLE_TX: u8 = 1;
    /// disableRxAndEnableTx.
    pub const DISABLE_RX: u8 = 2;
    /// disableRxAndTx.
    pub const DISABLE: u8 = 3;
    /// Normal communication messages of all networks.
    pub const NORMAL: u8 = 0x01;
    /// Normal and network management messages of all networks.
    pub const NORMAL_AND_NETWORK_MANAGEMENT: u8 = 0x03;

    /// A request; `None` where `mode` is a plain value of 04, 05 or above 0x7F.
    #[must_use]
    pub const fn new(
        mode: CommunicationMode,
        communication_type: u8,
        suppress: bool,
    ) -> Option<Self> {
        let (value, node) = match mode {
            CommunicationMode::Plain(4 | 5 | 0x80..) => return None,
            CommunicationMode::Plain(value) => (value, None),
            CommunicationMode::Enhanced {
                receive_and_transmit: false,
                node,
            } => (4, Some(node)),
            CommunicationMode::Enhanced { node, .. } => (5, Some(node)),
        };
        Some(Self {
            control: SubFunction::new(value, suppress),
            communication_type,
            node,
        })
    }

    /// What is switched.
    #[must_use]
    pub const fn mode(&self) -> CommunicationMode {
        match self.node {
            None => CommunicationMode::Plain(self.control.value()),
            Some(node) => CommunicationMode::Enhanced {
                receive_and_transmit: self.control.value() == 5,
                node,
            },
        }
    }

    /// No positive response is wanted.
    #[must_use]
    pub const fn suppress(&self) -> bool {
        self.control.suppress
    }
}

impl<'a> Pdu<'a> for CommunicationControl {
    const FIRST: u8 = 0x28;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let control = sub_function(reader)?;
        let communication_type = reader.u8("communicationType")?;
        let node = match control.value() {
            4 | 5 => Some(reader.u16("nodeIdentificationNumber")?),
            _ => None,
        };
        Ok(Self {
            control,
            communication_type,
            node,
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(self.control.byte());
        writer.u8(self.communication_type);
        if let Some(node) = self.node {
            writer.u16(node);
        }
    }
}

/// A response that is an echoed sub-function and nothing else: 68, 7E, C5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo<const FIRST: u8>(SubFunction);

impl<const FIRST: u8> Echo<FIRST> {
    /// An echo of the sub-function's value.
    #[must_use]
    pub const fn of(sub_function: SubFunction) -> Self {
        Self(SubFunction::new(sub_function.value(), false))
    }

    /// The sub-function's value.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0.value()
    }
}

impl<'a, const FIRST_BYTE: u8> Pdu<'a> for Echo<FIRST_BYTE> {
    const FIRST: u8 = FIRST_BYTE;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        Ok(Self(SubFunction::new(echoed(reader)?, false)))
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(self.0.value());
    }
}

/// `68 controlType`.
pub type CommunicationControlResponse = Echo<0x68>;
/// `7E 00`.
pub type TesterPresentResponse = Echo<0x7E>;
/// `C5 settingType`.
pub type ControlDtcSettingResponse = Echo<0xC5>;

/// `3E 00` or `3E 80`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TesterPresent {
    /// No positive response is wanted.
    pub suppress: bool,
}

impl<'a> Pdu<'a> for TesterPresent {
    const FIRST: u8 = 0x3E;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let sub_function = sub_function(reader)?;
        if sub_function.value() != 0 {
            return Err(reader.invalid(ParseErrorKind::SubFunction(sub_function.value())));
        }
        Ok(Self {
            suppress: sub_function.suppress,
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(SubFunction::new(0, self.suppress).byte());
    }
}

/// `85 settingType [record]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlDtcSetting<'a> {
    /// [`ControlDtcSetting::ON`], [`ControlDtcSetting::OFF`] or one of a manufacturer.
    pub setting: SubFunction,
    /// DTCSettingControlOptionRecord.
    pub record: &'a [u8],
}

impl ControlDtcSetting<'_> {
    /// DTCs are updated.
    pub const ON: u8 = 1;
    /// DTCs are frozen.
    pub const OFF: u8 = 2;
}

impl<'a> Pdu<'a> for ControlDtcSetting<'a> {
    const FIRST: u8 = 0x85;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        Ok(Self {
            setting: sub_function(reader)?,
            record: reader.rest(),
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(self.setting.byte());
        writer.bytes(self.record);
    }
}
