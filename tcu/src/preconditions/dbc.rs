//! Signals as a DBC file describes them.

use can_dbc::{
    ByteOrder, Dbc, MessageId, MultiplexIndicator, Signal, SignalExtendedValueType, ValueType,
};
use uds::can::CanId;

/// Where a signal is in its frame, and what its bits mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The bits, the most significant first: byte and bit in it.
    bits: Vec<(u8, u8)>,
    signed: bool,
    factor: f64,
    offset: f64,
    /// What it can be; other values say that there is none.
    range: Option<(f64, f64)>,
}

/// Why a signal cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DbcError {
    /// Not a DBC file.
    #[error("not a DBC file: it cannot be read from {0:?} on")]
    Malformed(String),
    /// The file has no such message.
    #[error("no message {0}")]
    NoMessage(String),
    /// The message has no such signal.
    #[error("message {0} has no signal {1}")]
    NoSignal(String, String),
    /// A signal of a kind that is not read here.
    #[error("signal {0}: {1}")]
    Unfit(String, &'static str),
}

/// The signals that are wanted, as message and name, out of a file: where each is.
///
/// # Errors
///
/// [`DbcError`].
pub fn layouts<S: AsRef<str>>(
    text: &str,
    wanted: &[(S, S)],
) -> Result<Vec<(CanId, Layout)>, DbcError> {
    let start = |rest: &str| DbcError::Malformed(rest.chars().take(40).collect());
    let file = Dbc::try_from(text).map_err(|error| match error {
        can_dbc::Error::Incomplete(_, rest) => start(rest),
        can_dbc::Error::Nom(_) | can_dbc::Error::MultipleMultiplexors => start(text),
    })?;
    let wanted = wanted.iter();
    wanted
        .map(|(message, signal)| find(&file, message.as_ref(), signal.as_ref()))
        .collect()
}

fn find(file: &Dbc, message: &str, name: &str) -> Result<(CanId, Layout), DbcError> {
    let mut messages = file.messages().iter();
    let found = messages.find(|found| found.name() == message);
    let found = found.ok_or_else(|| DbcError::NoMessage(message.to_owned()))?;
    let unfit = |why| DbcError::Unfit(name.to_owned(), why);
    let id = match *found.id() {
        MessageId::Standard(id) => CanId::standard(id),
        MessageId::Extended(id) => CanId::extended(id),
    };
    let id = id.ok_or_else(|| unfit("its message has no CAN identifier"))?;
    let mut signals = found.signals().iter();
    let signal = signals.find(|signal| signal.name() == name);
    let signal = signal.ok_or_else(|| DbcError::NoSignal(message.to_owned(), name.to_owned()))?;
    if *signal.multiplexer_indicator() != MultiplexIndicator::Plain {
        return Err(unfit("multiplexed signals are not read"));
    }
    let kind = file.extended_value_type_for_signal(*found.id(), name);
    if kind.is_some_and(|kind| *kind != SignalExtendedValueType::SignedOrUnsignedInteger) {
        return Err(unfit("only integers are read"));
    }
    let layout = Layout::new(signal, *found.size());
    Ok((
        id,
        layout.ok_or_else(|| unfit("it does not fit its message"))?,
    ))
}

impl Layout {
    /// `None` where the signal does not fit a message of `size` bytes.
    fn new(signal: &Signal, size: u64) -> Option<Self> {
        if !(1..=64).contains(&signal.size) || !(1..=64).contains(&size) {
            return None;
        }
        let mut bits = Vec::new();
        let mut at = signal.start_bit;
        for _ in 0..signal.size {
            let byte = at.checked_div(8).filter(|byte| *byte < size)?;
            bits.push((u8::try_from(byte).ok()?, u8::try_from(at % 8).ok()?));
            at = match signal.byte_order() {
                ByteOrder::LittleEndian => at.checked_add(1)?,
                // From a byte's lowest bit to the highest of the next byte.
                ByteOrder::BigEndian if at.is_multiple_of(8) => at.checked_add(15)?,
                ByteOrder::BigEndian => at.checked_sub(1)?,
            };
        }
        if *signal.byte_order() == ByteOrder::LittleEndian {
            bits.reverse();
        }
        Some(Self {
            bits,
            signed: *signal.value_type() == ValueType::Signed,
            factor: signal.factor,
            offset: signal.offset,
            range: (signal.min < signal.max).then_some((signal.min, signal.max)),
        })
    }

    /// Bytes of a data record, the most significant first, as ISO 14229-1 has numbers. `None` where there
    /// are none, or more than 8.
    #[must_use]
    pub fn bytes(first: u8, length: u8, signed: bool, factor: f64, offset: f64) -> Option<Self> {
        let end = first.checked_add(length)?;
        if !(1..=8).contains(&length) {
            return None;
        }
        let bits = (first..end).flat_map(|byte| (0..8).rev().map(move |bit| (byte, bit)));
        Some(Self {
            bits: bits.collect(),
            signed,
            factor,
            offset,
            range: None,
        })
    }

    /// The value in a frame; `None` where the frame is too short, or the value none that the signal
    /// can have.
    #[must_use]
    pub fn decode(&self, data: &[u8]) -> Option<f64> {
        let raw = self.bits.iter().try_fold(0_u64, |raw, (byte, bit)| {
            let bit = data.get(usize::from(*byte))? >> bit & 1;
            Some(raw << 1 | u64::from(bit))
        })?;
        let unused = 64_usize.saturating_sub(self.bits.len());
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_wrap,
            reason = "conditions compare with bounds far coarser than 52 bits; the sign is in the bits"
        )]
        let number = match self.signed {
            true => ((raw << unused) as i64 >> unused) as f64,
            false => raw as f64,
        };
        let value = number * self.factor + self.offset;
        let possible = self
            .range
            .is_none_or(|(min, max)| min <= value && value <= max);
        (possible && value.is_finite()).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) const FILE: &str = include_str!("../../tests/data/vehicle.dbc");

    fn layout(signal: &str) -> Layout {
        layouts(FILE, &[("Body", signal)]).unwrap().remove(0).1
    }

    #[test]
    fn signals_are_where_the_file_says() {
        let (id, _) = layouts(FILE, &[("Body", "Speed")]).unwrap().remove(0);
        assert_eq!(Some(id), CanId::standard(0x321));
        let data = [0x10, 0x27, 0x30, 0x39, 0x80, 0, 0, 0];
        // Intel, 16 bits, 0.01: 0x2710.
        assert_eq!(layout("Speed").decode(&data), Some(100.0));
        // Motorola from bit 23 on, 16 bits, 0.001: 0x3039.
        assert_eq!(layout("Battery").decode(&data), Some(12.345));
        // Signed, 8 bits, offset 40: -128.
        assert_eq!(layout("Temperature").decode(&data), Some(-88.0));
        assert_eq!(
            layout("Brake").decode(&[0, 0, 0, 0, 0, 0x04, 0, 0]),
            Some(1.0)
        );
    }

    #[test]
    fn what_a_signal_cannot_be_is_no_value() {
        let speed = layout("Speed");
        assert_eq!(
            speed.decode(&[0xFF, 0xFF, 0, 0, 0, 0, 0, 0]),
            None,
            "not available"
        );
        assert_eq!(speed.decode(&[0]), None, "too short");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = |text: &str, message, signal| {
            layouts(text, &[(message, signal)]).unwrap_err().to_string()
        };
        assert_eq!(error(FILE, "Boddy", "Speed"), "no message Boddy");
        assert_eq!(
            error(FILE, "Body", "Sped"),
            "message Body has no signal Sped"
        );
        assert!(error(FILE, "Body", "Real").contains("only integers"));
        assert!(error(FILE, "Many", "Part").contains("multiplexed"));
        assert!(error("no file", "Body", "Speed").contains("not a DBC file"));
    }

    proptest! {
        #[test]
        fn any_frame_and_any_text_are_survived(
            data in prop::collection::vec(any::<u8>(), 0..64), text in ".{0,200}",
        ) {
            for signal in ["Speed", "Battery", "Temperature", "Brake"] {
                let _ = layout(signal).decode(&data);
            }
            let _ = layouts(&text, &[("Body", "Speed")]);
        }
    }
}
