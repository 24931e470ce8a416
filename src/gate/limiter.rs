//! How many requests one origin gets at once.
//!
//! How much a push service serves at once is not known, and changes. So the limit follows its answers:
//! every success that made use of the limit raises it by a little, a throttle or a time-out halves it. What was under way
//! together fails together and counts once, or one bad second would bring the limit from hundreds
//! to one. Until it has been halved for the first time, and below what the origin served before an open
//! breaker or a pause, the limit grows by one with every success, which doubles it in one round
//! trip: an unlisted host starts small, and is soon as fast as it can be.

use tokio::time::Instant;

/// The limit of one origin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limiter {
    limit: f64,
    /// Below this, growth is quick.
    known_good: f64,
    most: f64,
    cut_at: Option<Instant>,
}

/// What a success adds where the limit has been too high before: a time-out in a thousand requests
/// leaves room for hundreds at once.
const GROWTH: f64 = 0.1;

/// The highest limit with which requests to an origin begin again after it was left alone.
const AFRESH: f64 = 4.0;

impl Limiter {
    /// Creates a limit that starts at `start` and stays from 1 to `most`.
    pub(super) fn new(start: usize, most: usize) -> Self {
        let most = as_limit(most);
        Self {
            limit: as_limit(start).min(most),
            known_good: most,
            most,
            cut_at: None,
        }
    }

    /// Returns how many requests may be under way.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 1 to a u32"
    )]
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Changes the maximum. A limit that was at the former maximum moves to the new one.
    pub(super) fn set_most(&mut self, most: usize) {
        let (former, most) = (self.most, as_limit(most));
        let follow = |limit: f64| {
            if limit < former {
                limit.min(most)
            } else {
                most
            }
        };
        self.limit = follow(self.limit);
        self.known_good = follow(self.known_good);
        self.most = most;
    }

    /// Raises the limit after a success while `in_flight` requests were under way.
    pub(super) fn succeeded(&mut self, in_flight: usize) {
        // It is not known whether the origin serves more than the requests under way.
        if as_limit(in_flight) * 2.0 < self.limit {
            return;
        }
        let step = if self.limit < self.known_good {
            1.0
        } else {
            GROWTH
        };
        self.limit = (self.limit + step).min(self.most);
    }

    /// Lowers the limit after a throttle or time-out of a request that began at `since`.
    pub(super) fn overloaded(&mut self, since: Instant, now: Instant) {
        if self.cut(self.limit / 2.0, since, now) {
            self.known_good = self.limit;
        }
    }

    /// Lowers the limit to `observed`, the number of requests that the origin served at once, unless it was
    /// lowered after `since`. That may change soon, so growth stays quick.
    pub(super) fn lower_to(&mut self, observed: usize, since: Instant, now: Instant) {
        self.cut(as_limit(observed).min(self.limit), since, now);
    }

    /// Resets the limit to the maximum.
    pub(super) fn let_go(&mut self) {
        self.limit = self.most;
    }

    fn cut(&mut self, to: f64, since: Instant, now: Instant) -> bool {
        if self.cut_at.is_some_and(|cut_at| since <= cut_at) {
            return false;
        }
        self.cut_at = Some(now);
        self.limit = to.max(1.0);
        true
    }

    /// Lowers the limit for an origin that is down: requests begin again with a few, and growth is quick
    /// up to half of the former limit.
    pub(super) fn down(&mut self, now: Instant) {
        if self.limit > AFRESH {
            self.known_good = self.known_good.min((self.limit / 2.0).max(AFRESH));
        }
        self.meet_afresh(now);
    }

    /// Lowers the limit for an origin that asks for a pause: requests begin again with a few, and growth
    /// is quick up to the former limit.
    pub(super) fn paused(&mut self, now: Instant) {
        self.known_good = self.known_good.max(self.limit);
        self.meet_afresh(now);
    }

    fn meet_afresh(&mut self, now: Instant) {
        self.cut_at = Some(now);
        self.limit = self.limit.min(AFRESH);
    }
}

fn as_limit(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)).max(1.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    const STEP: Duration = Duration::from_millis(10);

    #[test]
    fn an_unlisted_origin_is_soon_as_fast_as_it_can_be() {
        let mut limiter = Limiter::new(10, 200);
        let mut rounds = 0;
        while limiter.limit() < 200 {
            let in_flight = limiter.limit();
            (0..in_flight).for_each(|_| limiter.succeeded(in_flight));
            rounds += 1;
        }
        assert_eq!(rounds, 5);
    }

    #[test]
    fn what_fails_together_counts_once() {
        let mut limiter = Limiter::new(200, 200);
        let begun = SystemClock.now().mono;
        for n in 1..=50 {
            limiter.overloaded(begun, begun + STEP * n);
        }
        assert_eq!(limiter.limit(), 100);
        limiter.overloaded(begun + STEP * 2, begun + STEP * 60);
        assert_eq!(limiter.limit(), 50);
    }

    #[test]
    fn after_a_cut_it_grows_by_little() {
        let mut limiter = Limiter::new(200, 200);
        let now = SystemClock.now().mono;
        limiter.overloaded(now, now);
        (0..10).for_each(|_| limiter.succeeded(100));
        assert!((100..=101).contains(&limiter.limit()), "{limiter:?}");
        (0..2000).for_each(|_| limiter.succeeded(200));
        assert_eq!(limiter.limit(), 200);
    }

    #[test]
    fn a_new_maximum_moves_what_was_at_the_former_one() {
        let mut limiter = Limiter::new(200, 200);
        limiter.set_most(300);
        assert_eq!(limiter.limit(), 300);
        limiter.set_most(100);
        assert_eq!(limiter.limit(), 100);
        let now = SystemClock.now().mono;
        limiter.overloaded(now, now);
        limiter.set_most(400);
        assert_eq!(limiter.limit(), 50, "what was learned stays");
    }

    #[test]
    fn a_limit_nobody_reaches_does_not_grow() {
        let mut limiter = Limiter::new(10, 200);
        (0..1000).for_each(|_| limiter.succeeded(4));
        assert_eq!(limiter.limit(), 10);
    }

    #[test]
    fn after_an_open_breaker_few_come_first() {
        let mut limiter = Limiter::new(200, 200);
        // Each probe that fails is one more trip; half of the former limit is remembered.
        for _ in 0..3 {
            limiter.down(SystemClock.now().mono);
            assert_eq!(limiter.limit(), 4);
        }
        (0..96).for_each(|_| limiter.succeeded(100));
        assert_eq!(limiter.limit(), 100);
        (0..9).for_each(|_| limiter.succeeded(100));
        assert_eq!(limiter.limit(), 100);
    }

    #[test]
    fn after_a_pause_few_come_first_and_soon_as_many_as_before() {
        let mut limiter = Limiter::new(200, 200);
        let now = SystemClock.now().mono;
        limiter.overloaded(now, now);
        limiter.paused(now);
        assert_eq!(limiter.limit(), 4);
        (0..96).for_each(|_| limiter.succeeded(100));
        assert_eq!(limiter.limit(), 100);
        // A pause of one key does not show that the origin serves less.
        limiter.paused(now);
        limiter.paused(now + STEP);
        (0..96).for_each(|_| limiter.succeeded(100));
        assert_eq!(limiter.limit(), 100);
    }

    proptest! {
        #[test]
        fn it_stays_between_one_and_the_most(
            start in 0usize..500,
            most in 0usize..300,
            steps in proptest::collection::vec(0u8..4, 0..500),
        ) {
            let mut limiter = Limiter::new(start, most);
            let mut now = SystemClock.now().mono;
            for step in steps {
                now += STEP;
                match step {
                    0 => limiter.succeeded(limiter.limit()),
                    1 => limiter.overloaded(now, now),
                    2 => limiter.down(now),
                    _ => limiter.paused(now),
                }
                prop_assert!((1..=most.max(1)).contains(&limiter.limit()));
            }
        }
    }
}
