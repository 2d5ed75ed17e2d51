//! The two page buffers: one fills from the bus while the other is being programmed. Metadata is
//! gathered across both of them, since a part of it may be longer than a page.

use crate::bytes::copy;

/// Memory for both buffers, one behind the other.
pub trait Bytes: AsRef<[u8]> + AsMut<[u8]> {}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Bytes for B {}

/// One of the two buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    First,
    Second,
}

impl Which {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// Bytes of a buffer that wait to be programmed, or are being programmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queued {
    pub(crate) which: Which,
    pub(crate) address: u32,
    pub(crate) len: usize,
    /// Whether this is a payload page rather than metadata.
    pub(crate) payload: bool,
}

/// Two buffers and the order in which they are programmed.
#[derive(Debug)]
pub(crate) struct Buffers<B> {
    bytes: B,
    /// The buffer that fills, and how far it is.
    pub(crate) filling: Which,
    pub(crate) fill: usize,
    now: Option<Queued>,
    next: Option<Queued>,
}

impl<B: Bytes> Buffers<B> {
    pub(crate) const fn new(bytes: B) -> Self {
        Self {
            bytes,
            filling: Which::First,
            fill: 0,
            now: None,
            next: None,
        }
    }

    /// Bytes of one buffer.
    pub(crate) fn page(&self) -> usize {
        self.bytes.as_ref().len() / 2
    }

    /// Both buffers as one.
    pub(crate) fn whole(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Both buffers as one.
    pub(crate) fn whole_mut(&mut self) -> &mut [u8] {
        self.bytes.as_mut()
    }

    /// Both buffers as one, where nothing of them is to be programmed; what fills is dropped.
    pub(crate) fn free_mut(&mut self) -> Option<&mut [u8]> {
        if !self.is_drained() {
            return None;
        }
        self.fill = 0;
        Some(self.whole_mut())
    }

    /// The two buffers.
    pub(crate) fn both_mut(&mut self) -> (&mut [u8], &mut [u8]) {
        let page = self.page();
        let bytes = self.bytes.as_mut();
        bytes
            .split_at_mut_checked(page)
            .unwrap_or((&mut [], &mut []))
    }

    #[cfg(feature = "key-set-update")]
    #[inline(never)]
    pub(crate) fn data(&self, which: Which) -> &[u8] {
        let bytes = self.bytes.as_ref();
        let halves = bytes.split_at_checked(self.page()).unwrap_or((&[], &[]));
        match which {
            Which::First => halves.0,
            Which::Second => halves.1,
        }
    }

    #[inline(never)]
    pub(crate) fn data_mut(&mut self, which: Which) -> &mut [u8] {
        let (first, second) = self.both_mut();
        match which {
            Which::First => first,
            Which::Second => second,
        }
    }

    /// Appends `bytes`, which fit, to the filling buffer.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        let fill = self.fill;
        let end = fill.saturating_add(bytes.len());
        if let Some(target) = self.data_mut(self.filling).get_mut(fill..end) {
            copy(target, bytes);
        }
        self.fill = end;
    }

    /// Appends to both buffers as one as much of `bytes` as fits up to `limit`; what is left over.
    pub(crate) fn gather<'a>(&mut self, bytes: &'a [u8], limit: usize) -> &'a [u8] {
        let room = limit.saturating_sub(self.fill);
        let (now, rest) = bytes.split_at(room.min(bytes.len()));
        let fill = self.fill;
        let end = fill.saturating_add(now.len());
        if let Some(target) = self.whole_mut().get_mut(fill..end) {
            copy(target, now);
        }
        self.fill = end;
        rest
    }

    /// Queues the first `len` bytes of both buffers as one. The caller waits until they are
    /// programmed before it fills any.
    pub(crate) fn queue_whole(&mut self, address: u32, len: usize) {
        self.filling = Which::First;
        self.fill = 0;
        self.push(Which::First, address, len, false);
    }

    /// Queues the first `len` bytes of the filling buffer and turns to the other one. The caller
    /// waits for [`Buffers::has_room`] before it fills that.
    pub(crate) fn queue(&mut self, address: u32, len: usize, payload: bool) {
        self.push(self.filling, address, len, payload);
        self.turn();
    }

    /// Queues the first `len` bytes of the buffer that is not filling.
    #[cfg(feature = "key-set-update")]
    pub(crate) fn queue_other(&mut self, address: u32, len: usize, payload: bool) {
        self.push(self.filling.other(), address, len, payload);
    }

    fn push(&mut self, which: Which, address: u32, len: usize, payload: bool) {
        let queued = Queued {
            which,
            address,
            len,
            payload,
        };
        match self.now {
            None => self.now = Some(queued),
            Some(_) => self.next = Some(queued),
        }
    }

    /// Turns to the other buffer, empty.
    pub(crate) fn turn(&mut self) {
        self.filling = self.filling.other();
        self.fill = 0;
    }

    /// What is to be programmed now.
    pub(crate) const fn front(&self) -> Option<Queued> {
        self.now
    }

    /// The front was programmed, or failed.
    pub(crate) fn pop(&mut self) -> Option<Queued> {
        let done = self.now.take();
        self.now = self.next.take();
        done
    }

    /// Drops what waits behind the operation under way.
    pub(crate) fn drop_waiting(&mut self) {
        self.next = None;
        self.filling = self.now.map_or(Which::First, |queued| queued.which.other());
        self.fill = 0;
    }

    /// Whether the filling buffer is free.
    pub(crate) const fn has_room(&self) -> bool {
        self.next.is_none()
    }

    /// Whether nothing is queued.
    pub(crate) const fn is_drained(&self) -> bool {
        self.now.is_none()
    }

    /// The bytes of a queued operation.
    pub(crate) fn bytes(&self, queued: Queued) -> &[u8] {
        let start = match queued.which {
            Which::First => 0,
            Which::Second => self.page(),
        };
        let end = start.saturating_add(queued.len);
        self.bytes.as_ref().get(start..end).unwrap_or(&[])
    }
}
