//! The two page buffers: one fills from the bus while the other is being programmed.

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
pub(crate) struct Buffers<const PAGE: usize> {
    first: [u8; PAGE],
    second: [u8; PAGE],
    /// The buffer that fills, and how far it is.
    pub(crate) filling: Which,
    pub(crate) fill: usize,
    now: Option<Queued>,
    next: Option<Queued>,
}

impl<const PAGE: usize> Buffers<PAGE> {
    pub(crate) const fn new() -> Self {
        Self {
            first: [0; PAGE],
            second: [0; PAGE],
            filling: Which::First,
            fill: 0,
            now: None,
            next: None,
        }
    }

    pub(crate) const fn data(&self, which: Which) -> &[u8; PAGE] {
        match which {
            Which::First => &self.first,
            Which::Second => &self.second,
        }
    }

    pub(crate) const fn data_mut(&mut self, which: Which) -> &mut [u8; PAGE] {
        match which {
            Which::First => &mut self.first,
            Which::Second => &mut self.second,
        }
    }

    /// Appends to the filling buffer as much of `bytes` as fits up to `limit`; what is left over.
    pub(crate) fn append<'a>(&mut self, bytes: &'a [u8], limit: usize) -> &'a [u8] {
        let room = limit.min(PAGE).saturating_sub(self.fill);
        let (now, rest) = bytes.split_at(room.min(bytes.len()));
        let fill = self.fill;
        let end = fill.saturating_add(now.len());
        if let Some(target) = self.data_mut(self.filling).get_mut(fill..end) {
            target.copy_from_slice(now);
        }
        self.fill = end;
        rest
    }

    /// Queues the first `len` bytes of the filling buffer and turns to the other one. The caller
    /// waits for [`Buffers::has_room`] before it fills that.
    pub(crate) fn queue(&mut self, address: u32, len: usize, payload: bool) {
        self.push(self.filling, address, len, payload);
        self.turn();
    }

    /// Queues the first `len` bytes of the buffer that is not filling.
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
        self.data(queued.which).get(..queued.len).unwrap_or(&[])
    }
}
