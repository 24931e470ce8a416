//! What the answers of one push service show of one VAPID key.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::subscription::Fingerprint;

/// How many distinct subscriptions must fail before a key is suspended.
const SUBSCRIPTIONS: usize = 5;

/// How many refused subscriptions are remembered: a suspension is not renewed by one of them, so
/// that a few endpoints that refuse every key do not hold up the others for long.
const REFUSED_REMEMBERED: usize = 32;

/// The first suspension. Each further one without an accepted message between is twice as long.
const FIRST: Duration = Duration::from_secs(10);

/// The longest suspension.
const LONGEST: Duration = Duration::from_secs(900);

/// How long an accepted message outweighs refusals of its key for a few subscriptions.
const TRUST: Duration = Duration::from_secs(3600);

/// What is known of one key at one origin.
#[derive(Clone, Debug, Default)]
pub(in crate::sender) struct KeyState {
    /// When a message that it signed was last accepted.
    accepted_at: Option<Instant>,
    mismatches: Rejections,
    refusals: Rejections,
}

/// The failures of a key since a message that it signed was last accepted.
#[derive(Clone, Debug, Default)]
struct Rejections {
    /// The subscriptions that the key failed for.
    subscriptions: Vec<Fingerprint>,
    until: Option<Instant>,
    in_a_row: u32,
}

/// What an answer against a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum KeyJudgement {
    /// The key is right, so the answer concerns the subscription alone.
    Subscription,
    /// It is not known yet.
    Undecided {
        /// Whether this is the first answer against the key since a message was accepted.
        first: bool,
    },
    /// The key is suspended.
    Suspended {
        /// For how long.
        left: Duration,
        /// Whether the suspension begins with this answer.
        renewed: bool,
        /// Whether it is the first since a message was accepted.
        first: bool,
    },
}

/// Why a key is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sender) enum SuspensionCause {
    /// No subscription was made with it.
    Mismatch,
    /// The push service refuses the tokens that it signs.
    Refusal,
}

impl KeyState {
    /// Records that the service accepted a message that the key signed. Returns whether the key was
    /// suspended.
    pub(in crate::sender) fn accept(&mut self, now: Instant) -> bool {
        let was_suspended = self.mismatches.in_a_row > 0 || self.refusals.in_a_row > 0;
        *self = Self {
            accepted_at: Some(now),
            ..Self::default()
        };
        was_suspended
    }

    /// Records a subscription that no key of the ring matches.
    pub(in crate::sender) fn mismatch(
        &mut self,
        subscription: Fingerprint,
        now: Instant,
    ) -> KeyJudgement {
        if self.accepted_at.is_some() {
            return KeyJudgement::Subscription;
        }
        self.mismatches.add(subscription, SUBSCRIPTIONS, now)
    }

    /// Records a subscription for which the service refused a token that the key signed.
    ///
    /// Anybody can choose an endpoint, and some refuse every token. So a few of them prove nothing
    /// against a key that the service accepts for others.
    pub(in crate::sender) fn refuse(
        &mut self,
        subscription: Fingerprint,
        now: Instant,
    ) -> KeyJudgement {
        let belief = self.refusals.add(subscription, REFUSED_REMEMBERED, now);
        if matches!(belief, KeyJudgement::Undecided { .. }) && self.is_recently_accepted(now) {
            return KeyJudgement::Subscription;
        }
        belief
    }

    /// Returns whether a message that the key signed was accepted within the last hour.
    pub(in crate::sender) fn is_recently_accepted(&self, now: Instant) -> bool {
        let accepted_at = self.accepted_at;
        accepted_at.is_some_and(|at| now.saturating_duration_since(at) < TRUST)
    }

    /// Returns how long the key is still suspended, and why.
    #[must_use]
    pub(in crate::sender) fn suspended(&self, now: Instant) -> Option<(Duration, SuspensionCause)> {
        let mismatch = self
            .mismatches
            .left(now)
            .map(|left| (left, SuspensionCause::Mismatch));
        let refusal = self
            .refusals
            .left(now)
            .map(|left| (left, SuspensionCause::Refusal));
        mismatch.max(refusal)
    }
}

impl Rejections {
    /// Adds a subscription, of which at most `limit` are remembered; beyond that each counts as new.
    fn add(&mut self, subscription: Fingerprint, limit: usize, now: Instant) -> KeyJudgement {
        if let Some(left) = self.left(now) {
            let (renewed, first) = (false, false);
            return KeyJudgement::Suspended {
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
            return KeyJudgement::Undecided { first };
        }
        self.suspend(now)
    }

    fn suspend(&mut self, now: Instant) -> KeyJudgement {
        let left = Backoff::new(FIRST, LONGEST).wait(self.in_a_row);
        let first = self.in_a_row == 0;
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.until = Some(now + left);
        KeyJudgement::Suspended {
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

    const UNDECIDED: KeyJudgement = KeyJudgement::Undecided { first: false };

    fn subscription(n: u8) -> Fingerprint {
        Fingerprint::of(&format!("https://push.example.net/{n}"))
    }

    fn suspended(seconds: u64, first: bool) -> KeyJudgement {
        KeyJudgement::Suspended {
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
                KeyState::mismatch as fn(&mut KeyState, _, _) -> _,
                SuspensionCause::Mismatch,
            ),
            (KeyState::refuse, SuspensionCause::Refusal),
        ] {
            let mut state = KeyState::default();
            for (n, belief) in [
                (1, KeyJudgement::Undecided { first: true }),
                (2, UNDECIDED),
                (1, UNDECIDED),
                (3, UNDECIDED),
                (4, UNDECIDED),
                (4, UNDECIDED),
                (5, suspended(10, true)),
            ] {
                assert_eq!(take(&mut state, subscription(n), now), belief, "{n}");
            }
            let left = Some((Duration::from_secs(10), cause));
            assert_eq!(state.suspended(now), left);
        }
    }

    #[test]
    fn a_key_that_was_proved_fits_and_every_mismatch_is_believed() {
        let now = SystemClock.now().mono;
        let mut state = KeyState::default();
        assert!(!state.accept(now));
        for n in 1..20 {
            let belief = state.mismatch(subscription(n), now);
            assert_eq!(belief, KeyJudgement::Subscription, "{n}");
        }
    }

    #[test]
    fn a_suspension_is_renewed_by_the_next_mismatch_and_ended_by_a_message_taken() {
        let mut now = SystemClock.now().mono;
        let mut state = KeyState::default();
        for n in 1..5 {
            state.mismatch(subscription(n), now);
        }
        for (nth, seconds) in [10, 20, 40, 80, 160, 320, 640, 900, 900]
            .into_iter()
            .enumerate()
        {
            let belief = state.mismatch(subscription(9), now);
            assert_eq!(belief, suspended(seconds, nth == 0));
            now += Duration::from_secs(seconds);
            assert_eq!(state.suspended(now), None);
        }
        assert!(state.accept(now));
        let next = state.mismatch(subscription(1), now);
        assert_eq!(next, KeyJudgement::Subscription);
    }

    #[test]
    fn a_suspension_for_refusals_is_renewed_by_other_subscriptions_alone() {
        let mut now = SystemClock.now().mono;
        let mut state = KeyState::default();
        for n in 1..=5 {
            state.refuse(subscription(n), now);
        }
        now += Duration::from_secs(10);
        for n in 1..=5 {
            assert_eq!(state.refuse(subscription(n), now), UNDECIDED, "{n}");
        }
        assert_eq!(state.refuse(subscription(6), now), suspended(20, false));
        assert!(state.accept(now));
        assert_eq!(state.suspended(now), None);
    }

    #[test]
    fn few_refusals_say_nothing_of_a_key_that_was_taken_within_the_hour() {
        let start = SystemClock.now().mono;
        for (seconds, belief) in [
            (0, KeyJudgement::Subscription),
            (3599, KeyJudgement::Subscription),
            (3600, KeyJudgement::Undecided { first: true }),
        ] {
            let mut state = KeyState::default();
            state.accept(start);
            let now = start + Duration::from_secs(seconds);
            assert_eq!(state.refuse(subscription(1), now), belief, "{seconds}");
        }
        let mut state = KeyState::default();
        state.accept(start);
        for n in 1..5 {
            let belief = state.refuse(subscription(n), start);
            assert_eq!(belief, KeyJudgement::Subscription, "{n}");
        }
        let fifth = state.refuse(subscription(5), start);
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
            let mut state = KeyState::default();
            let (mut is_proved, mut distinct) = (false, BTreeSet::new());
            let mut refused = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Proof => {
                        state.accept(now);
                        is_proved = true;
                        refused.clear();
                    }
                    Step::Seconds(seconds) => now += Duration::from_secs(seconds),
                    Step::Mismatch(n) => {
                        distinct.insert(n);
                        let belief = state.mismatch(subscription(n), now);
                        prop_assert_eq!(belief == KeyJudgement::Subscription, is_proved);
                        let enough = distinct.len() >= SUBSCRIPTIONS && !is_proved;
                        let stops = matches!(belief, KeyJudgement::Suspended { .. });
                        prop_assert_eq!(stops, enough);
                        prop_assert!(state.mismatches.subscriptions.len() <= SUBSCRIPTIONS);
                    }
                    Step::Refusal(n) => {
                        refused.insert(n);
                        let belief = state.refuse(subscription(n), now);
                        let stops = matches!(belief, KeyJudgement::Suspended { .. });
                        prop_assert!(!stops || refused.len() >= SUBSCRIPTIONS);
                        prop_assert!(belief != KeyJudgement::Subscription || is_proved);
                        let remembered = state.refusals.subscriptions.len();
                        prop_assert!(remembered <= REFUSED_REMEMBERED);
                    }
                }
                let left = state.mismatches.left(now).unwrap_or_default();
                prop_assert!(left <= LONGEST && (left.is_zero() || !is_proved));
                let left = state.refusals.left(now).unwrap_or_default();
                prop_assert!(left <= LONGEST);
            }
        }
    }
}
