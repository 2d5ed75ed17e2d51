//! Little-endian fields at fixed offsets, read and written without a panic path.

use crate::error::{ParseError, Problem};

/// Reads fields of one fixed-size object.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The `N` bytes at `offset`. Offsets are constants inside the object; beyond it, zeros.
    pub(crate) fn array<const N: usize>(self, offset: usize) -> [u8; N] {
        self.slice(offset, N).try_into().unwrap_or([0; N])
    }

    pub(crate) fn slice(self, offset: usize, len: usize) -> &'a [u8] {
        self.0
            .get(offset..offset.saturating_add(len))
            .unwrap_or(&[])
    }

    pub(crate) fn u16(self, offset: usize) -> u16 {
        u16::from_le_bytes(self.array(offset))
    }

    pub(crate) fn u32(self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }

    pub(crate) fn u64(self, offset: usize) -> u64 {
        u64::from_le_bytes(self.array(offset))
    }

    /// An error unless the `len` bytes at `offset` are zero.
    pub(crate) fn zero(
        self,
        field: &'static str,
        offset: usize,
        len: usize,
    ) -> Result<(), ParseError> {
        let zero = self.slice(offset, len).iter().all(|byte| *byte == 0);
        check(zero, field, offset, Problem::NotZero)
    }
}

/// Writes `bytes` at `offset`. Offsets are constants inside the object; beyond it, nothing.
pub(crate) fn put(object: &mut [u8], offset: usize, bytes: &[u8]) {
    if let Some(place) = object.get_mut(offset..offset.saturating_add(bytes.len())) {
        place.copy_from_slice(bytes);
    }
}

/// `Ok` when `holds`, else the error of this field.
pub(crate) fn check(
    holds: bool,
    field: &'static str,
    offset: usize,
    problem: Problem,
) -> Result<(), ParseError> {
    if holds {
        return Ok(());
    }
    Err(ParseError {
        field,
        offset,
        problem,
    })
}

/// The value, or the error of this field.
pub(crate) fn some<T>(
    value: Option<T>,
    field: &'static str,
    offset: usize,
    problem: Problem,
) -> Result<T, ParseError> {
    value.ok_or(ParseError {
        field,
        offset,
        problem,
    })
}
