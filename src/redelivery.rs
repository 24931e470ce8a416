//! Which deliveries are not acknowledged, so that a message delivered again is not pushed again.
//!
//! When a connection to the broker is lost, the broker delivers every unacknowledged message again,
//! although its pushes are under way or done. [`Redeliveries`] holds each delivery from the moment
//! it is taken until it is acknowledged, and gives a second delivery of the same message the result
//! of the first. A process that died holds nothing; that is what "at least once" means.
//!
//! AMQP does not name messages, so a message is recognized by its [`Identity`]:
//!
//! * A copy that a daemon published (a retry, a chunk) carries a [`CopyId`]. It is looked up at each
//!   delivery: when a confirm is lost, the copy is published twice, and both are first deliveries.
//! * Any other message is recognized by its content, and two equal events are two events. So it is
//!   looked up only if the broker delivered it before, only among the deliveries of a lost
//!   connection, and each of those answers one redelivery.
//!
//! An acknowledgement may be lost with the connection, too. So the ids of copies that were
//! acknowledged are remembered for some minutes, and a redelivery is acknowledged again, with
//! nothing to publish. An event with an id is recognized in the same way if it was acknowledged
//! shortly before its connection was lost, once, and if no equal one was: RabbitMQ also marks
//! messages that it never delivered as redelivered, and a repeated push does less harm than a lost
//! one. Equal events without an id are never recognized after their acknowledgement.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::mem;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::message::CopyId;

/// How long the deliveries of a lost connection are kept after the next one delivers: what is not
/// redelivered here by then went to another daemon.
const LOST_AGE: Duration = Duration::from_mins(10);

/// How many bytes of publications the deliveries of lost connections may hold; the oldest are
/// dropped first.
const LOST_WEIGHT: usize = 64 << 20;

/// What a delivery weighs besides its publications, in bytes.
const ENTRY_WEIGHT: usize = 256;

/// The id of an acknowledged copy is remembered until this time has passed once to twice ...
const ACKNOWLEDGED_AGE: Duration = Duration::from_mins(5);

/// ... or as many others were noted once to twice.
const ACKNOWLEDGED_LIMIT: usize = 150_000;

/// How long before the last one an acknowledgement may be lost with the connection: longer than a
/// silent broker takes to be noticed.
const UNSURE_AGE: Duration = Duration::from_mins(1);

/// Which delivery of which generation is to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt {
    /// The generation (a set of connections) that took the message.
    pub(crate) generation: u64,
    /// The consuming channel within the generation.
    pub(crate) channel: usize,
    /// The delivery tag on that channel.
    pub(crate) tag: u64,
}

/// How a message is recognized when it is delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A copy that a daemon published.
    Copy(CopyId),
    /// Any other message.
    Content {
        /// A digest of what is equal in every delivery of the message.
        digest: u128,
        /// Whether the broker delivered it before.
        again: bool,
    },
}

/// The result of a delivery.
#[derive(Clone, Debug)]
pub struct Settled<P> {
    /// What must be confirmed before the delivery is acknowledged.
    pub publications: Arc<[P]>,
    /// How many bytes the publications hold.
    pub weight: usize,
    /// Whether the producer gave the event an id.
    pub is_named: bool,
}

impl<P> Deref for Settled<P> {
    type Target = [P];

    fn deref(&self) -> &[P] {
        &self.publications
    }
}

/// The result of a delivery, once it is there; shared by all deliveries of one message.
pub(crate) type Slot<P> = Arc<OnceCell<Settled<P>>>;

/// What to do with a delivery.
#[derive(Debug)]
pub enum Taken<P> {
    /// Fill the slot, or wait until it is filled, and publish what is in it.
    Open(Slot<P>),
    /// Acknowledge it: everything it causes was confirmed before.
    Finished,
}

/// The deliveries that are not acknowledged, and the identities of those that were lately.
#[derive(Debug)]
pub struct Redeliveries<P>(Mutex<Table<P>>);

impl<P> Default for Redeliveries<P> {
    fn default() -> Self {
        Self(Mutex::new(Table {
            generation: 0,
            forget_at: None,
            open: BTreeMap::new(),
            by_key: BTreeSet::new(),
            acknowledged: Recent::default(),
            acknowledged_events: VecDeque::new(),
            unsure: HashMap::new(),
        }))
    }
}

impl<P> Redeliveries<P> {
    /// Records a delivery. Deliveries must be noted in the order in which they arrived.
    #[must_use]
    pub fn take(&self, receipt: Receipt, identity: Identity, now: Instant) -> Taken<P> {
        self.0.lock().take(receipt, identity, now)
    }

    /// Records that a delivery was acknowledged, after all it causes was confirmed; with `multiple`,
    /// every earlier one of its channel as well.
    pub fn acknowledged(&self, receipt: Receipt, multiple: bool, now: Instant) {
        let first = if multiple { 0 } else { receipt.tag };
        let first = Receipt {
            tag: first,
            ..receipt
        };
        self.0.lock().acknowledged(first, receipt, now);
    }
}

#[derive(Debug)]
struct Table<P> {
    /// The newest generation that delivered anything. Deliveries of older ones are lost: they can
    /// no longer be acknowledged.
    generation: u64,
    /// When the lost deliveries are dropped.
    forget_at: Option<Instant>,
    open: BTreeMap<Receipt, Entry<P>>,
    by_key: BTreeSet<(u128, Receipt)>,
    /// The ids of copies.
    acknowledged: Recent,
    /// The events with an id that the newest generation acknowledged lately, the oldest first.
    acknowledged_events: VecDeque<(Instant, u128)>,
    /// How many equal events with an id a lost generation acknowledged at its end.
    unsure: HashMap<u128, u32>,
}

#[derive(Debug)]
struct Entry<P> {
    key: u128,
    is_copy: bool,
    slot: Slot<P>,
}

impl<P> Table<P> {
    fn take(&mut self, receipt: Receipt, identity: Identity, now: Instant) -> Taken<P> {
        self.advance(receipt.generation, now);
        let (key, is_copy, again) = match identity {
            Identity::Copy(id) => (id.number(), true, true),
            Identity::Content { digest, again } => (digest, false, again),
        };
        if is_copy && self.acknowledged.contains(key, now) {
            return Taken::Finished;
        }
        let earlier = self.first(key).filter(|_| again);
        let slot = match earlier {
            Some(lost) if lost.generation < receipt.generation => self.remove(lost),
            Some(earlier) if is_copy => self.open.get(&earlier).map(|it| Arc::clone(&it.slot)),
            Some(_) | None => None,
        };
        let slot = slot
            .or_else(|| if again { self.unsure(key) } else { None })
            .unwrap_or_default();
        let entry = Entry {
            key,
            is_copy,
            slot: Arc::clone(&slot),
        };
        self.open.insert(receipt, entry);
        self.by_key.insert((key, receipt));
        Taken::Open(slot)
    }

    /// Returns the slot of an event whose acknowledgement may be lost: there is nothing to publish.
    fn unsure(&mut self, key: u128) -> Option<Slot<P>> {
        self.unsure.remove(&key).filter(|count| *count == 1)?;
        let nothing = Settled {
            publications: Arc::new([]),
            weight: 0,
            is_named: true,
        };
        Some(Arc::new(OnceCell::new_with(Some(nothing))))
    }

    fn acknowledged(&mut self, first: Receipt, last: Receipt, now: Instant) {
        for (receipt, entry) in self.open.extract_if(first..=last, |_, _| true) {
            self.by_key.remove(&(entry.key, receipt));
            if entry.is_copy {
                self.acknowledged.note(entry.key, now);
            } else if entry.slot.get().is_some_and(|settled| settled.is_named) {
                self.acknowledged_events.push_back((now, entry.key));
            }
        }
        while self.acknowledged_events.len() > ACKNOWLEDGED_LIMIT
            || self
                .acknowledged_events
                .front()
                .is_some_and(|(at, _)| *at + UNSURE_AGE < now)
        {
            self.acknowledged_events.pop_front();
        }
    }

    /// Begins a generation, or drops what a lost one left and is not expected any more.
    fn advance(&mut self, generation: u64, now: Instant) {
        if generation > self.generation {
            self.generation = generation;
            self.forget_at = Some(now + LOST_AGE);
            for (_, key) in self.acknowledged_events.drain(..) {
                *self.unsure.entry(key).or_default() += 1;
            }
            self.bound_lost();
        } else if self.forget_at.is_some_and(|at| now >= at) {
            self.forget_at = None;
            self.unsure = HashMap::new();
            self.drop_lost(|_| true);
        }
    }

    /// Drops the oldest lost deliveries until the rest weighs little enough.
    fn bound_lost(&mut self) {
        let mut weight = 0usize;
        let mut lost = self.open.range(..self.first_live()).rev();
        let too_many = lost.find_map(|(receipt, entry)| {
            let publications = entry.slot.get().map_or(0, |settled| settled.weight);
            weight = weight.saturating_add(ENTRY_WEIGHT + publications);
            (weight > LOST_WEIGHT).then_some(*receipt)
        });
        if let Some(oldest) = too_many {
            self.drop_lost(|receipt| *receipt <= oldest);
        }
    }

    fn drop_lost(&mut self, is_dropped: impl Fn(&Receipt) -> bool) {
        let lost = ..self.first_live();
        for (receipt, entry) in self.open.extract_if(lost, |receipt, _| is_dropped(receipt)) {
            self.by_key.remove(&(entry.key, receipt));
        }
    }

    /// Returns what no receipt of the newest generation is less than.
    fn first_live(&self) -> Receipt {
        Receipt {
            generation: self.generation,
            channel: 0,
            tag: 0,
        }
    }

    /// Returns the oldest delivery with a key.
    fn first(&self, key: u128) -> Option<Receipt> {
        let least = Receipt {
            generation: 0,
            channel: 0,
            tag: 0,
        };
        let (found, receipt) = self.by_key.range((key, least)..).next()?;
        (*found == key).then_some(*receipt)
    }

    fn remove(&mut self, receipt: Receipt) -> Option<Slot<P>> {
        let entry = self.open.remove(&receipt)?;
        self.by_key.remove(&(entry.key, receipt));
        Some(entry.slot)
    }
}

/// Keys that were noted lately: two sets, of which the older is dropped when the younger is full or
/// old.
#[derive(Debug, Default)]
struct Recent {
    young: HashSet<u128>,
    old: HashSet<u128>,
    since: Option<Instant>,
}

impl Recent {
    fn note(&mut self, key: u128, now: Instant) {
        self.age(now);
        if self.young.len() >= ACKNOWLEDGED_LIMIT {
            self.turn(now);
        }
        self.young.insert(key);
    }

    fn contains(&mut self, key: u128, now: Instant) -> bool {
        self.age(now);
        self.young.contains(&key) || self.old.contains(&key)
    }

    fn age(&mut self, now: Instant) {
        let age = now.saturating_duration_since(*self.since.get_or_insert(now));
        if age >= ACKNOWLEDGED_AGE {
            self.turn(now);
        }
        if age >= ACKNOWLEDGED_AGE * 2 {
            self.turn(now);
        }
    }

    fn turn(&mut self, now: Instant) {
        self.old = mem::take(&mut self.young);
        self.since = Some(now);
    }
}

#[cfg(test)]
mod tests;
