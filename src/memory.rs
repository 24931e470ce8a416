//! What was settled lately, so that a redelivery is answered and not pushed again.
//!
//! When a connection to the broker is lost, every unacknowledged delivery comes again, although
//! its pushes are under way or done. The living daemon remembers what each delivery ended in, or
//! that it has not ended yet, and gives the same answer. A process that died remembers nothing; that
//! is what "at least once" means.
//!
//! The memory is asked only about deliveries the broker marks as redelivered: two events that look
//! alike are two events.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::OnceCell;

/// Which delivery: the same event, in the same pass, of the same chunk, with the same body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// Names a delivery by everything that tells it from another.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self(digest)
    }

    /// Returns the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What a delivery ended in, once it has ended; whoever comes second waits for it.
pub type Slot<T> = Arc<OnceCell<T>>;

/// The memory of what was settled lately.
pub struct Memory<T> {
    slots: Cache<Key, (Slot<T>, u32)>,
}

/// What a slot weighs besides its value, in bytes: key, cell and the cache's own bookkeeping.
const SLOT_WEIGHT: u32 = 256;

impl<T: Send + Sync + 'static> Memory<T> {
    /// Creates a memory of about `capacity` bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        let slots = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, (_, weight): &(Slot<T>, u32)| SLOT_WEIGHT.saturating_add(*weight))
            // What comes last is what a lost connection brings back.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { slots }
    }

    /// Returns the slot of a delivery: the one that is there for a redelivery, else a new one.
    #[must_use]
    pub fn slot(&self, key: Key, redelivered: bool) -> Slot<T> {
        if redelivered {
            return self.slots.get_with(key, || (Slot::default(), 0)).0;
        }
        let slot = Slot::default();
        self.slots.insert(key, (Arc::clone(&slot), 0));
        slot
    }

    /// Accounts for the value of a slot, `weight` bytes, now that it is known.
    pub fn settled(&self, key: Key, slot: &Slot<T>, weight: usize) {
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        self.slots.insert(key, (Arc::clone(slot), weight));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::of(&[name.as_bytes()])
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(Key::of(&[b"ab", b"c"]), Key::of(&[b"a", b"bc"]));
        assert_eq!(Key::of(&[b"ab", b"c"]), Key::of(&[b"ab", b"c"]));
    }

    #[tokio::test]
    async fn a_redelivery_finds_what_the_first_delivery_ended_in() {
        let memory = Memory::new(1 << 20);
        let first = memory.slot(key("a"), false);
        assert_eq!(first.get_or_init(|| async { 1 }).await, &1);
        memory.settled(key("a"), &first, 1);
        let again = memory.slot(key("a"), true);
        assert_eq!(again.get_or_init(|| async { 2 }).await, &1);
    }

    #[tokio::test]
    async fn a_redelivery_waits_for_what_is_under_way() {
        let memory = Memory::new(1 << 20);
        let (go, ready) = tokio::sync::oneshot::channel();
        let first = memory.slot(key("a"), false);
        let again = memory.slot(key("a"), true);
        let (first, again, ()) = tokio::join!(
            first.get_or_init(|| async { ready.await.unwrap_or(0) }),
            again.get_or_init(|| async { 2 }),
            async {
                tokio::task::yield_now().await;
                go.send(1).unwrap();
            }
        );
        assert_eq!((first, again), (&1, &1));
    }

    #[tokio::test]
    async fn an_event_that_looks_alike_is_another_event() {
        let memory = Memory::new(1 << 20);
        let first = memory.slot(key("a"), false);
        first.get_or_init(|| async { 1 }).await;
        let second = memory.slot(key("a"), false);
        assert_eq!(second.get_or_init(|| async { 2 }).await, &2);
    }

    #[tokio::test]
    async fn a_cancelled_delivery_is_done_by_the_next() {
        let memory = Memory::new(1 << 20);
        let first = memory.slot(key("a"), false);
        let cancelled = first.get_or_init(std::future::pending::<i32>);
        assert!(
            tokio::time::timeout(std::time::Duration::ZERO, cancelled)
                .await
                .is_err()
        );
        let again = memory.slot(key("a"), true);
        assert_eq!(again.get_or_init(|| async { 2 }).await, &2);
    }

    #[test]
    fn old_values_make_room_for_new_ones() {
        let memory: Memory<u32> = Memory::new(100 * 1024);
        for n in 0..1000u32 {
            let key = Key::of(&[&n.to_le_bytes()]);
            let slot = memory.slot(key, false);
            slot.set(n).unwrap();
            memory.settled(key, &slot, 1024);
        }
        memory.slots.run_pending_tasks();
        assert!(memory.slots.weighted_size() <= 100 * 1024);
        let newest = memory.slot(Key::of(&[&999u32.to_le_bytes()]), true);
        assert_eq!(newest.get(), Some(&999));
    }
}
