//! Until when a message may be sent, and with which TTL.

use std::time::{Duration, SystemTime};

use crate::message::Ttl;
use crate::outcome::Reason;

/// The last moment at which a message may be sent (contract.md §2).
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
    /// Returns what is left at `now`; `None` once the deadline has passed.
    #[must_use]
    pub fn left(&self, now: SystemTime) -> Option<Duration> {
        self.at.duration_since(now).ok()
    }

    /// Returns the TTL to send at `now`: the event's, or what is left if that is less.
    #[must_use]
    pub fn ttl(&self, now: SystemTime) -> Ttl {
        self.ttl
            .min(Ttl::remaining(self.left(now).unwrap_or_default()))
    }

    /// Tells whether the event has `ttl: 0`: now or never, with one quick retry.
    #[must_use]
    pub fn now_or_never(&self) -> bool {
        self.ttl.seconds() == 0
    }
}
