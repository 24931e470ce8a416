//! How long those wait in the broker who were not admitted.
//!
//! Who is deferred comes back no earlier than the gate may open, and not all at once: the wait is
//! spread over as long again, and over twice as much with every pass, so that a service that
//! recovers meets a stream and the broker no storm of copies. Spreading alone ends nobody's life.
//! Who waits for a turn at a rate has a place in a line: that is spread enough.

use std::time::Duration;

/// Why a recipient was not admitted, and how long that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// Why.
    pub why: Why,
    /// How long nobody will be admitted, or until this one's turn; nothing where only room is
    /// wanting.
    pub left: Duration,
}

/// Why a recipient was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There was no room within the time to wait for it.
    Busy,
    /// The origin's breaker is open.
    BreakerOpen,
    /// The push service asked the origin, or the key at the origin, to pause.
    Paused,
    /// The rate of the key at the origin is used up.
    Rate,
}

impl Why {
    /// Says what became of a recipient whose time does not last until it is admitted.
    #[must_use]
    pub fn outlasts(self) -> &'static str {
        match self {
            Self::Busy => "its time ran out while it waited for room to send",
            Self::BreakerOpen => {
                "its time runs out before the push service, which is down, is tried again"
            }
            Self::Paused => "its time runs out in the pause that the push service asked for",
            Self::Rate => "its time runs out before its turn at the rate that is configured",
        }
    }
}

/// The shortest wait of a recipient that found no room, and the shortest spread.
const STEP: Duration = Duration::from_secs(1);

/// How often the spread doubles.
const DOUBLINGS: u32 = 5;

/// The longest spread that a long wait brings.
const SPREAD_CAP: Duration = Duration::from_secs(300);

impl Deferral {
    /// Returns how long to wait, for a recipient that has waited `passes` times before and has
    /// `life` left; `jitter` is a number from 0 to 1.
    #[must_use]
    pub fn delay(&self, passes: u32, life: Duration, jitter: f64) -> Duration {
        let step = STEP.saturating_mul(1 << passes.min(DOUBLINGS));
        if self.left.is_zero() {
            return step.mul_f64(0.5 + jitter);
        }
        if self.why == Why::Rate {
            return self.left;
        }
        let bearable = life.saturating_sub(self.left) / 2;
        let spread = self.left.min(SPREAD_CAP).max(step).min(bearable);
        self.left + spread.mul_f64(jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_comes_back_early_and_the_spread_grows_with_the_passes() {
        for (left, passes, soonest, latest) in [
            (0, 0, 500, 1500),
            (0, 3, 4000, 12_000),
            (0, 99, 16_000, 48_000),
            (100, 0, 100, 1100),
            (100, 3, 100, 8100),
            (5000, 0, 5000, 10_000),
            (5000, 9, 5000, 37_000),
            (3_600_000, 0, 3_600_000, 3_900_000),
        ] {
            let deferral = Deferral {
                why: Why::Paused,
                left: Duration::from_millis(left),
            };
            let delay = |jitter| deferral.delay(passes, Duration::MAX, jitter);
            let delays = [0.0, 1.0].map(|jitter| delay(jitter).as_millis());
            assert_eq!(delays, [soonest, latest], "{left} ms, {passes} passes");
        }
    }

    #[test]
    fn a_place_in_a_line_is_kept_to_the_letter() {
        let deferral = Deferral {
            why: Why::Rate,
            left: Duration::from_secs(7),
        };
        for (passes, life) in [(0, 60), (9, 60), (0, 7)] {
            let told = deferral.delay(passes, Duration::from_secs(life), 1.0);
            assert_eq!(told.as_secs(), 7, "{passes} passes, {life} s left");
        }
    }

    #[test]
    fn who_outlives_the_gate_outlives_the_spread() {
        let deferral = Deferral {
            why: Why::BreakerOpen,
            left: Duration::from_secs(5),
        };
        for (life, delay) in [(80, 37), (60, 32), (31, 18), (6, 5), (5, 5), (1, 5)] {
            let told = deferral.delay(9, Duration::from_secs(life), 1.0);
            assert_eq!(told.as_secs(), delay, "{life} s left");
        }
    }
}
