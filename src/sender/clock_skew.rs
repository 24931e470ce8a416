//! The difference between this machine's clock and the clocks of push services.
//!
//! Why: a VAPID token has an end, and the push service compares it with its own clock. Every answer shows
//! that clock (`Date`, RFC 9110 §6.6.1). Where it disagrees with a wall clock that is wrong or was just
//! set, tokens for that origin go by the service's time, carried on by the monotonic clock, which cannot be
//! set. A token is valid at one origin only, so an origin with a false clock harms only itself.
//!
//! Deadlines and schedules concern every origin and go by this machine's clock. Where two listed push
//! services agree with each other and disagree with this machine, a message expires only if both clocks say
//! so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock::Now;
use crate::origin::{Listing, Origin};

/// How far two clocks may be apart before it matters (classify/README.md §5).
pub(super) const TOLERANCE: Duration = Duration::from_secs(300);

/// How many disagreeing origins are remembered. Anybody can choose an origin.
const ORIGIN_LIMIT: u64 = 1000;

/// How many disagreeing listed origins are compared with each other.
const CONTRADICTING_LIMIT: usize = 4;

/// How far this machine's wall clock is from a push service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockSkew {
    /// This machine is ahead.
    Ahead(Duration),
    /// This machine is behind.
    Behind(Duration),
}

impl ClockSkew {
    /// Compares this machine's time with a service's.
    #[must_use]
    pub(super) fn between(here: SystemTime, there: SystemTime) -> Self {
        match here.duration_since(there) {
            Ok(ahead) => Self::Ahead(ahead),
            Err(behind) => Self::Behind(behind.duration()),
        }
    }

    /// Returns the absolute difference.
    #[must_use]
    pub(super) fn distance(self) -> Duration {
        match self {
            Self::Ahead(by) | Self::Behind(by) => by,
        }
    }

    /// Returns whole seconds, negative if this machine is behind.
    #[must_use]
    pub(super) fn seconds(self) -> i64 {
        let whole = |by: Duration| i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        match self {
            Self::Ahead(by) => whole(by),
            Self::Behind(by) => -whole(by),
        }
    }
}

/// The origins whose clocks disagree with this machine's.
#[derive(Debug)]
pub(super) struct ClockSkews {
    samples: Cache<Origin, Sample>,
    /// Listed origins that have disagreed since one last agreed, the newest sample last.
    contradicting: Mutex<Vec<(Origin, Sample)>>,
    /// Whether `contradicting` has entries.
    contradicted: AtomicBool,
    warned: AtomicBool,
}

/// What an origin's clock showed, and when.
#[derive(Clone, Copy, Debug)]
struct Sample {
    date: SystemTime,
    at: Instant,
}

impl Default for ClockSkews {
    fn default() -> Self {
        Self {
            samples: Cache::new(ORIGIN_LIMIT),
            contradicting: Mutex::default(),
            contradicted: AtomicBool::new(false),
            warned: AtomicBool::new(false),
        }
    }
}

impl Sample {
    /// Returns what the origin's clock shows at `now`.
    fn carried_on(self, now: Instant) -> Option<SystemTime> {
        let since = now.saturating_duration_since(self.at);
        self.date.checked_add(since)
    }
}

impl ClockSkews {
    /// Records the `Date` of an answer that came at `now` by this machine's clocks. Returns the skew.
    pub(super) fn observe(
        &self,
        origin: &Origin,
        listing: Listing,
        date: SystemTime,
        now: Now,
    ) -> ClockSkew {
        let skew = ClockSkew::between(now.wall, date);
        if skew.distance() > TOLERANCE {
            let at = now.mono;
            let sample = Sample { date, at };
            self.samples.insert(origin.clone(), sample);
            if listing.is_listed() {
                self.contradict(origin, sample);
            }
            return skew;
        }
        if self.samples.contains_key(origin) {
            self.samples.invalidate(origin);
        }
        if listing.is_listed() && self.contradicted.swap(false, Ordering::Relaxed) {
            self.contradicting.lock().clear();
        }
        skew
    }

    fn contradict(&self, origin: &Origin, sample: Sample) {
        let mut contradicting = self.contradicting.lock();
        contradicting.retain(|(other, _)| other != origin);
        if contradicting.len() == CONTRADICTING_LIMIT {
            contradicting.remove(0);
        }
        contradicting.push((origin.clone(), sample));
        self.contradicted.store(true, Ordering::Relaxed);
    }

    /// Returns the earliest and the latest time that it may be at `now`: what this machine's clock
    /// shows, and what two listed origins agree on where none agrees with this machine.
    #[must_use]
    pub(super) fn bounds(&self, now: Now) -> (SystemTime, SystemTime) {
        let agreed = self.agreed(now.mono).unwrap_or(now.wall);
        (now.wall.min(agreed), now.wall.max(agreed))
    }

    /// Returns the newest time that two listed origins agree on.
    fn agreed(&self, now: Instant) -> Option<SystemTime> {
        if !self.contradicted.load(Ordering::Relaxed) {
            return None;
        }
        let contradicting = self.contradicting.lock();
        let carried_on = |(_, sample): &(Origin, Sample)| sample.carried_on(now);
        let times: Vec<_> = contradicting.iter().rev().filter_map(carried_on).collect();
        let mut numbered = times.iter().enumerate();
        let agreed = numbered.find(|(n, time)| {
            let mut others = times.iter().skip(n + 1);
            others.any(|other| ClockSkew::between(**time, *other).distance() <= TOLERANCE)
        });
        agreed.map(|(_, time)| *time)
    }

    /// Returns the time at the origin when this machine's clocks show `now`.
    #[must_use]
    pub(super) fn at_origin(&self, origin: &Origin, now: Now) -> Now {
        let there = self.samples.get(origin);
        let there = there.and_then(|sample| sample.carried_on(now.mono));
        Now {
            wall: there.unwrap_or(now.wall),
            ..now
        }
    }

    /// Returns whether operators should hear of a skew now: once, until the clock was right again.
    pub(super) fn is_news(&self, skew: ClockSkew) -> bool {
        let wrong = skew.distance() > TOLERANCE;
        wrong != self.warned.swap(wrong, Ordering::Relaxed) && wrong
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::clock::{Clock, FixedClock};

    const LISTED: Listing = Listing::Listed;

    fn origin(host: &str) -> Origin {
        Origin::of(&Url::parse(&format!("https://{host}/")).unwrap())
    }

    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn a_clock_that_is_nearly_right_is_this_machines() {
        let (skews, clock) = (ClockSkews::default(), FixedClock::at(noon()));
        let service = origin("a");
        for seconds in [0, 1, 300] {
            let date = noon() - Duration::from_secs(seconds);
            let skew = skews.observe(&service, LISTED, date, clock.now());
            assert_eq!(skew.seconds(), i64::try_from(seconds).unwrap());
            assert_eq!(skews.at_origin(&service, clock.now()).wall, noon());
        }
    }

    #[test]
    fn a_service_that_disagrees_is_told_its_own_time_wherever_the_wall_clock_goes() {
        let hours = Duration::from_hours;
        for date in [noon() - hours(30), noon() + hours(30)] {
            let (skews, clock) = (ClockSkews::default(), FixedClock::at(noon()));
            skews.observe(&origin("a"), LISTED, date, clock.now());
            clock.advance(hours(1));
            clock.jump(noon() + hours(100));
            assert_eq!(
                skews.at_origin(&origin("a"), clock.now()).wall,
                date + hours(1)
            );
            let other = skews.at_origin(&origin("b"), clock.now()).wall;
            assert_eq!(other, noon() + hours(100), "another origin's word");
            clock.jump(date + hours(1));
            skews.observe(&origin("a"), LISTED, date + hours(1), clock.now());
            clock.advance(hours(1));
            let right = clock.now().wall;
            assert_eq!(skews.at_origin(&origin("a"), clock.now()).wall, right);
        }
    }

    #[test]
    fn two_listed_origins_that_agree_bound_the_time_until_one_agrees_with_this_machine() {
        let hours = Duration::from_hours;
        for there in [noon() - hours(48), noon() + hours(48)] {
            let (skews, clock) = (ClockSkews::default(), FixedClock::at(noon()));
            let bounds = || skews.bounds(clock.now());
            let both = |here: SystemTime, there| (here.min(there), here.max(there));
            let observe = |host, listed, date| {
                skews.observe(&origin(host), Listing::of(listed), date, clock.now());
            };
            observe("a", true, there);
            observe("a", true, there);
            observe("unlisted", false, there);
            observe("b", true, there + hours(1));
            assert_eq!(bounds(), both(noon(), noon()), "no two of them agree");
            observe("c", true, there + TOLERANCE);
            assert_eq!(bounds(), both(noon(), there + TOLERANCE));
            clock.advance(hours(1));
            clock.jump(noon() + hours(500));
            let there_now = there + TOLERANCE + hours(1);
            assert_eq!(bounds(), both(noon() + hours(500), there_now));
            observe("d", true, noon() + hours(500));
            assert_eq!(bounds(), both(noon() + hours(500), noon() + hours(500)));
        }
    }

    #[test]
    fn a_drift_is_news_once_until_the_clock_was_right_again() {
        let skews = ClockSkews::default();
        let hour = Duration::from_hours(1);
        for (skew, news) in [
            (ClockSkew::Ahead(Duration::ZERO), false),
            (ClockSkew::Ahead(hour), true),
            (ClockSkew::Behind(hour), false),
            (ClockSkew::Behind(TOLERANCE), false),
            (ClockSkew::Behind(hour), true),
        ] {
            assert_eq!(skews.is_news(skew), news, "{skew:?}");
        }
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let (skews, clock) = (ClockSkews::default(), FixedClock::at(noon()));
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX.unsigned_abs());
        skews.observe(&origin("a"), LISTED, date, clock.now());
        clock.advance(Duration::from_secs(1));
        let there_now = skews.at_origin(&origin("a"), clock.now()).wall;
        assert_eq!(there_now, noon() + Duration::from_secs(1));
    }
}
