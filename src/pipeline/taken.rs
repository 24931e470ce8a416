//! Which keys push services have taken messages from lately.
//!
//! A service that refuses a key for one subscription and takes it for others finds fault with the
//! endpoint, which a stranger chose, and not with the key.

use std::time::Duration;

use moka::sync::Cache;
use tokio::time::Instant;

use crate::message::Name;
use crate::origin::Origin;
use crate::outcome::{Meaning, Verdict};

/// How many keys at how many origins are remembered; strangers choose the origins.
const LIMIT: u64 = 10_000;

/// How long a message that was taken speaks for its key. What makes a key wrong that was right is
/// a restart with another one, after which nothing is remembered.
const LATELY: Duration = Duration::from_secs(3600);

/// When a message of a key is remembered anew, which is not with every one.
const REFRESH: Duration = Duration::from_secs(60);

/// The keys that were lately taken at each origin.
#[derive(Debug)]
pub(super) struct Taken(Cache<(Origin, Name), Instant>);

impl Default for Taken {
    fn default() -> Self {
        Self(Cache::new(LIMIT))
    }
}

impl Taken {
    /// Tells whether the origin has lately taken a message that the key signed.
    pub(super) fn lately(&self, origin: &Origin, key: &Name, now: Instant) -> bool {
        self.within(LATELY, origin, key, now)
    }

    /// Takes what came of a message that the key signed.
    pub(super) fn note(&self, origin: &Origin, key: &Name, verdict: &Verdict, now: Instant) {
        let taken = verdict.meaning == Meaning::Accepted;
        if taken && !self.within(REFRESH, origin, key, now) {
            self.0.insert((origin.clone(), key.clone()), now);
        }
    }

    fn within(&self, span: Duration, origin: &Origin, key: &Name, now: Instant) -> bool {
        let at = self.0.get(&(origin.clone(), key.clone()));
        at.is_some_and(|at| now.saturating_duration_since(at) < span)
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::outcome::Reason;

    #[test]
    fn a_message_that_was_taken_speaks_for_its_key_at_its_origin_for_an_hour() {
        let origin = |host| Origin::of(&Url::parse(&format!("https://{host}/")).unwrap());
        let key = |name| Name::parse(name).unwrap();
        let (here, there) = (origin("push.example.net"), origin("push.example.org"));
        let (mine, other) = (key("2026"), key("2019"));
        let accepted = Verdict::of(Meaning::Accepted, Reason::Accepted);
        let gone = Verdict::of(Meaning::Gone, Reason::Unsubscribed);
        let start = SystemClock.now().mono;
        let taken = Taken::default();
        taken.note(&here, &mine, &gone, start);
        assert!(!taken.lately(&here, &mine, start));
        taken.note(&here, &mine, &accepted, start);
        assert!(!taken.lately(&there, &mine, start));
        assert!(!taken.lately(&here, &other, start));
        for (seconds, lately) in [(0, true), (3599, true), (3600, false)] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(taken.lately(&here, &mine, now), lately, "{seconds}");
        }
        taken.note(&here, &mine, &accepted, start + REFRESH);
        assert!(taken.lately(&here, &mine, start + LATELY));
    }
}
