//! Whether a push service's answer concerns one subscription or the key that signed.
//!
//! Why not trust the answer: an operator who loads a wrong private key makes every subscription of an
//! application look like another application's. If the answers were trusted, all of them would be
//! subscribed again, and users who never come back would be lost. So a mismatch counts only at an origin
//! that has accepted a message of every key of the ring. Until then a recipient that no key matches waits in
//! the broker. Once five distinct subscriptions match no key, a key that was never accepted is suspended,
//! and operators hear of it.
//!
//! A refused token is judged in the same way: one refusal may be the fault of the endpoint, which a
//! browser chose. So only that recipient waits, and the others are sent to. Once five distinct
//! subscriptions were refused and no message was accepted, the key is suspended.
//!
//! A suspension ends after a while. The next such answer renews it for twice as long, and the first
//! accepted message ends it for good. So a wrong key loses nothing, and a key that is merely new costs its
//! first subscriptions a short wait.

mod key_state;

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::origin::Origin;
use crate::subscription::Fingerprint;
use crate::vapid::KeyId;

use self::key_state::KeyState;

pub(in crate::sender) use self::key_state::{KeyJudgement, SuspensionCause};

/// How many origins are remembered. Anybody can choose an origin.
const ORIGIN_LIMIT: u64 = 10_000;

/// What is known of every key at every origin.
#[derive(Debug)]
pub(in crate::sender) struct Mismatches {
    origins: Cache<Origin, Arc<Mutex<Keys>>>,
}

/// The state of each configured key.
type Keys = Vec<(KeyId, KeyState)>;

/// What follows for a subscription that no key of the ring matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) enum RingJudgement {
    /// The subscription was made with another key.
    OtherKey,
    /// The recipient waits until more is known.
    Wait {
        /// How long a key of the ring is suspended, if one is.
        suspended: Option<Duration>,
        /// The keys whose suspension begins now, and whether it is the first.
        alarms: Vec<(KeyId, bool)>,
    },
}

impl Default for Mismatches {
    fn default() -> Self {
        Self {
            origins: Cache::new(ORIGIN_LIMIT),
        }
    }
}

impl Mismatches {
    /// Returns how long a key is still suspended at an origin, and why.
    #[must_use]
    pub(in crate::sender) fn suspended(
        &self,
        origin: &Origin,
        key: &KeyId,
        now: Instant,
    ) -> Option<(Duration, SuspensionCause)> {
        let keys = self.origins.get(origin)?;
        let keys = lock(&keys);
        let (_, state) = keys.iter().find(|(id, _)| id == key)?;
        state.suspended(now)
    }

    /// Records that the origin accepted a message that the key signed. Returns whether the key was
    /// suspended.
    ///
    /// The endpoint must be one that refuses all keys but that of its subscription.
    pub(in crate::sender) fn accept(&self, origin: &Origin, key: &KeyId, now: Instant) -> bool {
        let keys = self.keys(origin);
        let mut keys = lock(&keys);
        state(&mut keys, key).accept(now)
    }

    /// Returns whether one of the `origins` has recently accepted a message that the key signed.
    #[must_use]
    pub(in crate::sender) fn is_accepted_at(
        &self,
        origins: impl Fn(&Origin) -> bool,
        key: &KeyId,
        now: Instant,
    ) -> bool {
        let is_taken = |keys: &Keys| {
            let mut states = keys.iter().filter(|(id, _)| id == key);
            states.any(|(_, states)| states.is_recently_accepted(now))
        };
        let mut known = self.origins.iter();
        known.any(|(origin, keys)| origins(&origin) && is_taken(&lock(&keys)))
    }

    /// Judges a refusal of a token that the key signed, for one subscription.
    pub(in crate::sender) fn refuse(
        &self,
        origin: &Origin,
        key: &KeyId,
        subscription: Fingerprint,
        now: Instant,
    ) -> KeyJudgement {
        let keys = self.keys(origin);
        let mut keys = lock(&keys);
        state(&mut keys, key).refuse(subscription, now)
    }

    /// Judges a subscription that matches none of `ring`, which is every key there is for it.
    pub(in crate::sender) fn judge<'a>(
        &self,
        origin: &Origin,
        ring: impl IntoIterator<Item = &'a KeyId>,
        subscription: Fingerprint,
        now: Instant,
    ) -> RingJudgement {
        let keys = self.keys(origin);
        let mut keys = lock(&keys);
        let (mut is_other_key, mut suspended, mut alarms) = (true, None, Vec::new());
        for key in ring {
            match state(&mut keys, key).mismatch(subscription, now) {
                KeyJudgement::Subscription => {}
                KeyJudgement::Undecided { .. } => is_other_key = false,
                KeyJudgement::Suspended {
                    left,
                    renewed,
                    first,
                } => {
                    is_other_key = false;
                    suspended = suspended.max(Some(left));
                    if renewed {
                        alarms.push((key.clone(), first));
                    }
                }
            }
        }
        if is_other_key {
            RingJudgement::OtherKey
        } else {
            RingJudgement::Wait { suspended, alarms }
        }
    }

    fn keys(&self, origin: &Origin) -> Arc<Mutex<Keys>> {
        match self.origins.get(origin) {
            Some(keys) => keys,
            None => self.origins.get_with(origin.clone(), Arc::default),
        }
    }
}

fn state<'a>(keys: &'a mut Keys, key: &KeyId) -> &'a mut KeyState {
    let known = keys.iter().position(|(id, _)| id == key);
    let index = known.unwrap_or_else(|| {
        keys.push((key.clone(), KeyState::default()));
        keys.len() - 1
    });
    &mut keys[index].1
}

fn lock(keys: &Mutex<Keys>) -> MutexGuard<'_, Keys> {
    keys.lock()
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::message::Name;
    use crate::vapid::VapidKey;

    fn subscription(n: u8) -> Fingerprint {
        Fingerprint::of(&format!("https://push.example.net/{n}"))
    }

    fn key(text: &str) -> KeyId {
        let key = VapidKey::generate(Name::parse(text).unwrap());
        key.unwrap().id().clone()
    }

    fn origin(host: &str) -> Origin {
        Origin::of(&Url::parse(&format!("https://{host}/")).unwrap())
    }

    #[test]
    fn one_unproved_key_of_the_ring_is_enough_to_doubt() {
        let now = SystemClock.now().mono;
        let mismatches = Mismatches::default();
        let ring = [key("new"), key("old")];
        let judge = |n| mismatches.judge(&origin("a"), &ring, subscription(n), now);
        let waits = |suspended, alarms| RingJudgement::Wait { suspended, alarms };
        assert!(!mismatches.accept(&origin("a"), &ring[1], now));
        for n in 1..5 {
            assert_eq!(judge(n), waits(None, Vec::new()));
        }
        let ten = Some(Duration::from_secs(10));
        let suspended = ten.map(|left| (left, SuspensionCause::Mismatch));
        assert_eq!(judge(5), waits(ten, vec![(ring[0].clone(), true)]));
        assert_eq!(judge(6), waits(ten, Vec::new()));
        assert_eq!(mismatches.suspended(&origin("a"), &ring[0], now), suspended);
        assert_eq!(mismatches.suspended(&origin("a"), &ring[1], now), None);
        assert_eq!(mismatches.suspended(&origin("b"), &ring[0], now), None);
        assert!(mismatches.accept(&origin("a"), &ring[0], now));
        assert_eq!(judge(7), RingJudgement::OtherKey);
        assert_eq!(mismatches.suspended(&origin("a"), &ring[0], now), None);
    }

    #[test]
    fn a_message_that_was_taken_speaks_for_its_key_at_its_origin() {
        let (here, there) = (origin("push.example.net"), origin("push.example.org"));
        let (mine, other) = (key("2026"), key("2019"));
        let now = SystemClock.now().mono;
        let mismatches = Mismatches::default();
        mismatches.accept(&here, &mine, now);
        for (origin, key, belief) in [
            (&here, &mine, KeyJudgement::Subscription),
            (&there, &mine, KeyJudgement::Undecided { first: true }),
            (&here, &other, KeyJudgement::Undecided { first: true }),
        ] {
            assert_eq!(mismatches.refuse(origin, key, subscription(1), now), belief);
        }
    }

    #[test]
    fn a_key_that_takes_the_name_of_another_is_not_believed_for_it() {
        let (here, now) = (origin("push.example.net"), SystemClock.now().mono);
        let mismatches = Mismatches::default();
        mismatches.accept(&here, &key("main"), now);
        let judgement = mismatches.judge(&here, [&key("main")], subscription(1), now);
        assert_ne!(judgement, RingJudgement::OtherKey);
    }
}
