//! Permits by key: a few at a time for each, and nothing is remembered of a key that is not in use.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits by key.
#[derive(Debug)]
pub(crate) struct KeyedSemaphore<K> {
    at_once: usize,
    waiters: usize,
    keys: Arc<Keys<K>>,
}

type Keys<K> = Mutex<HashMap<K, InUse>>;

/// A key that has permits out, or waiters.
#[derive(Debug)]
struct InUse {
    permits: Arc<Semaphore>,
    /// How many have a permit or wait for one.
    claims: usize,
}

/// One of a key's permits, which a drop gives back.
#[derive(Debug)]
pub(crate) struct KeyPermit<K: Eq + Hash> {
    // Given back before the claim ends: the claim is what keeps the key.
    _permit: OwnedSemaphorePermit,
    _claim: Claim<K>,
}

#[derive(Debug)]
struct Claim<K: Eq + Hash> {
    keys: Arc<Keys<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> KeyedSemaphore<K> {
    /// Gives each key `at_once` permits at a time, and lets `waiters` wait for them.
    #[must_use]
    pub(crate) fn new(at_once: usize, waiters: usize) -> Self {
        Self {
            at_once,
            waiters,
            keys: Arc::default(),
        }
    }

    /// Waits for a permit of `key`, in the order of the calls; `None` if too many wait already.
    pub(crate) async fn acquire(&self, key: K) -> Option<KeyPermit<K>> {
        let (claim, permits) = self.claim(key)?;
        let permit = permits.acquire_owned().await.ok()?;
        Some(KeyPermit {
            _permit: permit,
            _claim: claim,
        })
    }

    fn claim(&self, key: K) -> Option<(Claim<K>, Arc<Semaphore>)> {
        let mut keys = self.keys.lock();
        let in_use = keys.entry(key.clone()).or_insert_with(|| InUse {
            permits: Arc::new(Semaphore::new(self.at_once)),
            claims: 0,
        });
        if in_use.claims >= self.at_once.saturating_add(self.waiters) {
            return None;
        }
        in_use.claims += 1;
        let keys = Arc::clone(&self.keys);
        Some((Claim { keys, key }, Arc::clone(&in_use.permits)))
    }

    /// Returns how many keys are in use.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> usize {
        let keys = self.keys.lock();
        keys.len()
    }
}

impl<K: Eq + Hash> Drop for Claim<K> {
    fn drop(&mut self) {
        let mut keys = self.keys.lock();
        if let Some(in_use) = keys.get_mut(&self.key) {
            in_use.claims -= 1;
            if in_use.claims == 0 {
                keys.remove(&self.key);
            }
        }
    }
}
