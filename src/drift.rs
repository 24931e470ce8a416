//! What time it is where a token is looked at.
//!
//! A VAPID token says until when it is good, and the push service compares that with its own clock.
//! Every answer shows that clock (`Date`, RFC 9110 §6.6.1), so a machine whose wall clock is wrong,
//! or was just set, need not guess: where the two disagree, the service's time counts, carried on
//! by the monotonic clock, which nobody sets. A token speaks to one origin alone, so an origin that
//! lies about the time harms nobody but itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use moka::sync::Cache;
use tokio::time::Instant;

use crate::clock::Now;
use crate::origin::Origin;

/// How far two clocks may be apart before it matters (push-services.md §5).
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// How many origins with another time are remembered; strangers choose them.
const ORIGIN_LIMIT: u64 = 1000;

/// How far this machine's wall clock is from a push service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drift {
    /// This machine is ahead.
    Ahead(Duration),
    /// This machine is behind.
    Behind(Duration),
}

impl Drift {
    /// Compares this machine's time with a service's.
    #[must_use]
    pub fn between(here: SystemTime, there: SystemTime) -> Self {
        match here.duration_since(there) {
            Ok(ahead) => Self::Ahead(ahead),
            Err(behind) => Self::Behind(behind.duration()),
        }
    }

    /// Returns how far, whichever way.
    #[must_use]
    pub fn distance(self) -> Duration {
        match self {
            Self::Ahead(by) | Self::Behind(by) => by,
        }
    }

    /// Returns whole seconds, negative if this machine is behind.
    #[must_use]
    pub fn seconds(self) -> i64 {
        let whole = |by: Duration| i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        match self {
            Self::Ahead(by) => whole(by),
            Self::Behind(by) => -whole(by),
        }
    }
}

/// The origins whose clocks disagree with this machine's.
#[derive(Debug)]
pub struct Drifts {
    samples: Cache<Origin, Sample>,
    warned: AtomicBool,
}

/// What an origin's clock showed, and when.
#[derive(Clone, Copy, Debug)]
struct Sample {
    date: SystemTime,
    at: Instant,
}

impl Default for Drifts {
    fn default() -> Self {
        Self {
            samples: Cache::new(ORIGIN_LIMIT),
            warned: AtomicBool::new(false),
        }
    }
}

impl Drifts {
    /// Takes the `Date` of an answer that came at `now`; returns how far this machine is from it.
    pub fn observe(&self, origin: &Origin, date: SystemTime, now: Now) -> Drift {
        let drift = Drift::between(now.wall, date);
        if drift.distance() > TOLERANCE {
            let at = now.mono;
            self.samples.insert(origin.clone(), Sample { date, at });
        } else if self.samples.contains_key(origin) {
            self.samples.invalidate(origin);
        }
        drift
    }

    /// Returns `now` as the origin would tell it.
    #[must_use]
    pub fn told(&self, origin: &Origin, now: Now) -> Now {
        let told = self.samples.get(origin).and_then(|sample| {
            let since = now.mono.saturating_duration_since(sample.at);
            sample.date.checked_add(since)
        });
        Now {
            wall: told.unwrap_or(now.wall),
            ..now
        }
    }

    /// Tells whether an operator should hear of a drift now: once, until the clock was right again.
    pub fn is_news(&self, drift: Drift) -> bool {
        let wrong = drift.distance() > TOLERANCE;
        wrong != self.warned.swap(wrong, Ordering::Relaxed) && wrong
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::clock::{Clock, FixedClock};

    fn origin(host: &str) -> Origin {
        Origin::of(&Url::parse(&format!("https://{host}/")).unwrap())
    }

    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn a_clock_that_is_nearly_right_is_this_machines() {
        let (drifts, clock) = (Drifts::default(), FixedClock::at(noon()));
        let service = origin("a");
        for seconds in [0, 1, 300] {
            let date = noon() - Duration::from_secs(seconds);
            let drift = drifts.observe(&service, date, clock.now());
            assert_eq!(drift.seconds(), i64::try_from(seconds).unwrap());
            assert_eq!(drifts.told(&service, clock.now()).wall, noon());
        }
    }

    #[test]
    fn a_service_that_disagrees_is_told_its_own_time_wherever_the_wall_clock_goes() {
        let hours = Duration::from_hours;
        for date in [noon() - hours(30), noon() + hours(30)] {
            let (drifts, clock) = (Drifts::default(), FixedClock::at(noon()));
            drifts.observe(&origin("a"), date, clock.now());
            clock.advance(hours(1));
            clock.jump(noon() + hours(100));
            assert_eq!(drifts.told(&origin("a"), clock.now()).wall, date + hours(1));
            let other = drifts.told(&origin("b"), clock.now()).wall;
            assert_eq!(other, noon() + hours(100), "another origin's word");
            clock.jump(date + hours(1));
            drifts.observe(&origin("a"), date + hours(1), clock.now());
            clock.advance(hours(1));
            let right = clock.now().wall;
            assert_eq!(drifts.told(&origin("a"), clock.now()).wall, right);
        }
    }

    #[test]
    fn a_drift_is_news_once_until_the_clock_was_right_again() {
        let drifts = Drifts::default();
        let hour = Duration::from_hours(1);
        for (drift, news) in [
            (Drift::Ahead(Duration::ZERO), false),
            (Drift::Ahead(hour), true),
            (Drift::Behind(hour), false),
            (Drift::Behind(TOLERANCE), false),
            (Drift::Behind(hour), true),
        ] {
            assert_eq!(drifts.is_news(drift), news, "{drift:?}");
        }
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let (drifts, clock) = (Drifts::default(), FixedClock::at(noon()));
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX.unsigned_abs());
        drifts.observe(&origin("a"), date, clock.now());
        clock.advance(Duration::from_secs(1));
        let told = drifts.told(&origin("a"), clock.now()).wall;
        assert_eq!(told, noon() + Duration::from_secs(1));
    }
}
