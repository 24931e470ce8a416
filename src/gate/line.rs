//! The order in which deferred recipients come back from the broker.
//!
//! Each comes back when the expected rate will have served those before it. The queue is an estimate: its
//! length is the number of recipients that come back later than now, and it shrinks at the rate. It belongs
//! to one process. Where several daemons consume the same queues, each measures the rate that it serves
//! beside the others, and a recipient may come back to any of them.

use std::time::Duration;

use tokio::time::Instant;

/// The recipients that wait in the broker for one thing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    last: Option<Last>,
    /// How many found the queue too long.
    beyond: u32,
}

/// The last recipient in the queue.
#[derive(Clone, Copy, Debug)]
struct Last {
    back_at: Instant,
    rate: f64,
}

/// Multiples of this number, less their whole part, are spread evenly over 0 to 1.
const GOLDEN: f64 = 0.618_034;

impl Line {
    /// Adds a recipient at the end and returns how long after `start` it comes back.
    ///
    /// The queue moves from `start` on, at `rate` a second. Recipients that would come back later than
    /// `longest` are spread over that time instead, since the rate may have changed by then.
    pub(super) fn join(&mut self, start: Instant, rate: f64, longest: Duration) -> Duration {
        let length = 1.0 + self.length(start);
        let wait = length / rate;
        if wait > longest.as_secs_f64() {
            self.beyond = self.beyond.wrapping_add(1);
            return longest.mul_f64((f64::from(self.beyond) * GOLDEN).fract());
        }
        let wait = Duration::from_secs_f64(wait);
        let back_at = start + wait;
        self.last = Some(Last { back_at, rate });
        wait
    }

    /// Returns whether a recipient comes back later than `now`.
    pub(super) fn is_pending(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| last.back_at > now)
    }

    /// Returns how many come back later than `start`.
    fn length(&self, start: Instant) -> f64 {
        let left =
            |last: Last| last.back_at.saturating_duration_since(start).as_secs_f64() * last.rate;
        self.last.map_or(0.0, left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn each_comes_back_one_interval_after_the_one_before() {
        let (mut line, now) = (Line::default(), SystemClock.now().mono);
        let waits: Vec<_> = (0..4)
            .map(|_| line.join(now, 10.0, LONG).as_millis())
            .collect();
        assert_eq!(waits, [100, 200, 300, 400]);
        let later = now + Duration::from_millis(350);
        assert!(line.is_pending(later));
        assert_eq!(line.join(later, 10.0, LONG).as_millis(), 150);
        assert!(!line.is_pending(later + LONG));
    }

    #[test]
    fn a_line_moves_at_the_rate_that_is_known_last() {
        let (mut line, now) = (Line::default(), SystemClock.now().mono);
        (0..99).for_each(|_| _ = line.join(now, 10.0, LONG));
        assert_eq!(line.join(now, 100.0, LONG).as_millis(), 1000);
        assert_eq!(line.join(now, 10.1, LONG).as_millis(), 10_000);
    }

    #[test]
    fn what_is_beyond_the_longest_line_is_spread_over_it() {
        let (mut line, now) = (Line::default(), SystemClock.now().mono);
        let longest = Duration::from_secs(100);
        let mut waits: Vec<_> = (0..1100).map(|_| line.join(now, 1.0, longest)).collect();
        assert_eq!(waits[99], longest);
        let mut beyond = waits.split_off(100);
        beyond.sort_unstable();
        for (n, wait) in beyond.iter().enumerate() {
            let even = longest.mul_f64(n as f64 / 1000.0);
            assert!(
                wait.abs_diff(even) <= Duration::from_secs(1),
                "{n}: {wait:?}"
            );
        }
    }
}
