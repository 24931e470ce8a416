//! How many recipients are in hand, and how many of each lane.
//!
//! A lane takes a slot while it holds fewer slots than are free. A lane that is alone can hold half
//! of all slots, and whatever it holds, every other lane can still take some at once. Counting needs
//! no lock: a race takes one slot too many, which does no harm.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::message::Name;

/// The slots of all lanes.
#[derive(Debug)]
pub(super) struct Slots {
    whole: Arc<Whole>,
    lanes: Mutex<HashMap<Name, Arc<LaneSlots>>>,
}

#[derive(Debug)]
struct Whole {
    limit: AtomicUsize,
    taken: AtomicUsize,
}

/// The slots of one lane.
#[derive(Debug)]
pub struct LaneSlots {
    whole: Arc<Whole>,
    taken: AtomicUsize,
}

/// The right to have one more recipient of a message in hand, whether or not it has a permit. The
/// slot is free again when this is dropped.
#[derive(Debug)]
pub struct Slot(Arc<LaneSlots>);

impl Slots {
    /// Creates the slots of which a lane that is alone can hold `alone`.
    pub(super) fn new(alone: usize) -> Self {
        Self {
            whole: Arc::new(Whole {
                limit: AtomicUsize::new(alone.saturating_mul(2)),
                taken: AtomicUsize::new(0),
            }),
            lanes: Mutex::default(),
        }
    }

    /// Changes how many slots a lane that is alone can hold.
    pub(super) fn resize(&self, alone: usize) {
        let limit = alone.saturating_mul(2);
        self.whole.limit.store(limit, Ordering::Relaxed);
    }

    /// Returns the slots of a configured lane.
    pub(super) fn of(&self, lane: &Name) -> Arc<LaneSlots> {
        let mut lanes = self.lanes.lock();
        let slots = lanes.entry(lane.clone()).or_insert_with(|| {
            Arc::new(LaneSlots {
                whole: Arc::clone(&self.whole),
                taken: AtomicUsize::new(0),
            })
        });
        Arc::clone(slots)
    }
}

impl LaneSlots {
    /// Returns a slot, unless the lane holds its share.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<Slot> {
        let whole = &self.whole;
        let limit = whole.limit.load(Ordering::Relaxed);
        let free = limit.saturating_sub(whole.taken.load(Ordering::Relaxed));
        if self.taken.load(Ordering::Relaxed) >= free {
            return None;
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        whole.taken.fetch_add(1, Ordering::Relaxed);
        Some(Slot(Arc::clone(self)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
        self.0.whole.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
