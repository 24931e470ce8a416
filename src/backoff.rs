//! Exponential back-off: waits that double up to a limit.

use std::time::Duration;

/// Waits that double from the first up to a limit. Jitter is added where a wait is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    first: Duration,
    limit: Duration,
}

impl Backoff {
    /// Creates a back-off from its first wait and its longest.
    pub(crate) const fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit }
    }

    /// Returns the wait after `repeats` earlier ones.
    pub(crate) fn wait(self, repeats: u32) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(repeats));
        doubled.min(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_never_overflow() {
        let backoff = Backoff::new(Duration::from_millis(300), Duration::from_secs(10));
        for (repeats, millis) in [
            (0, 300),
            (1, 600),
            (5, 9600),
            (6, 10_000),
            (u32::MAX, 10_000),
        ] {
            assert_eq!(backoff.wait(repeats), Duration::from_millis(millis));
        }
        let long = Backoff::new(Duration::MAX, Duration::MAX);
        assert_eq!(long.wait(u32::MAX), Duration::MAX);
    }
}
