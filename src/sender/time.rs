//! The time as this machine and the push services show it.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::clock::{Clock, Now};
use crate::origin::{Listing, Origin};

use super::clock_skew::{ClockSkew, ClockSkews};

/// This machine's clock, corrected by what push services show of theirs.
pub(super) struct Time {
    clock: Arc<dyn Clock>,
    skews: ClockSkews,
}

impl Time {
    /// Creates a time that trusts `clock` until push services contradict it.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let skews = ClockSkews::default();
        Self { clock, skews }
    }

    /// Returns what this machine's clock shows.
    pub(super) fn machine(&self) -> Now {
        self.clock.now()
    }

    /// Returns the monotonic time.
    pub(super) fn mono(&self) -> Instant {
        self.clock.now().mono
    }

    /// Returns the time that deadlines go by: the earliest that it may be.
    pub(super) fn now(&self) -> Now {
        let now = self.clock.now();
        let (wall, _latest) = self.skews.bounds(now);
        Now { wall, ..now }
    }

    /// Returns the earliest and the latest time that it may be.
    pub(super) fn bounds(&self) -> (SystemTime, SystemTime) {
        self.skews.bounds(self.clock.now())
    }

    /// Returns the time by the clock of an origin, as far as it is known.
    pub(super) fn at_origin(&self, origin: &Origin) -> Now {
        self.skews.at_origin(origin, self.now())
    }

    /// Records the `Date` of an answer that came when this machine's clock showed `now`. Returns how far
    /// the two are apart, and whether operators should hear of it now.
    pub(super) fn observe(
        &self,
        origin: &Origin,
        listing: Listing,
        date: SystemTime,
        now: Now,
    ) -> (ClockSkew, bool) {
        let skew = self.skews.observe(origin, listing, date, now);
        (skew, listing.is_listed() && self.skews.is_news(skew))
    }
}
