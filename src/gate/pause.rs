//! How long an origin, or one key at an origin, is left alone because the push service asked for it.
//!
//! A throttled service is not down: it works and limits how much it accepts. The wait that it asks for is
//! kept exactly. Where it names none, the pause doubles with every further throttle in a row.

use std::time::Duration;

use tokio::time::Instant;

use super::deferral::Shut;

use crate::backoff::Backoff;
use crate::outcome::DeferralReason;

/// The pause of one scope.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    until: Option<(Instant, DeferralReason)>,
    in_a_row: u32,
}

/// The pauses where the service names none.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));

impl Pause {
    /// Returns the rest of the pause, and its reason.
    pub(super) fn left(&self, now: Instant) -> Option<Shut> {
        let (until, why) = self.until?;
        let left = until.saturating_duration_since(now);
        (!left.is_zero()).then_some(Shut { why, left })
    }

    /// Begins a pause or lengthens the present one; never shortens it.
    pub(super) fn hold(&mut self, why: DeferralReason, length: Duration, now: Instant) {
        let until = now + length;
        if self.until.is_none_or(|(kept, _)| kept < until) {
            self.until = Some((until, why));
        }
    }

    /// Records a throttle. Returns the length of the pause, unless there was one already.
    pub(super) fn throttled(&mut self, asked: Option<Duration>, now: Instant) -> Option<Duration> {
        let kept_already = self.left(now).is_some();
        let own = BACKOFF.wait(self.in_a_row);
        let length = match asked.filter(|asked| !asked.is_zero()) {
            Some(asked) => asked,
            None if kept_already => return None,
            None => own,
        };
        self.hold(DeferralReason::Paused, length, now);
        if kept_already {
            return None;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        Some(length)
    }

    /// Records a success.
    pub(super) fn succeeded(&mut self) {
        self.in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn what_the_service_asks_for_is_kept_to_the_letter() {
        let now = SystemClock.now().mono;
        let mut pause = Pause::default();
        let left = |pause: &Pause, at| pause.left(at).map(|it| it.left);
        assert_eq!(left(&pause, now), None);
        let asked = Some(seconds(7200));
        assert_eq!(pause.throttled(asked, now), asked);
        assert_eq!(left(&pause, now + seconds(7199)), Some(seconds(1)));
        assert_eq!(left(&pause, now + seconds(7200)), None);
    }

    #[test]
    fn what_was_under_way_lengthens_a_pause_and_never_shortens_it() {
        let now = SystemClock.now().mono;
        let mut pause = Pause::default();
        pause.throttled(Some(seconds(10)), now);
        for (asked, left) in [(Some(5), 10), (None, 10), (Some(30), 30), (Some(0), 30)] {
            assert_eq!(pause.throttled(asked.map(seconds), now), None);
            let kept = pause.left(now).map(|it| it.left);
            assert_eq!(kept, Some(seconds(left)), "{asked:?}");
        }
    }

    #[test]
    fn where_no_time_is_named_the_pause_doubles_until_a_success() {
        let mut now = SystemClock.now().mono;
        let mut pause = Pause::default();
        for length in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(pause.throttled(None, now), Some(seconds(length)));
            now += seconds(length);
        }
        pause.succeeded();
        assert_eq!(pause.throttled(Some(seconds(0)), now), Some(seconds(1)));
    }
}
