//! How long a recipient that was deferred waits in the broker.
//!
//! It comes back no earlier than the gate may open, and when those before it will have been served
//! (`flow`). Where no rate is known, the wait is spread at random instead, over twice as much after
//! each deferral in a row.
//!
//! Only what lies beyond the wait that is certain may be wrong, so only that gives way to the deadline:
//! it takes at most half of the life that is left. So spreading alone never lets a message expire, and
//! a message that has little time comes back soon, with the precedence that being deferred again gives.
//! A turn at a configured rate is certain: it is kept to the letter.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::outcome::DeferralReason;

/// Why a recipient was not admitted, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// Why.
    pub why: DeferralReason,
    /// How long no request will be admitted, or until this recipient's turn at a configured rate; zero
    /// where only a permit is missing.
    pub left: Duration,
    /// How long after that its turn is expected; `None` where nothing is known.
    pub turn: Option<Duration>,
}

/// Why and for how long a gate admits no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shut {
    pub(super) why: DeferralReason,
    pub(super) left: Duration,
}

impl Shut {
    /// There is no permit, for an unknown time.
    pub(super) const BUSY: Self = Self {
        why: DeferralReason::Busy,
        left: Duration::ZERO,
    };
}

/// The spread where no rate is known.
const SPREAD: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(32));

/// The longest spread that a long wait brings.
const SPREAD_CAP: Duration = Duration::from_secs(300);

/// The shortest wait for a permit, before the jitter: one is free after a round trip, but a trip
/// through the broker has its price.
const SOON: Duration = Duration::from_millis(500);

/// The shortest wait for a permit of a recipient whose deadline is near.
const SHORTEST: Duration = Duration::from_millis(100);

impl Deferral {
    /// Creates the deferral of a recipient whose turn is not known.
    #[must_use]
    pub const fn of(why: DeferralReason, left: Duration) -> Self {
        let turn = None;
        Self { why, left, turn }
    }

    /// Creates the deferral of a recipient whose turn comes `turn` after `left`.
    #[must_use]
    pub const fn in_line(why: DeferralReason, left: Duration, turn: Duration) -> Self {
        let turn = Some(turn);
        Self { why, left, turn }
    }

    /// Returns how long to wait, for a recipient that was deferred `deferrals` times in a row before
    /// and has `life` left; `jitter` is a number from 0 to 1.
    #[must_use]
    pub fn delay(&self, deferrals: u32, life: Duration, jitter: f64) -> Duration {
        let step = SPREAD.wait(deferrals);
        let most = life.saturating_sub(self.left) / 2;
        match self.why {
            DeferralReason::Rate => self.left,
            DeferralReason::Busy => {
                let soon = SOON.mul_f64(1.0 + jitter);
                let wait = match self.turn {
                    Some(turn) => turn.max(soon),
                    None => step.mul_f64(0.5 + jitter),
                };
                wait.min(most).max(SHORTEST)
            }
            DeferralReason::BreakerOpen | DeferralReason::Paused => {
                let spread = || self.left.min(SPREAD_CAP).max(step).mul_f64(jitter);
                self.left + self.turn.unwrap_or_else(spread).min(most)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn where_no_rate_is_known_the_spread_grows_with_the_deferrals() {
        for (why, left, deferrals, soonest, latest) in [
            (DeferralReason::Busy, 0, 0, 500, 1500),
            (DeferralReason::Busy, 0, 3, 4000, 12_000),
            (DeferralReason::Busy, 0, 99, 16_000, 48_000),
            (DeferralReason::Paused, 100, 0, 100, 1100),
            (DeferralReason::Paused, 100, 3, 100, 8100),
            (DeferralReason::Paused, 5000, 0, 5000, 10_000),
            (DeferralReason::Paused, 5000, 9, 5000, 37_000),
            (DeferralReason::Paused, 3_600_000, 0, 3_600_000, 3_900_000),
        ] {
            let deferral = Deferral::of(why, Duration::from_millis(left));
            let delay = |jitter| deferral.delay(deferrals, Duration::MAX, jitter);
            let delays = [0.0, 1.0].map(|jitter| delay(jitter).as_millis());
            assert_eq!(
                delays,
                [soonest, latest],
                "{left} ms, {deferrals} deferrals"
            );
        }
    }

    #[test]
    fn a_turn_that_is_known_is_waited_for() {
        for (why, left, turn, expected) in [
            (DeferralReason::Busy, 0, 70, 70),
            (DeferralReason::Busy, 0, 0, 1),
            (DeferralReason::Paused, 10, 70, 80),
            (DeferralReason::BreakerOpen, 300, 1, 301),
        ] {
            let deferral = Deferral::in_line(why, seconds(left), seconds(turn));
            let delay = deferral.delay(7, Duration::MAX, 1.0);
            assert_eq!(delay, seconds(expected), "{why:?} {left} {turn}");
        }
    }

    #[test]
    fn a_turn_at_a_rate_is_kept_to_the_letter() {
        let deferral = Deferral::of(DeferralReason::Rate, seconds(7));
        for (deferrals, life) in [(0, 60), (9, 60), (0, 7)] {
            let actual = deferral.delay(deferrals, seconds(life), 1.0);
            assert_eq!(actual, seconds(7), "{deferrals} deferrals, {life} s left");
        }
    }

    #[test]
    fn what_is_not_certain_takes_at_most_half_of_the_life_that_is_left() {
        let known = |why, left| Deferral::in_line(why, seconds(left), seconds(3600));
        let unknown = |why, left| Deferral::of(why, seconds(left));
        for make in [known, unknown] {
            for life in [80, 60, 31, 6] {
                let life = seconds(life);
                let busy = make(DeferralReason::Busy, 0).delay(99, life, 1.0);
                assert!(busy <= life / 2, "{busy:?} of {life:?}");
                let down = make(DeferralReason::BreakerOpen, 5).delay(99, life, 1.0);
                assert!(down >= seconds(5), "{down:?}");
                assert!(down - seconds(5) <= (life - seconds(5)) / 2, "{down:?}");
            }
            for life in [5, 1] {
                let down = make(DeferralReason::BreakerOpen, 5).delay(99, seconds(life), 1.0);
                assert_eq!(down, seconds(5), "certain, so it expires");
            }
        }
    }
}
