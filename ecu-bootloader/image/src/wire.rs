//! Little-endian fields at fixed offsets, read and written without a panic path.

use crate::error::{FieldError, Problem};

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

    /// An error unless the `len` bytes at `offset` are zero.
    pub(crate) fn zero<E: FieldError>(
        self,
        field: &'static str,
        offset: usize,
        len: usize,
    ) -> Result<(), E> {
        let zero = self.is_zero(offset, len);
        check(zero, field, offset, Problem::NotZero)
    }

    #[inline(never)]
    fn is_zero(self, offset: usize, len: usize) -> bool {
        self.slice(offset, len).iter().all(|byte| *byte == 0)
    }
}

/// A [`Reader`] of an object whose length is known when the offsets are: each read is one load.
#[derive(Clone, Copy)]
pub(crate) struct Fixed<'a, const LEN: usize>(pub(crate) &'a [u8; LEN]);

impl<'a, const LEN: usize> Fixed<'a, LEN> {
    /// The `N` bytes at `offset`, which are there.
    #[inline(always)]
    pub(crate) fn field<const N: usize>(self, offset: usize) -> &'a [u8; N] {
        let rest = self.0.get(offset..).unwrap_or(&[]);
        rest.first_chunk().unwrap_or(&[0; N])
    }

    #[inline(always)]
    pub(crate) fn array<const N: usize>(self, offset: usize) -> [u8; N] {
        let rest = self.0.get(offset..).unwrap_or(&[]);
        rest.first_chunk().copied().unwrap_or([0; N])
    }

    #[inline(always)]
    pub(crate) fn u16(self, offset: usize) -> u16 {
        u16::from_le_bytes(self.array(offset))
    }

    #[inline(always)]
    pub(crate) fn u32(self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }

    #[inline(always)]
    pub(crate) fn u64(self, offset: usize) -> u64 {
        u64::from_le_bytes(self.array(offset))
    }
}

/// Writes `bytes` at `offset`. Offsets are constants inside the object; beyond it, nothing.
pub(crate) fn put(object: &mut [u8], offset: usize, bytes: &[u8]) {
    if let Some(place) = object.get_mut(offset..offset.saturating_add(bytes.len())) {
        place.copy_from_slice(bytes);
    }
}

/// `Ok` when `holds`, else the error of this field.
#[inline]
pub(crate) fn check<E: FieldError>(
    holds: bool,
    field: &'static str,
    offset: usize,
    problem: Problem,
) -> Result<(), E> {
    if holds {
        return Ok(());
    }
    Err(E::of(field, offset, problem))
}

/// The value, or the error of this field.
#[inline]
pub(crate) fn some<T, E: FieldError>(
    value: Option<T>,
    field: &'static str,
    offset: usize,
    problem: Problem,
) -> Result<T, E> {
    value.ok_or(E::of(field, offset, problem))
}
