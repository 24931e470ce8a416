//! What the answers of one push service say of one VAPID key.

use std::time::Duration;

use tokio::time::Instant;

use crate::subscription::Fingerprint;

/// How many distinct subscriptions must speak against a key before it is suspended.
const SUBSCRIPTIONS: usize = 5;

/// How many refused subscriptions are remembered: a suspension is not renewed by one of them, so
/// that a few endpoints that refuse every key do not hold up the others for long.
const REFUSED_REMEMBERED: usize = 32;

/// The first suspension; each that follows without a message taken is twice as long.
const FIRST: Duration = Duration::from_secs(10);

/// The longest suspension.
const LONGEST: Duration = Duration::from_secs(900);

/// How long a message that was taken speaks for its key when the service refuses the key for a few
/// subscriptions.
const TRUST: Duration = Duration::from_secs(3600);

/// What is known of one key at one origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// When a message that it signed was last taken.
    proved: Option<Instant>,
    mismatches: Evidence,
    refusals: Evidence,
}

/// What speaks against a key since a message that it signed was last taken.
#[derive(Clone, Debug, Default)]
struct Evidence {
    /// The subscriptions that the key failed for.
    subscriptions: Vec<Fingerprint>,
    until: Option<Instant>,
    in_a_row: u32,
}

/// What an answer against a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    /// The key is right, so the answer speaks of the subscription alone.
    Believed,
    /// It is not known yet.
    Doubted {
        /// Whether this is the first answer against the key since a message was taken.
        first: bool,
    },
    /// The key is suspended.
    Suspended {
        /// For how long.
        left: Duration,
        /// Whether the suspension begins with this answer.
        renewed: bool,
        /// Whether it is the first since a message was taken.
        first: bool,
    },
}

/// Why a key is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// No subscription was made with it.
    Mismatch,
    /// The push service refuses the tokens that it signs.
    Refusal,
}

impl Standing {
    /// Takes a message that the key signed and the service took; tells whether the key was
    /// suspended.
    pub(super) fn prove(&mut self, now: Instant) -> bool {
        let was_suspended = self.mismatches.in_a_row > 0 || self.refusals.in_a_row > 0;
        *self = Self {
            proved: Some(now),
            ..Self::default()
        };
        was_suspended
    }

    /// Takes a subscription that fits no key of the ring.
    pub(super) fn mismatch(&mut self, subscription: Fingerprint, now: Instant) -> Belief {
        if self.proved.is_some() {
            return Belief::Believed;
        }
        self.mismatches.add(subscription, SUBSCRIPTIONS, now)
    }

    /// Takes a subscription for which the service refused a token that the key signed.
    ///
    /// Anybody can choose an endpoint, and some refuse every token. So a few of them say nothing
    /// of a key that the service takes from others.
    pub(super) fn refuse(&mut self, subscription: Fingerprint, now: Instant) -> Belief {
        let belief = self.refusals.add(subscription, REFUSED_REMEMBERED, now);
        if matches!(belief, Belief::Doubted { .. }) && self.is_trusted(now) {
            return Belief::Believed;
        }
        belief
    }

    /// Tells whether a message that the key signed was taken within the last hour.
    pub(super) fn is_trusted(&self, now: Instant) -> bool {
        let proved = self.proved;
        proved.is_some_and(|at| now.saturating_duration_since(at) < TRUST)
    }

    /// Returns how long the key is still suspended, and why.
    #[must_use]
    pub(super) fn suspended(&self, now: Instant) -> Option<(Duration, Cause)> {
        let mismatch = self
            .mismatches
            .left(now)
            .map(|left| (left, Cause::Mismatch));
        let refusal = self.refusals.left(now).map(|left| (left, Cause::Refusal));
        mismatch.max(refusal)
    }
}

impl Evidence {
    /// Adds a subscription, of which at most `limit` are remembered; beyond that each counts as new.
    fn add(&mut self, subscription: Fingerprint, limit: usize, now: Instant) -> Belief {
        if let Some(left) = self.left(now) {
            let (renewed, first) = (false, false);
            return Belief::Suspended {
                left,
                renewed,
                first,
            };
        }
        let first = self.subscriptions.is_empty();
        let is_full = self.subscriptions.len() >= limit;
        let is_new = is_full || !self.subscriptions.contains(&subscription);
        if is_new && !is_full {
            self.subscriptions.push(subscription);
        }
        let is_full = self.subscriptions.len() >= limit;
        if self.subscriptions.len() < SUBSCRIPTIONS || !(is_new || is_full) {
            return Belief::Doubted { first };
        }
        self.suspend(now)
    }

    fn suspend(&mut self, now: Instant) -> Belief {
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

    fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    const DOUBTED: Belief = Belief::Doubted { first: false };

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
    fn the_fifth_distinct_subscription_suspends_a_key() {
        let now = SystemClock.now().mono;
        for (take, cause) in [
            (
                Standing::mismatch as fn(&mut Standing, _, _) -> _,
                Cause::Mismatch,
            ),
            (Standing::refuse, Cause::Refusal),
        ] {
            let mut standing = Standing::default();
            for (n, belief) in [
                (1, Belief::Doubted { first: true }),
                (2, DOUBTED),
                (1, DOUBTED),
                (3, DOUBTED),
                (4, DOUBTED),
                (4, DOUBTED),
                (5, suspended(10, true)),
            ] {
                assert_eq!(take(&mut standing, subscription(n), now), belief, "{n}");
            }
            let left = Some((Duration::from_secs(10), cause));
            assert_eq!(standing.suspended(now), left);
        }
    }

    #[test]
    fn a_key_that_was_proved_fits_and_every_mismatch_is_believed() {
        let now = SystemClock.now().mono;
        let mut standing = Standing::default();
        assert!(!standing.prove(now));
        for n in 1..20 {
            let belief = standing.mismatch(subscription(n), now);
            assert_eq!(belief, Belief::Believed, "{n}");
        }
    }

    #[test]
    fn a_suspension_is_renewed_by_the_next_mismatch_and_ended_by_a_message_taken() {
        let mut now = SystemClock.now().mono;
        let mut standing = Standing::default();
        for n in 1..5 {
            standing.mismatch(subscription(n), now);
        }
        for (nth, seconds) in [10, 20, 40, 80, 160, 320, 640, 900, 900]
            .into_iter()
            .enumerate()
        {
            let belief = standing.mismatch(subscription(9), now);
            assert_eq!(belief, suspended(seconds, nth == 0));
            now += Duration::from_secs(seconds);
            assert_eq!(standing.suspended(now), None);
        }
        assert!(standing.prove(now));
        let next = standing.mismatch(subscription(1), now);
        assert_eq!(next, Belief::Believed);
    }

    #[test]
    fn a_suspension_for_refusals_is_renewed_by_other_subscriptions_alone() {
        let mut now = SystemClock.now().mono;
        let mut standing = Standing::default();
        for n in 1..=5 {
            standing.refuse(subscription(n), now);
        }
        now += Duration::from_secs(10);
        for n in 1..=5 {
            assert_eq!(standing.refuse(subscription(n), now), DOUBTED, "{n}");
        }
        assert_eq!(standing.refuse(subscription(6), now), suspended(20, false));
        assert!(standing.prove(now));
        assert_eq!(standing.suspended(now), None);
    }

    #[test]
    fn few_refusals_say_nothing_of_a_key_that_was_taken_within_the_hour() {
        let start = SystemClock.now().mono;
        for (seconds, belief) in [
            (0, Belief::Believed),
            (3599, Belief::Believed),
            (3600, Belief::Doubted { first: true }),
        ] {
            let mut standing = Standing::default();
            standing.prove(start);
            let now = start + Duration::from_secs(seconds);
            assert_eq!(standing.refuse(subscription(1), now), belief, "{seconds}");
        }
        let mut standing = Standing::default();
        standing.prove(start);
        for n in 1..5 {
            let belief = standing.refuse(subscription(n), start);
            assert_eq!(belief, Belief::Believed, "{n}");
        }
        let fifth = standing.refuse(subscription(5), start);
        assert_eq!(fifth, suspended(10, true), "none was taken since");
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Mismatch(u8),
        Refusal(u8),
        Proof,
        Seconds(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0u8..8).prop_map(Step::Mismatch),
            8 => (0u8..60).prop_map(Step::Refusal),
            1 => Just(Step::Proof),
            3 => (0u64..1200).prop_map(Step::Seconds),
        ]
    }

    proptest! {
        #[test]
        fn no_mismatch_is_believed_without_a_proof_and_every_one_with_it(
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let mut now = SystemClock.now().mono;
            let mut standing = Standing::default();
            let (mut is_proved, mut distinct) = (false, BTreeSet::new());
            let mut refused = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Proof => {
                        standing.prove(now);
                        is_proved = true;
                        refused.clear();
                    }
                    Step::Seconds(seconds) => now += Duration::from_secs(seconds),
                    Step::Mismatch(n) => {
                        distinct.insert(n);
                        let belief = standing.mismatch(subscription(n), now);
                        prop_assert_eq!(belief == Belief::Believed, is_proved);
                        let enough = distinct.len() >= SUBSCRIPTIONS && !is_proved;
                        let stops = matches!(belief, Belief::Suspended { .. });
                        prop_assert_eq!(stops, enough);
                        prop_assert!(standing.mismatches.subscriptions.len() <= SUBSCRIPTIONS);
                    }
                    Step::Refusal(n) => {
                        refused.insert(n);
                        let belief = standing.refuse(subscription(n), now);
                        let stops = matches!(belief, Belief::Suspended { .. });
                        prop_assert!(!stops || refused.len() >= SUBSCRIPTIONS);
                        prop_assert!(belief != Belief::Believed || is_proved);
                        let remembered = standing.refusals.subscriptions.len();
                        prop_assert!(remembered <= REFUSED_REMEMBERED);
                    }
                }
                let left = standing.mismatches.left(now).unwrap_or_default();
                prop_assert!(left <= LONGEST && (left.is_zero() || !is_proved));
                let left = standing.refusals.left(now).unwrap_or_default();
                prop_assert!(left <= LONGEST);
            }
        }
    }
}
