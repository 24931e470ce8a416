//! Answers that call a subscription dead and are not confirmed yet.
//!
//! Some services must answer twice before a subscription counts as dead. A message may expire before
//! its second attempt, so the first answer is kept for later messages to the same subscription.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

use crate::classify::EarlierAnswers;
use crate::message::Name;
use crate::subscription::Fingerprint;

/// How many subscriptions are kept; together they take about 20 MB.
const CAPACITY: u64 = 50_000;

/// How long an answer is kept: long enough for a daily message to find it.
const LIFETIME: Duration = Duration::from_hours(36);

/// The unconfirmed answers of every application.
pub(super) struct UnconfirmedAnswers {
    answers: Cache<(Name, Fingerprint), Answers>,
    /// Whether there was ever one, so that a daemon without any looks nothing up.
    is_used: AtomicBool,
}

/// Answers of one status.
#[derive(Clone, Copy, Debug)]
struct Answers {
    status: u16,
    since: Instant,
    times: u32,
}

impl Default for UnconfirmedAnswers {
    fn default() -> Self {
        let answers = Cache::builder()
            .max_capacity(CAPACITY)
            .time_to_live(LIFETIME)
            // The most recent answer has the most messages still queued.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self {
            answers,
            is_used: AtomicBool::new(false),
        }
    }
}

impl UnconfirmedAnswers {
    /// Records an unconfirmed answer of `status`.
    pub(super) fn record(&self, app: &Name, subscription: Fingerprint, status: u16, now: Instant) {
        self.is_used.store(true, Ordering::Relaxed);
        let key = (app.clone(), subscription);
        let earlier = self.answers.get(&key);
        let earlier = earlier.filter(|answers| answers.count_for(status, now));
        let answers = Answers {
            status,
            since: earlier.map_or(now, |answers| answers.since),
            times: earlier.map_or(1, |answers| answers.times.saturating_add(1)),
        };
        self.answers.insert(key, answers);
    }

    /// Returns the unconfirmed answers of `status` so far.
    pub(super) fn find(
        &self,
        app: &Name,
        subscription: Fingerprint,
        status: u16,
        now: Instant,
    ) -> Option<EarlierAnswers> {
        let answers = self.answers.get(&(app.clone(), subscription))?;
        answers.count_for(status, now).then(|| EarlierAnswers {
            age: now.saturating_duration_since(answers.since),
            times: answers.times,
        })
    }

    /// Forgets the answers of a subscription that is known to be alive or dead.
    pub(super) fn remove(&self, app: &Name, subscription: Fingerprint) {
        if self.is_used.load(Ordering::Relaxed) {
            self.answers.invalidate(&(app.clone(), subscription));
        }
    }
}

impl Answers {
    /// Returns whether they count for an answer of `status`: same status, not too old.
    fn count_for(&self, status: u16, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.since);
        self.status == status && age < LIFETIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[test]
    fn answers_are_counted_by_status_until_a_message_is_accepted_or_they_are_old() {
        let (unconfirmed, start) = (UnconfirmedAnswers::default(), SystemClock.now().mono);
        let shop = Name::parse("shop").unwrap();
        let subscription = Fingerprint::of("https://a.example/1");
        let after = |seconds| start + Duration::from_secs(seconds);
        let record = |seconds| unconfirmed.record(&shop, subscription, 404, after(seconds));
        let find = |status, seconds| unconfirmed.find(&shop, subscription, status, after(seconds));
        let answers = |seconds, times| {
            let age = Duration::from_secs(seconds);
            Some(EarlierAnswers { age, times })
        };
        record(0);
        record(60);
        assert_eq!(find(404, 90), answers(90, 2));
        assert_eq!(find(403, 90), None);
        let lifetime = LIFETIME.as_secs();
        assert!(find(404, lifetime - 1).is_some() && find(404, lifetime).is_none());
        record(lifetime);
        assert_eq!(find(404, lifetime), answers(0, 1), "begins anew");
        unconfirmed.remove(&shop, subscription);
        assert_eq!(find(404, lifetime), None);
    }
}
