//! Whether to believe that a subscription belongs to another application server key.
//!
//! Why doubt it: an operator who loads a wrong private key makes every subscription of an
//! application look like somebody else's. Believed, that would have all of them subscribed again,
//! and those users lost who never come back. So a mismatch is believed only at an origin where
//! every key of the ring has been proved: a message that it signed was taken there. Until then who
//! fits no key waits in the broker; and once five distinct subscriptions fit none, a key that was
//! never proved is taken for wrong and suspended, which an operator hears of.
//!
//! A suspension is an open question, not a sentence: it ends after a while, the next misfit renews
//! it for twice as long, and the first message taken ends it for good. So a wrong key loses nothing,
//! and a key that is merely new costs its first subscriptions a short wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use tokio::time::Instant;

use crate::message::Name;
use crate::origin::Origin;
use crate::subscription::Fingerprint;

/// How many distinct subscriptions must fit no key before a key is taken for wrong (contract.md §4).
pub const MISFITS: usize = 5;

/// The first suspension; each that follows without a proof is twice as long.
const FIRST: Duration = Duration::from_secs(10);

/// The longest suspension.
const LONGEST: Duration = Duration::from_secs(900);

/// How long a message that was taken speaks against a service that finds fault with its key. What
/// makes a key wrong that was right is a restart with another one, after which nothing is remembered.
const TRUST: Duration = Duration::from_secs(3600);

/// How many origins are remembered; strangers choose them.
const ORIGIN_LIMIT: u64 = 10_000;

/// What is known of one key at one origin.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// When a message that it signed was last taken.
    proved: Option<Instant>,
    misfits: Vec<Fingerprint>,
    until: Option<Instant>,
    in_a_row: u32,
}

/// What a misfit means to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    /// The key is right, so the subscription belongs to another.
    Believed,
    /// Nobody can tell yet.
    Doubted,
    /// The key is taken for wrong for so long.
    Suspended {
        /// How long.
        left: Duration,
        /// Whether it became so just now.
        renewed: bool,
        /// Whether it did so for the first time since the daemon started.
        first: bool,
    },
}

impl Standing {
    /// Takes a message that the key signed and the service took; tells whether the key was taken
    /// for wrong.
    pub fn prove(&mut self, now: Instant) -> bool {
        let was_wrong = self.in_a_row > 0;
        *self = Self {
            proved: Some(now),
            ..Self::default()
        };
        was_wrong
    }

    /// Tells whether a message that the key signed was taken within the last hour.
    ///
    /// A service that refuses the key for one subscription then finds fault with the endpoint,
    /// which a stranger chose, and not with the key.
    #[must_use]
    pub fn is_trusted(&self, now: Instant) -> bool {
        let proved = self.proved;
        proved.is_some_and(|at| now.saturating_duration_since(at) < TRUST)
    }

    /// Takes a subscription that fits no key of the ring.
    pub fn misfit(&mut self, subscription: Fingerprint, now: Instant) -> Belief {
        if self.proved.is_some() {
            return Belief::Believed;
        }
        if let Some(left) = self.suspended(now) {
            let (renewed, first) = (false, false);
            return Belief::Suspended {
                left,
                renewed,
                first,
            };
        }
        if self.misfits.len() < MISFITS && !self.misfits.contains(&subscription) {
            self.misfits.push(subscription);
        }
        if self.misfits.len() < MISFITS {
            return Belief::Doubted;
        }
        let doubled = FIRST.saturating_mul(2u32.saturating_pow(self.in_a_row));
        let left = doubled.min(LONGEST);
        let first = self.in_a_row == 0;
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.until = Some(now + left);
        Belief::Suspended {
            left,
            renewed: true,
            first,
        }
    }

    /// Returns how long the key is still taken for wrong.
    #[must_use]
    pub fn suspended(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

/// What is known of every key at every origin.
#[derive(Debug)]
pub struct Mismatches {
    origins: Cache<Origin, Arc<Mutex<Keys>>>,
}

/// There are as many as the configuration has keys.
type Keys = Vec<(Name, Standing)>;

/// What is to be done about a subscription that fits no key of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It belongs to another key.
    Believed,
    /// It waits until more is known.
    Wait {
        /// How long the key is suspended that it waits for, if one is.
        suspended: Option<Duration>,
        /// The keys that are suspended just now, and whether for the first time.
        alarms: Vec<(Name, bool)>,
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
    /// Returns how long a key is still taken for wrong at an origin.
    #[must_use]
    pub fn suspended(&self, origin: &Origin, key: &Name, now: Instant) -> Option<Duration> {
        let keys = self.origins.get(origin)?;
        let keys = lock(&keys);
        let (_, standing) = keys.iter().find(|(name, _)| name == key)?;
        standing.suspended(now)
    }

    /// Tells whether the origin has lately taken a message that the key signed.
    #[must_use]
    pub fn is_trusted(&self, origin: &Origin, key: &Name, now: Instant) -> bool {
        let Some(keys) = self.origins.get(origin) else {
            return false;
        };
        let keys = lock(&keys);
        let mut standings = keys.iter().filter(|(name, _)| name == key);
        standings.any(|(_, standing)| standing.is_trusted(now))
    }

    /// Notes that the origin took a message that the key signed; tells whether the key was taken
    /// for wrong.
    pub fn prove(&self, origin: &Origin, key: &Name, now: Instant) -> bool {
        let keys = self.keys(origin);
        let mut keys = lock(&keys);
        standing(&mut keys, key).prove(now)
    }

    /// Judges a subscription that fits none of `ring`, which is every key there is for it.
    pub fn judge<'a>(
        &self,
        origin: &Origin,
        ring: impl IntoIterator<Item = &'a Name>,
        subscription: Fingerprint,
        now: Instant,
    ) -> Judgement {
        let keys = self.keys(origin);
        let mut keys = lock(&keys);
        let (mut is_believed, mut suspended, mut alarms) = (true, None, Vec::new());
        for key in ring {
            match standing(&mut keys, key).misfit(subscription, now) {
                Belief::Believed => {}
                Belief::Doubted => is_believed = false,
                Belief::Suspended {
                    left,
                    renewed,
                    first,
                } => {
                    is_believed = false;
                    suspended = suspended.max(Some(left));
                    if renewed {
                        alarms.push((key.clone(), first));
                    }
                }
            }
        }
        if is_believed {
            Judgement::Believed
        } else {
            Judgement::Wait { suspended, alarms }
        }
    }

    fn keys(&self, origin: &Origin) -> Arc<Mutex<Keys>> {
        match self.origins.get(origin) {
            Some(keys) => keys,
            None => self.origins.get_with(origin.clone(), Arc::default),
        }
    }
}

fn standing<'a>(keys: &'a mut Keys, key: &Name) -> &'a mut Standing {
    let known = keys.iter().position(|(name, _)| name == key);
    let index = known.unwrap_or_else(|| {
        keys.push((key.clone(), Standing::default()));
        keys.len() - 1
    });
    &mut keys[index].1
}

fn lock(keys: &Mutex<Keys>) -> MutexGuard<'_, Keys> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use url::Url;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn subscription(n: u8) -> Fingerprint {
        Fingerprint::of(&format!("https://push.example.net/{n}"))
    }

    fn suspended(seconds: u64, first: bool) -> Belief {
        Belief::Suspended {
            left: Duration::from_secs(seconds),
            renewed: true,
            first,
        }
    }

    #[test]
    fn the_fifth_distinct_misfit_suspends_a_key_that_was_never_proved() {
        let now = SystemClock.now().mono;
        let mut standing = Standing::default();
        for (n, belief) in [
            (1, Belief::Doubted),
            (2, Belief::Doubted),
            (1, Belief::Doubted),
            (3, Belief::Doubted),
            (4, Belief::Doubted),
            (4, Belief::Doubted),
            (5, suspended(10, true)),
        ] {
            assert_eq!(standing.misfit(subscription(n), now), belief, "{n}");
        }
        assert_eq!(standing.suspended(now), Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_key_that_was_proved_is_believed_for_ever() {
        let now = SystemClock.now().mono;
        let mut standing = Standing::default();
        assert!(!standing.prove(now));
        for n in 1..20 {
            let belief = standing.misfit(subscription(n), now);
            assert_eq!(belief, Belief::Believed, "{n}");
        }
    }

    #[test]
    fn a_suspension_is_renewed_by_the_next_misfit_and_ended_by_a_proof() {
        let mut now = SystemClock.now().mono;
        let mut standing = Standing::default();
        for n in 1..5 {
            standing.misfit(subscription(n), now);
        }
        for (nth, seconds) in [10, 20, 40, 80, 160, 320, 640, 900, 900]
            .into_iter()
            .enumerate()
        {
            let belief = standing.misfit(subscription(9), now);
            assert_eq!(belief, suspended(seconds, nth == 0));
            now += Duration::from_secs(seconds);
            assert_eq!(standing.suspended(now), None);
        }
        assert!(standing.prove(now));
        assert_eq!(standing.misfit(subscription(1), now), Belief::Believed);
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn origin(host: &str) -> Origin {
        Origin::of(&Url::parse(&format!("https://{host}/")).unwrap())
    }

    #[test]
    fn one_unproved_key_of_the_ring_is_enough_to_doubt() {
        let now = SystemClock.now().mono;
        let mismatches = Mismatches::default();
        let ring = [name("new"), name("old")];
        let judge = |n| mismatches.judge(&origin("a"), &ring, subscription(n), now);
        let waits = |suspended, alarms| Judgement::Wait { suspended, alarms };
        assert!(!mismatches.prove(&origin("a"), &ring[1], now));
        for n in 1..5 {
            assert_eq!(judge(n), waits(None, Vec::new()));
        }
        let ten = Some(Duration::from_secs(10));
        assert_eq!(judge(5), waits(ten, vec![(name("new"), true)]));
        assert_eq!(judge(6), waits(ten, Vec::new()));
        assert_eq!(mismatches.suspended(&origin("a"), &ring[0], now), ten);
        assert_eq!(mismatches.suspended(&origin("a"), &ring[1], now), None);
        assert_eq!(mismatches.suspended(&origin("b"), &ring[0], now), None);
        assert!(mismatches.prove(&origin("a"), &ring[0], now));
        assert_eq!(judge(7), Judgement::Believed);
        assert_eq!(mismatches.suspended(&origin("a"), &ring[0], now), None);
    }

    #[test]
    fn a_message_that_was_taken_speaks_for_its_key_at_its_origin_for_an_hour() {
        let (here, there) = (origin("push.example.net"), origin("push.example.org"));
        let (mine, other) = (name("2026"), name("2019"));
        let start = SystemClock.now().mono;
        let mismatches = Mismatches::default();
        mismatches.judge(&here, [&mine], subscription(1), start);
        assert!(!mismatches.is_trusted(&here, &mine, start));
        mismatches.prove(&here, &mine, start);
        assert!(!mismatches.is_trusted(&there, &mine, start));
        assert!(!mismatches.is_trusted(&here, &other, start));
        for (seconds, trusted) in [(0, true), (3599, true), (3600, false)] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(
                mismatches.is_trusted(&here, &mine, now),
                trusted,
                "{seconds}"
            );
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Misfit(u8),
        Proof,
        Seconds(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0u8..8).prop_map(Step::Misfit),
            1 => Just(Step::Proof),
            3 => (0u64..1200).prop_map(Step::Seconds),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_believed_without_a_proof_and_everything_with_one(
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let mut now = SystemClock.now().mono;
            let mut standing = Standing::default();
            let (mut is_proved, mut distinct) = (false, BTreeSet::new());
            for step in steps {
                match step {
                    Step::Proof => {
                        standing.prove(now);
                        is_proved = true;
                    }
                    Step::Seconds(seconds) => now += Duration::from_secs(seconds),
                    Step::Misfit(n) => {
                        distinct.insert(n);
                        let belief = standing.misfit(subscription(n), now);
                        prop_assert_eq!(belief == Belief::Believed, is_proved);
                        let enough = distinct.len() >= MISFITS && !is_proved;
                        let stops = matches!(belief, Belief::Suspended { .. });
                        prop_assert_eq!(stops, enough);
                        prop_assert!(standing.misfits.len() <= MISFITS);
                    }
                }
                let left = standing.suspended(now).unwrap_or_default();
                prop_assert!(left <= LONGEST && (left.is_zero() || !is_proved));
            }
        }
    }
}
