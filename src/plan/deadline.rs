//! Until when a message may be sent, and with which TTL.
//!
//! Why a deadline of our own: the push service counts its TTL from when it takes the message, so
//! whatever time a message spends in queues before that would come on top. Counting from when the
//! message was due, and sending only what is left, keeps the producer's word (examples/README.md, "The event").

use std::time::{Duration, SystemTime};

use crate::message::Ttl;
use crate::outcome::Reason;

/// How long a message with `ttl: 0` may still be sent after it was due.
///
/// Now or never still has to cross a queue and a network.
const GRACE: Duration = Duration::from_secs(30);

/// The last moment at which a message may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The moment itself.
    pub at: SystemTime,
    /// What passes then: `ttl_elapsed` or `expires_at_passed`.
    pub reason: Reason,
    /// The TTL the event has, clamped.
    pub ttl: Ttl,
}

impl Deadline {
    /// Finds the deadline of a message that is due at `due`.
    #[must_use]
    pub fn of(due: SystemTime, ttl: Ttl, expires_at: Option<SystemTime>) -> Self {
        let lifetime = match ttl.seconds() {
            0 => GRACE,
            seconds => Duration::from_secs(seconds.into()),
        };
        let elapsed = due.checked_add(lifetime).unwrap_or(due);
        let (at, reason) = match expires_at {
            Some(expires_at) if expires_at < elapsed => (expires_at, Reason::ExpiresAtPassed),
            _ => (elapsed, Reason::TtlElapsed),
        };
        Self { at, reason, ttl }
    }

    /// Returns what is left at `now`; `None` once the deadline has come.
    #[must_use]
    pub fn left(&self, now: SystemTime) -> Option<Duration> {
        self.at
            .duration_since(now)
            .ok()
            .filter(|left| !left.is_zero())
    }

    /// Returns the TTL to send at `now`: the event's, or what is left if that is less.
    #[must_use]
    pub fn ttl(&self, now: SystemTime) -> Ttl {
        let left = self.left(now).unwrap_or_default();
        self.ttl.min(Ttl::remaining(left))
    }

    /// Returns whether the event has `ttl: 0`: now or never, with one quick retry.
    #[must_use]
    pub fn now_or_never(&self) -> bool {
        self.ttl.seconds() == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_earlier_of_ttl_and_expires_at_counts() {
        for (ttl, expires_at, deadline, reason) in [
            (60, None, 1060, Reason::TtlElapsed),
            (60, Some(1059), 1059, Reason::ExpiresAtPassed),
            (60, Some(1060), 1060, Reason::TtlElapsed),
            (60, Some(9), 9, Reason::ExpiresAtPassed),
            (0, None, 1030, Reason::TtlElapsed),
            (0, Some(1001), 1001, Reason::ExpiresAtPassed),
        ] {
            let found = Deadline::of(at(1000), Ttl::clamped(ttl), expires_at.map(at));
            assert_eq!((found.at, found.reason), (at(deadline), reason));
        }
    }

    #[test]
    fn the_ttl_sent_is_what_is_left_rounded_up() {
        let deadline = Deadline::of(at(1000), Ttl::clamped(60), None);
        let ttl = |now| deadline.ttl(now).seconds();
        assert_eq!(ttl(at(900)), 60);
        assert_eq!(ttl(at(1000)), 60);
        assert_eq!(ttl(at(1000) + Duration::from_millis(1)), 60);
        assert_eq!(ttl(at(1059) + Duration::from_millis(999)), 1);
        assert_eq!(deadline.left(at(1060)), None);
        let never = Deadline::of(at(1000), Ttl::clamped(0), None);
        assert_eq!(never.ttl(at(1001)).seconds(), 0);
        assert!(never.now_or_never() && !deadline.now_or_never());
    }

    proptest! {
        #[test]
        fn no_push_service_keeps_a_message_beyond_its_deadline(
            due in 0..1u64 << 32,
            ttl in 1..100_000_000u64,
            expires_at in prop::option::of(0..1u64 << 33),
            later in 0..3_000_000_000u64,
        ) {
            let deadline = Deadline::of(at(due), Ttl::clamped(ttl), expires_at.map(at));
            let now = at(due) + Duration::from_millis(later);
            if deadline.left(now).is_some() {
                let kept = Duration::from_secs(deadline.ttl(now).seconds().into());
                prop_assert!(now + kept < deadline.at + Duration::from_secs(1));
            }
        }
    }
}
