//! Frames that the driver has and has not confirmed, oldest first.

/// Which half a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of the message being sent.
    Data,
    /// Of the message being received.
    FlowControl,
    /// A functionally addressed message.
    Functional,
    /// Of a message that has ended since.
    Stale,
}

/// A short queue in an array: events and unconfirmed frames. A machine bounds what it puts in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queue<T, const N: usize> {
    items: [Option<T>; N],
}

impl<T: Copy + PartialEq, const N: usize> Queue<T, N> {
    pub(super) const fn new() -> Self {
        Self { items: [None; N] }
    }

    pub(super) fn is_full(&self) -> bool {
        self.items.iter().all(Option::is_some)
    }

    pub(super) fn count(&self, item: T) -> usize {
        self.items
            .iter()
            .filter(|slot| **slot == Some(item))
            .count()
    }

    /// Appends; the oldest item makes room where there is none.
    pub(super) fn push(&mut self, item: T) {
        if let Some(slot) = self.items.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(item);
            return;
        }
        self.items.rotate_left(1);
        if let Some(newest) = self.items.last_mut() {
            *newest = Some(item);
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let oldest = self.items.first_mut()?.take();
        self.items.rotate_left(1);
        oldest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.first().is_none_or(Option::is_none)
    }

    pub(super) fn replace(&mut self, old: T, new: T) {
        for slot in &mut self.items {
            if *slot == Some(old) {
                *slot = Some(new);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.items = [None; N];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out_and_the_oldest_makes_room() {
        let mut queue = Queue::<u8, 3>::new();
        (1..=4).for_each(|item| queue.push(item));
        assert!(queue.is_full() && queue.count(2) == 1 && queue.count(1) == 0);
        assert_eq!(queue.pop(), Some(2));
        queue.replace(3, 9);
        queue.push(5);
        assert_eq!(
            [queue.pop(), queue.pop(), queue.pop()],
            [Some(9), Some(4), Some(5)]
        );
        assert!(queue.pop().is_none() && queue.is_empty());
    }
}
