//! Which PDU answers which request: the parameters that a response echoes (ISO 14229-1 clauses 9 to
//! 15).

use crate::nrc::Nrc;
use crate::service::{ServiceId, SubFunction};

/// What a received PDU is to the request that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Positive,
    Negative(Nrc),
    /// Of another request, or of none.
    Unrelated,
    /// Of this request, but too short to say so properly.
    Malformed,
}

pub(super) fn classify(request: &[u8], pdu: &[u8]) -> Reply {
    let sid = ServiceId(request.first().copied().unwrap_or(0));
    match *pdu {
        [0x7F, of, nrc] if of == sid.0 => Reply::Negative(Nrc(nrc)),
        [0x7F, of, ..] if of == sid.0 => Reply::Malformed,
        [first, ref echo @ ..] if first == sid.response() => match echoes(sid, request, echo) {
            Some(true) => Reply::Positive,
            Some(false) => Reply::Unrelated,
            None => Reply::Malformed,
        },
        _ => Reply::Unrelated,
    }
}

/// Whether the response repeats what it must of the request; `None` where it is too short to.
fn echoes(sid: ServiceId, request: &[u8], echo: &[u8]) -> Option<bool> {
    let parameters = request.get(1..)?;
    if sid.has_sub_function() {
        let asked = SubFunction::from_byte(*parameters.first()?).value();
        if *echo.first()? != asked {
            return Some(false);
        }
    }
    match sid {
        ServiceId::ROUTINE_CONTROL => Some(echo.get(1..3)? == parameters.get(1..3)?),
        ServiceId::TRANSFER_DATA => Some(echo.first()? == parameters.first()?),
        ServiceId::WRITE_DATA_BY_IDENTIFIER | ServiceId::INPUT_OUTPUT_CONTROL_BY_IDENTIFIER => {
            Some(echo.get(..2)? == parameters.get(..2)?)
        }
        // A server leaves out the identifiers that it does not have.
        ServiceId::READ_DATA_BY_IDENTIFIER => {
            let did = echo.get(..2)?;
            Some(parameters.chunks_exact(2).any(|asked| asked == did))
        }
        _ => Some(true),
    }
}
