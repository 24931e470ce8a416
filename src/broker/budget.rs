//! How many bytes of messages are in hand, one connection at a time.
//!
//! A prefetch counts messages: 500 events of 4 MiB are 2 GiB, and lapin takes in whatever the broker
//! sends. So each consumed queue has a connection of its own, and the bytes of its messages count
//! from the socket until everything that follows from them is confirmed. While they exceed the
//! budget of the connection, the socket is not read, and TCP makes the broker wait. Other queues do
//! not notice.
//!
//! A queue always gets one message, whatever its size, so that everything flows on: reading goes on
//! until a message is complete that is not settled yet. At most the budget is in hand, or one
//! message that is larger, and the rest of a frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use futures_util::task::AtomicWaker;

/// The budget of a daemon, in bytes: each queue that it consumes gets an equal share.
///
/// A message takes about three times its size while it is handled.
pub(super) const BYTES_IN_HAND: u64 = 16 * 1024 * 1024;

/// Counts the bytes of a connection's messages.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    /// What was read from the socket.
    read: AtomicU64,
    /// As much of it as belongs to complete messages.
    complete: AtomicU64,
    settled: AtomicU64,
    reader: AtomicWaker,
    /// Whether reading stopped since [`Budget::was_exceeded`] was asked last.
    has_stopped: AtomicBool,
}

impl Budget {
    /// Creates a budget of so many bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            read: AtomicU64::new(0),
            complete: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            reader: AtomicWaker::new(),
            has_stopped: AtomicBool::new(false),
        }
    }

    /// Returns how many bytes may be in hand.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Records bytes of a message that are read; `left` more of it are to come.
    pub(super) fn read(&self, bytes: u64, left: u64) {
        let read = self.read.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if left == 0 {
            self.complete.store(read, Ordering::Relaxed);
        }
    }

    /// Records that a message is settled, and wakes the reader.
    fn settle(&self, bytes: usize) {
        self.settled.fetch_add(bytes as u64, Ordering::AcqRel);
        self.reader.wake();
    }

    /// Returns whether to stop reading; if so, `reader` is woken when a message is settled.
    pub(super) fn is_exceeded(&self, reader: &Waker) -> bool {
        if !self.exceeds() {
            return false;
        }
        self.reader.register(reader);
        let stops = self.exceeds();
        self.has_stopped.fetch_or(stops, Ordering::Relaxed);
        stops
    }

    /// Returns whether reading stopped since this was asked last.
    pub(super) fn was_exceeded(&self) -> bool {
        self.has_stopped.swap(false, Ordering::Relaxed)
    }

    fn exceeds(&self) -> bool {
        let settled = self.settled.load(Ordering::Acquire);
        let read = self.read.load(Ordering::Relaxed);
        let complete = self.complete.load(Ordering::Relaxed);
        read.saturating_sub(settled) > self.limit && complete > settled
    }
}

/// The bytes of one message, which are settled when this is dropped.
#[derive(Debug)]
pub struct InHand {
    budget: Arc<Budget>,
    size: usize,
}

impl InHand {
    pub(super) fn new(budget: &Arc<Budget>, size: usize) -> Self {
        Self {
            budget: Arc::clone(budget),
            size,
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.budget.settle(self.size);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn reading_stops_above_the_budget_and_goes_on_when_a_message_is_settled() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let budget = Budget::new(100);
        budget.read(60, 0);
        budget.read(40, 10);
        assert!(!budget.is_exceeded(&waker));
        budget.read(10, 0);
        assert!(budget.is_exceeded(&waker));
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        budget.settle(60);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(!budget.is_exceeded(&waker));
    }

    #[test]
    fn a_message_larger_than_the_budget_is_read_to_its_end_when_it_is_alone() {
        let budget = Budget::new(100);
        budget.read(10, 0);
        budget.read(150, 50);
        assert!(
            budget.is_exceeded(Waker::noop()),
            "another message is in hand"
        );
        budget.settle(10);
        assert!(!budget.is_exceeded(Waker::noop()));
        budget.read(50, 0);
        assert!(budget.is_exceeded(Waker::noop()));
        budget.settle(200);
        assert!(!budget.is_exceeded(Waker::noop()));
    }
}
