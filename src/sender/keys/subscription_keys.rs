//! The key that each subscription was made with, where it is not the primary key.
//!
//! A subscription is bound to the key it was made with, and only the push service knows to which.
//! Finding out costs a request that is refused, so the result is kept, through a restart too where there
//! is a state directory ([`StateFile`](super::StateFile)). A lost entry costs that request again and
//! nothing else.
//!
//! After a rotation nearly every subscription is here, so an entry takes eight bytes: the first
//! bits of a fingerprint choose the bucket, and a cell holds the next bits and the number of a key. Two
//! fingerprints with the same first sixteen digits share an entry, which costs a request now and then.
//! Eight cells make a bucket; a new entry replaces the oldest of a full bucket.

use crate::message::Name;
use crate::subscription::Fingerprint;
use parking_lot::Mutex;

/// The keys of subscriptions that were not made with the primary one.
#[derive(Debug)]
pub struct SubscriptionKeys {
    table: Mutex<Table>,
    bucket_bits: u32,
}

#[derive(Debug, Default)]
struct Table {
    /// Empty until there is a first entry.
    cells: Vec<u64>,
    /// The names of keys; the number of a key is its index here, from 1.
    keys: Vec<Name>,
    /// How many changes there were.
    changes: u64,
    /// The changes since [`SubscriptionKeys::latest`] was last called; `None` before the first call.
    latest: Option<Latest>,
}

/// Changes in their order: the first 64 bits of a fingerprint, and its cell or 0 for none.
#[derive(Debug, Default)]
struct Latest {
    changes: Vec<(u64, u64)>,
    /// Whether there were more than [`LATEST_LIMIT`], so that some are missing.
    incomplete: bool,
}

/// A change: the first 64 bits of a fingerprint, and its key unless it was removed.
pub(super) type Change = (u64, Option<Name>);

/// How many changes are kept until they are asked for: 4 MiB.
const LATEST_LIMIT: usize = 1 << 18;

/// How many buckets are copied at a time: 64 KiB.
const STRIPE: usize = 1 << 10;

/// Cells in a bucket: one cache line.
const WAYS: usize = 8;

/// The buckets of the daemon's table: two million entries, 16 MiB once the first is there.
const BUCKET_BITS: u32 = 18;

/// The bits of a cell that number a key; 0 is an empty cell.
const KEY_BITS: u32 = 16;

const KEY_MASK: u64 = (1 << KEY_BITS) - 1;

impl Default for SubscriptionKeys {
    fn default() -> Self {
        Self::new(BUCKET_BITS)
    }
}

impl SubscriptionKeys {
    /// Creates an empty table of 2 to the power of `bucket_bits` buckets. At least 16: the choice of the
    /// bucket stands for the bits of the fingerprint that the key's number takes in the cell.
    pub(super) fn new(bucket_bits: u32) -> Self {
        Self {
            table: Mutex::default(),
            bucket_bits: bucket_bits.max(KEY_BITS),
        }
    }

    /// Returns the key that a subscription was made with, if it is known and is not the primary key.
    #[must_use]
    pub fn get(&self, subscription: Fingerprint) -> Option<Name> {
        let table = self.table.lock();
        let (bucket, tag) = self.locate(beginning(subscription));
        let cells = table.cells.get(bucket..bucket + WAYS)?;
        let cell = cells.iter().find(|cell| is_of(**cell, tag))?;
        name(&table.keys, *cell).cloned()
    }

    /// Records the key that a subscription was made with.
    pub fn insert(&self, subscription: Fingerprint, key: &Name) {
        self.insert_at(beginning(subscription), key);
    }

    /// Removes the key of a subscription.
    pub fn remove(&self, subscription: Fingerprint) {
        self.remove_at(beginning(subscription));
    }

    pub(super) fn remove_at(&self, beginning: u64) {
        let mut table = self.table.lock();
        let (bucket, tag) = self.locate(beginning);
        let Some(cells) = table.cells.get_mut(bucket..bucket + WAYS) else {
            return;
        };
        if let Some(cell) = cells.iter_mut().find(|cell| is_of(**cell, tag)) {
            *cell = 0;
            table.changed(beginning, 0);
        }
    }

    /// Returns how many changes there were.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.table.lock().changes
    }

    /// Returns what has changed since the last call, in its order; `None` if that is not known, as
    /// on the first call.
    pub(super) fn latest(&self) -> Option<Vec<Change>> {
        let mut table = self.table.lock();
        let latest = table.latest.replace(Latest::default());
        let keys = table.keys.clone();
        drop(table);
        let latest = latest.filter(|latest| !latest.incomplete)?;
        let change = |(beginning, cell)| (beginning, name(&keys, cell).cloned());
        Some(latest.changes.into_iter().map(change).collect())
    }

    /// Iterates over the first 64 bits of each fingerprint and its key, the oldest of each bucket first.
    /// Changes made meanwhile may be missing.
    ///
    /// The table is copied in parts, so that no push waits long for its lock.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, Name)> {
        let buckets = 1usize << self.bucket_bits;
        (0..buckets).step_by(STRIPE).flat_map(|first| {
            let table = self.table.lock();
            let cells = first * WAYS..(first + STRIPE) * WAYS;
            let cells = table.cells.get(cells).unwrap_or_default().to_vec();
            let keys = table.keys.clone();
            drop(table);
            self.entries_of(first, &cells, &keys)
        })
    }

    fn entries_of(&self, first: usize, cells: &[u64], keys: &[Name]) -> Vec<(u64, Name)> {
        let mut entries = Vec::new();
        for (bucket, cells) in (first..).zip(cells.chunks(WAYS)) {
            let place = u64::try_from(bucket).unwrap_or_default() << (64 - self.bucket_bits);
            let entry = |cell: &u64| Some((place | *cell >> KEY_BITS, name(keys, *cell)?.clone()));
            entries.extend(cells.iter().rev().filter_map(entry));
        }
        entries
    }

    pub(super) fn insert_at(&self, beginning: u64, key: &Name) {
        let mut table = self.table.lock();
        let Some(number) = table.number(key) else {
            return;
        };
        let (bucket, tag) = self.locate(beginning);
        if table.cells.is_empty() {
            table.cells = vec![0; WAYS << self.bucket_bits];
        }
        let cells = &mut table.cells[bucket..bucket + WAYS];
        let cell = tag | number;
        let known = cells.iter().position(|cell| is_of(*cell, tag));
        if known.is_some_and(|at| cells[at] == cell) {
            return;
        }
        // The newest entry comes first; the entries before it move back by one.
        let room = known.or_else(|| cells.iter().position(|cell| *cell == 0));
        cells[..=room.unwrap_or(WAYS - 1)].rotate_right(1);
        cells[0] = cell;
        table.changed(beginning, cell);
    }

    /// Splits the first 64 bits of a fingerprint into the bucket's offset and the tag of its cell.
    fn locate(&self, beginning: u64) -> (usize, u64) {
        let bucket = beginning >> (64 - self.bucket_bits);
        let tag = beginning << self.bucket_bits >> self.bucket_bits << KEY_BITS;
        (usize::try_from(bucket).unwrap_or_default() * WAYS, tag)
    }
}

impl Table {
    fn changed(&mut self, beginning: u64, cell: u64) {
        self.changes += 1;
        if let Some(latest) = &mut self.latest {
            if latest.changes.len() < LATEST_LIMIT {
                latest.changes.push((beginning, cell));
            } else {
                latest.incomplete = true;
            }
        }
    }

    /// Returns the number of a key; `None` if there are too many, which no configuration has.
    fn number(&mut self, key: &Name) -> Option<u64> {
        let known = self.keys.iter().position(|name| name == key);
        let index = known.unwrap_or(self.keys.len());
        let number = u64::try_from(index + 1).ok()?;
        if number > KEY_MASK {
            return None;
        }
        if known.is_none() {
            self.keys.push(key.clone());
        }
        Some(number)
    }
}

fn name(keys: &[Name], cell: u64) -> Option<&Name> {
    let number = usize::try_from(cell & KEY_MASK).ok()?;
    keys.get(number.checked_sub(1)?)
}

fn beginning(subscription: Fingerprint) -> u64 {
    subscription
        .as_bytes()
        .iter()
        .take(8)
        .fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

fn is_of(cell: u64, tag: u64) -> bool {
    cell & KEY_MASK != 0 && cell & !KEY_MASK == tag
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn subscription(n: u64) -> Fingerprint {
        Fingerprint::of(&n.to_string())
    }

    #[test]
    fn what_is_learned_is_known_until_it_is_forgotten() {
        let keys = SubscriptionKeys::new(16);
        let (old, older) = (name("2025"), name("2019"));
        assert_eq!(keys.get(subscription(1)), None);
        keys.remove(subscription(1));
        assert_eq!(keys.changes(), 0);
        keys.insert(subscription(1), &old);
        keys.insert(subscription(2), &older);
        assert_eq!(keys.get(subscription(1)), Some(old.clone()));
        assert_eq!(keys.get(subscription(2)), Some(older.clone()));
        keys.insert(subscription(1), &old);
        assert_eq!(keys.changes(), 2, "that was known");
        keys.insert(subscription(1), &older);
        assert_eq!(keys.get(subscription(1)), Some(older));
        keys.remove(subscription(1));
        assert_eq!(keys.get(subscription(1)), None);
        assert_eq!(keys.entries().count(), 1);
    }

    #[test]
    fn half_as_many_as_there_are_cells_are_nearly_all_remembered() {
        let (keys, old) = (SubscriptionKeys::new(16), name("2025"));
        let cells = u64::try_from(WAYS << 16).unwrap();
        for n in 0..cells / 2 {
            keys.insert(subscription(n), &old);
        }
        let known = |n: &u64| keys.get(subscription(*n)).is_some();
        let forgotten = cells / 2 - (0..cells / 2).filter(known).map(|_| 1).sum::<u64>();
        assert!(forgotten < cells / 100, "{forgotten} of {cells}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn an_entry_tells_the_beginning_it_was_made_from(
            beginnings in prop::collection::hash_set(any::<u64>(), 0..40),
            bits in 16u32..20,
        ) {
            let (keys, old) = (SubscriptionKeys::new(bits), name("2025"));
            for beginning in &beginnings {
                keys.insert_at(*beginning, &old);
            }
            let actual: std::collections::HashSet<_> =
                keys.entries().map(|(beginning, _)| beginning).collect();
            prop_assert_eq!(actual, beginnings);
        }

        #[test]
        fn the_newest_of_a_full_bucket_stay(count in 1u64..30) {
            let (keys, old) = (SubscriptionKeys::new(16), name("2025"));
            for n in 0..count {
                keys.insert_at(n, &old);
            }
            let actual: Vec<_> = keys.entries().map(|(n, _)| n).collect();
            let oldest = count.saturating_sub(8);
            prop_assert_eq!(actual, (oldest..count).collect::<Vec<_>>());
        }
    }
}
