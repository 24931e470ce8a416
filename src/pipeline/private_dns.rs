//! DNS answers that lead a known push service's name to private addresses.
//!
//! A captive portal, a filtering resolver or a broken one gives such answers, for all names or for
//! some. Messages wait meanwhile; an operator must hear why.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::outcome::{Attempt, Failure};
use crate::subscription::Endpoint;

/// How often an operator is told while it goes on.
const EVERY: Duration = Duration::from_secs(600);

/// When an operator was told last.
#[derive(Debug, Default)]
pub(super) struct PrivateDns(Mutex<Option<Instant>>);

impl PrivateDns {
    /// Tells of a known service whose name leads to private addresses alone, at most once in ten
    /// minutes.
    pub(super) fn notice(&self, attempt: &Attempt, endpoint: &Endpoint, now: Instant) {
        let is_private = matches!(attempt, Attempt::Failed(Failure::ForbiddenAddress));
        if !is_private || !endpoint.is_listed() || !self.is_due(now) {
            return;
        }
        warn!(
            origin = %endpoint.origin(),
            push_service = endpoint.service().name(),
            "DNS gives only private or special addresses for a push service, so its messages wait: \
             check this machine's resolver; for a service of your own, add its network to \
             guard.allow"
        );
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|at| now.saturating_duration_since(at) >= EVERY);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[test]
    fn an_operator_is_told_at_most_once_in_ten_minutes() {
        let (private_dns, start) = (PrivateDns::default(), SystemClock.now().mono);
        for (seconds, told) in [
            (0, true),
            (1, false),
            (599, false),
            (600, true),
            (601, false),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(private_dns.is_due(now), told, "{seconds}");
        }
    }
}
