//! When to try again, and when to give up.
//!
//! A failed attempt is repeated after a wait that doubles from `base` to `cap`, spread over its
//! upper half so that what failed together does not come back together; never sooner than the push
//! service asked for. The wait happens in the broker. There is an end: a number of attempts, and
//! the message's own lifetime, which no wait may outlast: a message that could only be sent after
//! its deadline is given up now, while somebody may still care. How often and how long is the same
//! for all push services, unless an operator says otherwise for a family of them.
//!
//! What was told the same `Retry-After` comes back at the same time. The origin is paused for that
//! long as well, and is met with a few requests first: the gate spreads what the wait does not.
//!
//! A message with `ttl: 0` means now or never: it gets one quick second attempt.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::origin::Service;
use crate::outcome::{Meaning, Reason, Verdict};

/// How often and how late a failed attempt is repeated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Attempts in all, the first included.
    pub max_attempts: u32,
    /// The wait after the first attempt; it doubles with each further one.
    pub base: Duration,
    /// The longest wait of our own choosing.
    pub cap: Duration,
    /// The longest wait that a push service may ask for.
    pub retry_after_cap: Duration,
}

/// A policy for every family of push services.
#[derive(Clone, Debug, PartialEq)]
pub struct Policies {
    general: Policy,
    own: Vec<(Service, Policy)>,
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It ends, for this reason.
    Final(Reason),
    /// It is tried again after a wait.
    Again(Duration),
}

/// How much life a message has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Until its deadline.
    pub left: Duration,
    /// Why it ends when the deadline passes.
    pub ends_as: Reason,
    /// `ttl: 0`: now or never.
    pub now_or_never: bool,
}

/// The wait before the one quick attempt that `ttl: 0` allows.
const QUICK: Duration = Duration::from_secs(1);

impl Policies {
    /// Creates policies from a general one and those of the families with their own.
    #[must_use]
    pub fn new(general: Policy, own: Vec<(Service, Policy)>) -> Self {
        Self { general, own }
    }

    /// Returns the policy of a family.
    #[must_use]
    pub fn of(&self, service: Service) -> &Policy {
        let own = self.own.iter().find(|(family, _)| *family == service);
        own.map_or(&self.general, |(_, policy)| policy)
    }

    /// Returns the longest wait that any of them allows.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        let own = self.own.iter().map(|(_, policy)| policy);
        own.chain([&self.general])
            .map(|policy| policy.cap.max(policy.retry_after_cap))
            .max()
            .unwrap_or_default()
    }
}

impl From<Policy> for Policies {
    fn from(general: Policy) -> Self {
        Self::new(general, Vec::new())
    }
}

impl Policy {
    /// Decides what follows the `attempt`th attempt (the first is 1).
    ///
    /// `jitter` is a number from 0 to 1. The wait grows with the attempt, stays within half and
    /// the whole of its step, and a service's `Retry-After` is never undercut.
    #[must_use]
    pub fn decide(
        &self,
        verdict: &Verdict,
        attempt: u32,
        lifetime: Lifetime,
        jitter: f64,
    ) -> Decision {
        match verdict.meaning {
            Meaning::Accepted | Meaning::Gone | Meaning::Rejected => {
                return Decision::Final(verdict.reason);
            }
            Meaning::Retryable => {}
        }
        let max_attempts = if lifetime.now_or_never {
            2
        } else {
            self.max_attempts
        };
        if attempt >= max_attempts {
            return Decision::Final(verdict.reason);
        }
        let asked = verdict.after.map(|after| after.min(self.retry_after_cap));
        let own = if lifetime.now_or_never {
            QUICK
        } else {
            self.back_off(attempt, jitter)
        };
        let wait = asked.map_or(own, |asked| asked.max(own.min(self.base)));
        if wait >= lifetime.left {
            return Decision::Final(lifetime.ends_as);
        }
        Decision::Again(wait)
    }

    /// Returns the wait after the `attempt`th attempt: `base` doubled, at most `cap`, between half
    /// of it and all of it.
    #[must_use]
    pub fn back_off(&self, attempt: u32, jitter: f64) -> Duration {
        let step = Backoff::new(self.base, self.cap).wait(attempt.saturating_sub(1));
        step.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Policy {
        max_attempts: 10,
        base: Duration::from_secs(5),
        cap: Duration::from_secs(600),
        retry_after_cap: Duration::from_secs(86_400),
    };

    fn unavailable(after: Option<Duration>) -> Verdict {
        Verdict {
            after,
            ..Verdict::of(Meaning::Retryable, Reason::ServiceUnavailable)
        }
    }

    fn left(seconds: u64) -> Lifetime {
        Lifetime {
            left: Duration::from_secs(seconds),
            ends_as: Reason::TtlElapsed,
            now_or_never: false,
        }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn waits_double_to_the_cap() {
        let waits: Vec<_> = (1..10)
            .map(|attempt| POLICY.decide(&unavailable(None), attempt, left(1 << 30), 1.0))
            .collect();
        let expected = [5, 10, 20, 40, 80, 160, 320, 600, 600].map(|n| Decision::Again(seconds(n)));
        assert_eq!(waits, expected);
        assert_eq!(
            POLICY.decide(&unavailable(None), 10, left(1 << 30), 1.0),
            Decision::Final(Reason::ServiceUnavailable)
        );
    }

    #[test]
    fn a_family_has_its_own_policy_or_the_general_one() {
        let own = Policy {
            max_attempts: 3,
            base: seconds(60),
            ..POLICY
        };
        let policies = Policies::new(POLICY, vec![(Service::Apple, own)]);
        for &service in Service::ALL {
            let policy = policies.of(service);
            let (wait, last) = match service {
                Service::Apple => (60, 3),
                Service::Fcm
                | Service::Mozilla
                | Service::Wns
                | Service::Ntfy
                | Service::NextPush
                | Service::Other => (5, 10),
            };
            assert_eq!(policies.longest_wait(), POLICY.retry_after_cap);
            let decide = |attempt| policy.decide(&unavailable(None), attempt, left(1 << 30), 1.0);
            assert_eq!(decide(1), Decision::Again(seconds(wait)), "{service:?}");
            let end = Decision::Final(Reason::ServiceUnavailable);
            assert_eq!(decide(last), end, "{service:?}");
            assert_ne!(decide(last - 1), end, "{service:?}");
        }
        assert!(
            Service::ALL
                .iter()
                .all(|it| *Policies::from(POLICY).of(*it) == POLICY)
        );
    }

    #[test]
    fn a_service_that_asks_is_never_undercut_and_never_parks_a_message_for_ever() {
        for (asked, wait) in [
            (120, 120),
            (7, 7),
            (0, 5),
            (86_400, 86_400),
            (u64::MAX, 86_400),
        ] {
            assert_eq!(
                POLICY.decide(&unavailable(Some(seconds(asked))), 3, left(1 << 30), 1.0),
                Decision::Again(seconds(wait)),
                "{asked}"
            );
        }
    }

    #[test]
    fn nothing_waits_past_its_deadline() {
        for (asked, left_for, decision) in [
            (120, 121, Decision::Again(seconds(120))),
            (120, 120, Decision::Final(Reason::TtlElapsed)),
            (120, 1, Decision::Final(Reason::TtlElapsed)),
        ] {
            let verdict = unavailable(Some(seconds(asked)));
            assert_eq!(POLICY.decide(&verdict, 1, left(left_for), 0.0), decision);
        }
    }

    #[test]
    fn ttl_0_gets_one_quick_second_attempt() {
        let lifetime = Lifetime {
            now_or_never: true,
            ..left(30)
        };
        assert_eq!(
            POLICY.decide(&unavailable(None), 1, lifetime, 1.0),
            Decision::Again(QUICK)
        );
        assert_eq!(
            POLICY.decide(&unavailable(None), 2, lifetime, 1.0),
            Decision::Final(Reason::ServiceUnavailable)
        );
    }

    #[test]
    fn what_is_final_is_not_repeated() {
        for (meaning, reason) in [
            (Meaning::Accepted, Reason::Accepted),
            (Meaning::Gone, Reason::Unsubscribed),
            (Meaning::Rejected, Reason::BadRequest),
        ] {
            let verdict = Verdict {
                meaning,
                reason,
                ..unavailable(None)
            };
            assert_eq!(
                POLICY.decide(&verdict, 1, left(60), 0.5),
                Decision::Final(reason)
            );
        }
    }

    proptest! {
        #[test]
        fn waits_stay_inside_the_lifetime_and_grow(
            attempt in 1u32..40,
            life in 0u64..10_000_000,
            jitter in 0.0f64..1.0,
            asked in proptest::option::of(0u64..1 << 40),
        ) {
            let verdict = unavailable(asked.map(Duration::from_secs));
            if let Decision::Again(wait) = POLICY.decide(&verdict, attempt, left(life), jitter) {
                prop_assert!(wait < seconds(life));
                prop_assert!(wait <= POLICY.retry_after_cap);
                prop_assert!(attempt < POLICY.max_attempts);
                prop_assert!(wait >= seconds(asked.unwrap_or(0).min(86_400)));
            }
            prop_assert!(POLICY.back_off(attempt, jitter) <= POLICY.back_off(attempt + 1, 1.0));
        }
    }
}
