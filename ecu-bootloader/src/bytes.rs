//! Reading and writing fixed byte layouts without an index that could panic.

/// Reads fields one after another; a field past the end reads as `None`.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

#[cfg(any(test, feature = "fuzz"))]
impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16_le(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }
}

/// The `N` bytes at `at`, an offset inside: one load where both are constants.
#[inline(always)]
pub(crate) fn field<const N: usize, const LEN: usize>(bytes: &[u8; LEN], at: usize) -> &[u8; N] {
    let rest = bytes.get(at..).unwrap_or(&[]);
    rest.first_chunk().unwrap_or(&[0; N])
}

/// Writes `value` at `at`, an offset inside: one store where both are constants.
#[inline(always)]
pub(crate) fn put<const N: usize, const LEN: usize>(
    bytes: &mut [u8; LEN],
    at: usize,
    value: &[u8; N],
) {
    if let Some(place) = part(bytes, at) {
        *place = *value;
    }
}

/// The `N` bytes at `at`, an offset inside, to be written.
#[inline(always)]
pub(crate) fn part<const N: usize, const LEN: usize>(
    bytes: &mut [u8; LEN],
    at: usize,
) -> Option<&mut [u8; N]> {
    bytes.get_mut(at..)?.first_chunk_mut()
}

/// Copies as many bytes as both have.
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
