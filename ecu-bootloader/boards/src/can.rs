//! A CAN controller of two mailboxes in memory: a word that says whether it is full, identifier,
//! length, and eight bytes.

use core::ptr;

use uds::can::{CanId, Format, Frame};

#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Mailbox {
    full: u32,
    id: u32,
    len: u32,
    data: [u32; 2],
}

/// The controller.
#[derive(Debug)]
pub struct Controller {
    receive: *mut Mailbox,
    send: *mut Mailbox,
}

impl Controller {
    /// The controller at `address`.
    ///
    /// # Safety
    /// There are two mailboxes there, which nobody else uses.
    #[must_use]
    pub const unsafe fn new(address: usize) -> Self {
        let receive = ptr::with_exposed_provenance_mut::<Mailbox>(address);
        Self {
            receive,
            send: receive.wrapping_add(1),
        }
    }

    /// The next frame.
    pub fn receive(&mut self) -> Option<Frame> {
        // SAFETY: `new` was promised a mailbox there.
        let mail = unsafe { self.receive.read_volatile() };
        if mail.full == 0 {
            return None;
        }
        // SAFETY: as above.
        unsafe { (&raw mut (*self.receive).full).write_volatile(0) };
        let data = mail.data.map(u32::to_le_bytes);
        let data = data.as_flattened().get(..usize::try_from(mail.len).ok()?)?;
        let id = CanId::standard(u16::try_from(mail.id).ok()?)?;
        Frame::new(id, Format::Classical, data)
    }

    /// Whether a frame can be sent.
    #[must_use]
    pub fn is_free(&self) -> bool {
        // SAFETY: as above.
        unsafe { (&raw const (*self.send).full).read_volatile() == 0 }
    }

    /// Sends a frame; the mailbox is free.
    pub fn send(&mut self, frame: &Frame) {
        let mut data = [[0; 4]; 2];
        for (to, from) in data.as_flattened_mut().iter_mut().zip(frame.data()) {
            *to = *from;
        }
        let mail = Mailbox {
            full: 1,
            id: frame.id().raw(),
            len: u32::try_from(frame.data().len()).unwrap_or(0),
            data: data.map(u32::from_le_bytes),
        };
        // SAFETY: as above.
        unsafe { self.send.write_volatile(mail) };
    }
}
