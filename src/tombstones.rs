//! Subscriptions of which a push service has just said that they are gone, or of another key.
//!
//! Why: an application needs a moment to act on a subscription event, and has published more until
//! then. Each of those would cost a request and a second subscription event that say nothing new.
//!
//! Why only for events that are older than the answer: what is created later is created by an
//! application that may know better. So it is pushed, and if the subscription takes it after all,
//! the tombstone is lifted. A producer whose clock lags makes its events look older than they are;
//! what that costs is a push to an endpoint of which its application was told that it is gone.
//!
//! Beside them are the first words of services that must say twice that a subscription is dead: a
//! message may not live until the second, which is then said to a later message.

use std::time::{Duration, SystemTime};

use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

use crate::classify::FirstWord;
use crate::message::Name;
use crate::outcome::{Outcome, Reason, Record};
use crate::subscription::Fingerprint;
use crate::wire::subscription::Change;

/// How many are kept; together they take about 20 MB.
const CAPACITY: u64 = 50_000;

/// For how long each is kept: a service that was wrong is asked again soon.
const LIFETIME: Duration = Duration::from_hours(1);

/// For how long the first word of a death is kept: a daily message still finds it.
const WORD_LIFETIME: Duration = Duration::from_hours(36);

/// How coarse the creation time of an event may be: the AMQP `timestamp` has whole seconds.
const GRAIN: Duration = Duration::from_secs(1);

/// What a push service said of a subscription that is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    reason: Reason,
    status: Option<u16>,
    asked_at: SystemTime,
}

impl Tombstone {
    /// Takes what a recipient's end says of its subscription; `None` unless a push service was
    /// asked and its application should hear of it: it is gone, or fits no key.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        let asked_at = record.sent_at?;
        Change::of(record.reason).map(|_change| Self {
            reason: record.reason,
            status: record.status,
            asked_at,
        })
    }

    /// Tells whether an event is certainly older than the answer.
    fn covers(&self, created_at: SystemTime) -> bool {
        created_at
            .checked_add(GRAIN)
            .is_some_and(|at_the_latest| at_the_latest <= self.asked_at)
    }

    /// Records the end of a recipient of an older event.
    #[must_use]
    pub fn record(&self, settled_at: SystemTime) -> Record {
        let detail = "the push service said so after this event was created, when another event was \
                      pushed; no request was made";
        Record {
            status: self.status,
            ..Record::unsent(self.reason, settled_at, detail)
        }
    }
}

/// What is known of one subscription.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Gone(Tombstone),
    Unconfirmed(Word),
}

/// Answers of one status that call a subscription dead and are not yet believed.
#[derive(Clone, Copy, Debug)]
struct Word {
    status: u16,
    since: Instant,
    times: u32,
}

/// An entry is kept as long as its kind is.
struct Lifetimes;

impl Expiry<(Name, Fingerprint), Entry> for Lifetimes {
    fn expire_after_create(
        &self,
        _key: &(Name, Fingerprint),
        entry: &Entry,
        _created_at: std::time::Instant,
    ) -> Option<Duration> {
        Some(entry.lifetime())
    }

    fn expire_after_update(
        &self,
        _key: &(Name, Fingerprint),
        entry: &Entry,
        _updated_at: std::time::Instant,
        _left: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.lifetime())
    }
}

impl Entry {
    fn lifetime(&self) -> Duration {
        match self {
            Self::Gone(_) => LIFETIME,
            Self::Unconfirmed(_) => WORD_LIFETIME,
        }
    }
}

/// The tombstones of the last hour and the unconfirmed words, of every application.
pub struct Tombstones {
    entries: Cache<(Name, Fingerprint), Entry>,
}

impl Default for Tombstones {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl Tombstones {
    fn new(capacity: u64) -> Self {
        let entries = Cache::builder()
            .max_capacity(capacity)
            .expire_after(Lifetimes)
            // Whose subscription ended last has the most events still queued.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { entries }
    }

    /// Notes what a recipient's end says of its subscription: a tombstone is set if it is gone or
    /// fits no key, and everything is forgotten if it takes messages.
    pub fn note(&self, app: &Name, subscription: Fingerprint, record: &Record) {
        let key = (app.clone(), subscription);
        if let Some(stone) = Tombstone::of(record) {
            self.entries.insert(key, Entry::Gone(stone));
        } else if record.outcome() == Outcome::Accepted {
            self.entries.invalidate(&key);
        }
    }

    /// Returns the tombstone that settles an event created at `created_at`.
    #[must_use]
    pub fn find(
        &self,
        app: &Name,
        subscription: Fingerprint,
        created_at: SystemTime,
    ) -> Option<Tombstone> {
        match self.entries.get(&(app.clone(), subscription))? {
            Entry::Gone(stone) => stone.covers(created_at).then_some(stone),
            Entry::Unconfirmed(_) => None,
        }
    }

    /// Notes an answer of `status` that calls a subscription dead and is not yet believed.
    pub fn note_unconfirmed(
        &self,
        app: &Name,
        subscription: Fingerprint,
        status: u16,
        now: Instant,
    ) {
        let key = (app.clone(), subscription);
        let word = match self.entries.get(&key) {
            Some(Entry::Gone(_)) => return,
            Some(Entry::Unconfirmed(word)) if word.counts(status, now) => Word {
                times: word.times.saturating_add(1),
                ..word
            },
            Some(Entry::Unconfirmed(_)) | None => Word {
                status,
                since: now,
                times: 1,
            },
        };
        self.entries.insert(key, Entry::Unconfirmed(word));
    }

    /// Returns the unconfirmed answers of `status` so far.
    #[must_use]
    pub fn first_word(
        &self,
        app: &Name,
        subscription: Fingerprint,
        status: u16,
        now: Instant,
    ) -> Option<FirstWord> {
        match self.entries.get(&(app.clone(), subscription))? {
            Entry::Unconfirmed(word) if word.counts(status, now) => Some(FirstWord {
                age: now.saturating_duration_since(word.since),
                times: word.times,
            }),
            Entry::Unconfirmed(_) | Entry::Gone(_) => None,
        }
    }
}

impl Word {
    /// Tells whether it is of the same kind as an answer of `status`, and not too old.
    fn counts(&self, status: u16, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.since);
        self.status == status && age < WORD_LIFETIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400)
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
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
        for reason in Reason::ALL {
            let told = reason.outcome() == Outcome::Gone || reason == Reason::KeyMismatch;
            assert_eq!(Tombstone::of(&sent(reason, 410)).is_some(), told);
            let unasked = Record::unsent(reason, noon(), "");
            assert_eq!(Tombstone::of(&unasked), None, "{}", reason.name());
        }
    }

    #[test]
    fn only_events_that_are_certainly_older_than_the_answer_are_covered() {
        let stone = Tombstone::of(&sent(Reason::NotFound, 404)).unwrap();
        for (before, covered) in [(2000, true), (1000, true), (999, false), (0, false)] {
            let created_at = noon() - Duration::from_millis(before);
            assert_eq!(stone.covers(created_at), covered, "{before} ms before");
        }
        assert!(!stone.covers(noon() + Duration::from_secs(1)));
    }

    #[test]
    fn a_tombstone_is_of_one_application_and_one_subscription() {
        let (stones, old) = (Tombstones::default(), noon() - Duration::from_secs(60));
        let [a, b] = ["https://a.example/1", "https://a.example/2"].map(Fingerprint::of);
        stones.note(&name("shop"), a, &sent(Reason::Unsubscribed, 410));
        let found = stones.find(&name("shop"), a, old).unwrap();
        let record = found.record(noon());
        assert_eq!(record.reason, Reason::Unsubscribed);
        assert_eq!((record.status, record.requests), (Some(410), 0));
        assert_eq!(record.sent_at, None);
        assert_eq!(stones.find(&name("shop"), b, old), None);
        assert_eq!(stones.find(&name("blog"), a, old), None);
    }

    #[test]
    fn a_subscription_that_takes_a_message_lives() {
        let (stones, old) = (Tombstones::default(), noon() - Duration::from_secs(60));
        let (shop, a) = (name("shop"), Fingerprint::of("https://a.example/1"));
        stones.note(&shop, a, &sent(Reason::NotFound, 404));
        stones.note(&shop, a, &sent(Reason::ServiceUnavailable, 503));
        assert!(stones.find(&shop, a, old).is_some(), "503 says nothing");
        stones.note(&shop, a, &sent(Reason::Accepted, 201));
        assert_eq!(stones.find(&shop, a, old), None);
    }

    #[test]
    fn the_newest_are_kept_and_never_more_than_fit() {
        let stones = Tombstones::new(100);
        let subscription = |n: u32| Fingerprint::of(&n.to_string());
        for n in 0..1000 {
            stones.note(&name("shop"), subscription(n), &sent(Reason::NotFound, 404));
        }
        stones.entries.run_pending_tasks();
        assert_eq!(stones.entries.entry_count(), 100);
        let old = noon() - Duration::from_secs(60);
        let found = |n| stones.find(&name("shop"), subscription(n), old).is_some();
        assert!(found(999) && !found(0), "the oldest make room");
    }

    #[test]
    fn unconfirmed_words_are_counted_by_status_until_a_message_is_taken_or_they_are_old() {
        let (stones, start) = (Tombstones::default(), SystemClock.now().mono);
        let (shop, a) = (name("shop"), Fingerprint::of("https://a.example/1"));
        let after = |seconds| start + Duration::from_secs(seconds);
        let word = |status, seconds| stones.first_word(&shop, a, status, after(seconds));
        let words = |seconds, times| {
            let age = Duration::from_secs(seconds);
            Some(FirstWord { age, times })
        };
        stones.note_unconfirmed(&shop, a, 404, start);
        stones.note_unconfirmed(&shop, a, 404, after(60));
        assert_eq!(word(404, 90), words(90, 2));
        assert_eq!(word(403, 90), None);
        let lifetime = WORD_LIFETIME.as_secs();
        assert!(word(404, lifetime - 1).is_some() && word(404, lifetime).is_none());
        stones.note_unconfirmed(&shop, a, 404, after(lifetime));
        assert_eq!(word(404, lifetime), words(0, 1), "begins anew");
        assert_eq!(stones.find(&shop, a, noon()), None);
        stones.note(&shop, a, &sent(Reason::Accepted, 201));
        assert_eq!(word(404, lifetime), None);
        stones.note(&shop, a, &sent(Reason::Unsubscribed, 410));
        stones.note_unconfirmed(&shop, a, 404, start);
        let old = noon() - Duration::from_secs(60);
        assert!(stones.find(&shop, a, old).is_some(), "the tombstone stays");
    }
}
