//! How many requests a second go to an origin with one key, where an operator says so.
//!
//! Push services do not publish their quotas, and a 429 costs an attempt and a pause. An operator who knows a
//! quota states it. Requests are then spaced evenly: a tenth of a second's worth may come at once, the others
//! wait for their turn, which is reserved when they ask.
//!
//! A request whose turn is too far off to wait for in memory goes to the broker: each comes back one interval
//! after the one before, so that they return at the rate at which they may be sent, in the order in which
//! they left. The queue is an estimate. A request that finds its turn taken queues again, and after a while
//! without requests there is no queue. While there is one, a turn that is not free at once belongs to the
//! requests that come back, not to new ones.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// Requests a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(NonZeroU32);

/// What one key has sent to one origin lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// The first turn that is not taken.
    next: Option<Instant>,
    /// When the last request that waits in the broker comes back.
    line: Option<Instant>,
}

/// The longest wait for a turn.
const LINE: Duration = Duration::from_secs(3600);

/// A bucket that was at rest for so long has no line.
const AT_REST: Duration = Duration::from_secs(1);

impl Rate {
    /// Creates a rate of so many requests a second.
    #[must_use]
    pub fn per_second(requests: NonZeroU32) -> Self {
        Self(requests)
    }

    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.0.get()
    }

    /// How far behind the clock the turns may begin: a tenth of a second's worth may come at once.
    fn slack(self) -> Duration {
        self.interval() * (self.0.get() / 10).saturating_sub(1)
    }
}

impl Bucket {
    /// Takes the next turn and returns the wait for it, at most `patience`. An error is how long to
    /// wait before asking again. `is_new` tells that the recipient asks for the first time.
    pub(super) fn take(
        &mut self,
        rate: Rate,
        patience: Duration,
        is_new: bool,
        now: Instant,
    ) -> Result<Duration, Duration> {
        if self.is_at_rest(now) {
            self.line = None;
        }
        let is_behind = is_new && self.line.is_some_and(|line| line > now);
        let patience = if is_behind { Duration::ZERO } else { patience };
        let earliest = now.checked_sub(rate.slack()).unwrap_or(now);
        let turn = self.next.map_or(earliest, |next| next.max(earliest));
        let wait = turn.saturating_duration_since(now);
        if wait <= patience {
            self.next = Some(turn + rate.interval());
            return Ok(wait);
        }
        let last = self.line.map_or(turn, |line| line.max(turn));
        let back = (last + rate.interval()).min(now + LINE);
        self.line = Some(back);
        Err(back - now)
    }

    /// Gives a turn back that was not used.
    pub(super) fn give_back(&mut self, rate: Rate) {
        self.next = self.next.and_then(|next| next.checked_sub(rate.interval()));
    }

    /// Returns whether nothing is lost by forgetting it.
    pub(super) fn is_at_rest(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next + AT_REST <= now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(requests: u32) -> Rate {
        Rate::per_second(NonZeroU32::new(requests).unwrap())
    }

    fn milliseconds(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_tenth_of_a_second_s_worth_comes_at_once_and_the_rest_in_turn() {
        for (requests, at_once) in [(1, 1), (5, 1), (20, 2), (100, 10)] {
            let (mut bucket, now) = (Bucket::default(), SystemClock.now().mono);
            let rate = rate(requests);
            let waits = (0..).map_while(|_| bucket.take(rate, SECOND, true, now).ok());
            let waits: Vec<_> = waits.collect();
            let none = waits.iter().filter(|wait| wait.is_zero()).count();
            assert_eq!(none, at_once, "{requests}/s");
            // As many as have their turn within the second, besides those that go at once.
            assert_eq!(waits.len(), at_once + requests as usize, "{requests}/s");
            assert_eq!(waits.last(), Some(&SECOND));
        }
    }

    #[test]
    fn who_is_too_late_comes_back_in_line_at_the_same_rate() {
        let (mut bucket, now) = (Bucket::default(), SystemClock.now().mono);
        let mut take = |at| bucket.take(rate(10), milliseconds(200), false, at);
        for wait in [0, 100, 200] {
            assert_eq!(take(now), Ok(milliseconds(wait)));
        }
        for wait in [400, 500, 600, 700] {
            assert_eq!(take(now), Err(milliseconds(wait)));
        }
        let later = now + milliseconds(400);
        assert_eq!(take(later), Ok(Duration::ZERO), "as it was actual");
        assert_eq!(take(now + milliseconds(500)), Ok(Duration::ZERO));
    }

    #[test]
    fn the_line_ends_at_its_cap_and_with_rest() {
        let (mut bucket, now) = (Bucket::default(), SystemClock.now().mono);
        let mut last = Duration::ZERO;
        for _ in 0..5000 {
            last = bucket
                .take(rate(1), Duration::ZERO, true, now)
                .err()
                .unwrap_or(last);
        }
        assert_eq!(last, LINE);
        let much_later = now + SECOND * 10;
        assert_eq!(
            bucket.take(rate(1), Duration::ZERO, true, much_later),
            Ok(Duration::ZERO)
        );
        let waits = bucket.take(rate(1), Duration::ZERO, true, much_later);
        assert_eq!(waits, Err(SECOND * 2), "nobody is in line");
    }

    #[test]
    fn new_requests_do_not_take_the_turns_of_those_that_come_back() {
        let (mut bucket, now) = (Bucket::default(), SystemClock.now().mono);
        let take = |bucket: &mut Bucket, is_new, at| bucket.take(rate(1), SECOND, is_new, at);
        assert_eq!(take(&mut bucket, true, now), Ok(Duration::ZERO));
        assert_eq!(take(&mut bucket, true, now), Ok(SECOND));
        assert_eq!(take(&mut bucket, true, now), Err(SECOND * 3));
        let later = now + SECOND;
        assert_eq!(
            take(&mut bucket, true, later),
            Err(SECOND * 3),
            "at the end of the line"
        );
        assert_eq!(take(&mut bucket, false, later), Ok(SECOND));
    }

    #[test]
    fn a_turn_that_was_not_used_is_another_s() {
        let (mut bucket, now) = (Bucket::default(), SystemClock.now().mono);
        let take = |bucket: &mut Bucket| bucket.take(rate(1), Duration::ZERO, true, now);
        assert!(take(&mut bucket).is_ok());
        assert!(take(&mut bucket).is_err());
        bucket.give_back(rate(1));
        assert!(take(&mut bucket).is_ok());
    }

    proptest! {
        /// However requests come: from any moment to any other, no more go out than the time
        /// between is worth, and what may come at once.
        #[test]
        fn the_rate_is_kept(
            requests in 1u32..200,
            patience in 0u64..1000,
            steps in proptest::collection::vec((0u64..50, any::<bool>()), 1..300),
        ) {
            let (mut bucket, start) = (Bucket::default(), SystemClock.now().mono);
            let mut now = start;
            let mut sent = Vec::new();
            for (step, is_new) in steps {
                now += milliseconds(step);
                if let Ok(wait) = bucket.take(rate(requests), milliseconds(patience), is_new, now) {
                    prop_assert!(wait <= milliseconds(patience));
                    sent.push(now + wait);
                }
            }
            for (first, from) in sent.iter().enumerate() {
                for (last, to) in sent.iter().enumerate().skip(first) {
                    let worth = (*to - *from).as_secs_f64() * f64::from(requests);
                    let at_once = f64::from((requests / 10).max(1));
                    prop_assert!((last - first) as f64 <= worth + at_once + 0.001);
                }
            }
        }
    }
}
