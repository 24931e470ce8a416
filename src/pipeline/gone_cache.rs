//! Subscriptions that a push service has recently called gone, or made with another key.
//!
//! Why: an application needs a moment to act on a subscription event, and has published more until
//! then. Each of those would cost a request and a second subscription event that say nothing new.
//!
//! Why only for events that are older than the answer: a later event comes from an
//! application that may know better. So it is pushed, and if the subscription accepts it after all, the
//! tombstone is removed. A producer whose clock is behind makes its events look older than they are; then
//! an event for an endpoint that came back may end as gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::message::{EventId, Name};
use crate::outcome::{Outcome, Reason, Record};
use crate::subscription::Fingerprint;
use crate::wire::subscription::Change;

/// How many are kept; together they take about 20 MB.
const CAPACITY: u64 = 50_000;

/// How long each is kept. It is short, so that a service that was wrong is asked again soon.
const LIFETIME: Duration = Duration::from_hours(1);

/// How coarse the creation time of an event may be: the AMQP `timestamp` has whole seconds.
const GRAIN: Duration = Duration::from_secs(1);

/// The answer that ended a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tombstone {
    /// The event whose push was answered.
    event: EventId,
    reason: Reason,
    status: Option<u16>,
    asked_at: SystemTime,
}

impl Tombstone {
    /// Returns the tombstone that a recipient's end sets: `None` unless a push service was asked, and
    /// the subscription is gone or matches no key.
    #[must_use]
    pub(super) fn of(event: &EventId, record: &Record) -> Option<Self> {
        let asked_at = record.sent_at?;
        Change::of(record.reason).map(|_change| Self {
            event: event.clone(),
            reason: record.reason,
            status: record.status,
            asked_at,
        })
    }

    /// Returns whether an event is certainly older than the answer.
    #[must_use]
    pub(super) fn covers(&self, created_at: SystemTime) -> bool {
        created_at
            .checked_add(GRAIN)
            .is_some_and(|at_the_latest| at_the_latest <= self.asked_at)
    }

    /// Returns whether the push of this event was answered.
    #[must_use]
    pub(super) fn is_of(&self, event: &EventId) -> bool {
        self.event == *event
    }

    /// Returns whether the subscription was called gone, rather than made with another key.
    #[must_use]
    pub(super) fn is_gone(&self) -> bool {
        self.reason.outcome() == Outcome::Gone
    }

    /// Returns the end of a recipient of an older event.
    #[must_use]
    pub(super) fn record(&self, settled_at: SystemTime) -> Record {
        let detail = "the push service said so after this event was created, when another event was \
                      pushed; no request was made";
        Record {
            status: self.status,
            ..Record::unsent(self.reason, settled_at, detail)
        }
    }
}

/// The tombstones of the last hour, of every application.
pub(super) struct GoneCache {
    tombstones: Cache<(Name, Fingerprint), Tombstone>,
    /// Whether there was ever one, so that a daemon without any looks nothing up.
    is_used: AtomicBool,
}

impl Default for GoneCache {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl GoneCache {
    fn new(capacity: u64) -> Self {
        let tombstones = Cache::builder()
            .max_capacity(capacity)
            .time_to_live(LIFETIME)
            // The subscription that ended last has the most events still queued.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self {
            tombstones,
            is_used: AtomicBool::new(false),
        }
    }

    /// Records what a recipient's end says of its subscription: a tombstone is set if it is gone or
    /// matches no key, and removed if it accepts messages.
    pub(super) fn record(
        &self,
        app: &Name,
        subscription: Fingerprint,
        event: &EventId,
        record: &Record,
    ) {
        let key = || (app.clone(), subscription);
        if let Some(tombstone) = Tombstone::of(event, record) {
            self.is_used.store(true, Ordering::Relaxed);
            self.tombstones.insert(key(), tombstone);
        } else if record.outcome() == Outcome::Accepted && self.is_used.load(Ordering::Relaxed) {
            self.tombstones.invalidate(&key());
        }
    }

    /// Returns the tombstone of a subscription.
    #[must_use]
    pub(super) fn find(&self, app: &Name, subscription: Fingerprint) -> Option<Tombstone> {
        if !self.is_used.load(Ordering::Relaxed) {
            return None;
        }
        self.tombstones.get(&(app.clone(), subscription))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400)
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn event(id: &str) -> EventId {
        EventId::parse(id).unwrap()
    }

    fn sent(reason: Reason, status: u16) -> Record {
        Record {
            status: Some(status),
            sent_at: Some(noon()),
            ..Record::unsent(reason, noon() + Duration::from_secs(2), "")
        }
    }

    #[test]
    fn only_what_a_push_service_called_gone_or_anothers_has_a_tombstone() {
        for &reason in Reason::ALL {
            let expected = reason.outcome() == Outcome::Gone || reason == Reason::KeyMismatch;
            assert_eq!(
                Tombstone::of(&event("e1"), &sent(reason, 410)).is_some(),
                expected
            );
            let unasked = Record::unsent(reason, noon(), "");
            assert_eq!(
                Tombstone::of(&event("e1"), &unasked),
                None,
                "{}",
                reason.name()
            );
        }
    }

    #[test]
    fn only_events_that_are_certainly_older_than_the_answer_are_covered() {
        let tombstone = Tombstone::of(&event("e1"), &sent(Reason::NotFound, 404)).unwrap();
        for (before, covered) in [(2000, true), (1000, true), (999, false), (0, false)] {
            let created_at = noon() - Duration::from_millis(before);
            assert_eq!(tombstone.covers(created_at), covered, "{before} ms before");
        }
        assert!(!tombstone.covers(noon() + Duration::from_secs(1)));
    }

    #[test]
    fn a_tombstone_is_of_one_application_and_one_subscription() {
        let cache = GoneCache::default();
        let [a, b] = ["https://a.example/1", "https://a.example/2"].map(Fingerprint::of);
        cache.record(
            &name("shop"),
            a,
            &event("e1"),
            &sent(Reason::Unsubscribed, 410),
        );
        let found = cache.find(&name("shop"), a).unwrap();
        let record = found.record(noon());
        assert_eq!(record.reason, Reason::Unsubscribed);
        assert_eq!((record.status, record.requests), (Some(410), 0));
        assert_eq!(record.sent_at, None);
        assert_eq!(cache.find(&name("shop"), b), None);
        assert_eq!(cache.find(&name("blog"), a), None);
    }

    #[test]
    fn a_subscription_that_takes_a_message_lives() {
        let cache = GoneCache::default();
        let (shop, a) = (name("shop"), Fingerprint::of("https://a.example/1"));
        cache.record(&shop, a, &event("e1"), &sent(Reason::NotFound, 404));
        cache.record(
            &shop,
            a,
            &event("e1"),
            &sent(Reason::ServiceUnavailable, 503),
        );
        assert!(cache.find(&shop, a).is_some(), "503 says nothing");
        cache.record(&shop, a, &event("e1"), &sent(Reason::Accepted, 201));
        assert_eq!(cache.find(&shop, a), None);
    }

    #[test]
    fn the_newest_are_kept_and_never_more_than_fit() {
        let cache = GoneCache::new(100);
        let subscription = |n: u32| Fingerprint::of(&n.to_string());
        for n in 0..1000 {
            cache.record(
                &name("shop"),
                subscription(n),
                &event("e1"),
                &sent(Reason::NotFound, 404),
            );
        }
        cache.tombstones.run_pending_tasks();
        assert_eq!(cache.tombstones.entry_count(), 100);
        let found = |n| cache.find(&name("shop"), subscription(n)).is_some();
        assert!(found(999) && !found(0), "the oldest make room");
    }
}
