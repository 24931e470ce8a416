//! VAPID tokens, signed once per key and origin and used until near their end.
//!
//! A signature costs a third of an encryption, and push services ask for reuse (RFC 8292 §5; Apple objects
//! to more than one token an hour). A token is replaced early, each at a different moment, so that tokens
//! that were signed together do not end together. It is never replaced within an hour, wherever the wall
//! clock goes meanwhile, unless the service refuses it.
//!
//! Age is measured by the monotonic clock, which cannot be set. Only whether a token is still valid depends
//! on the wall clock, and on the service's where the two disagree ([`super::super::clock_skew`]). Freshness
//! is data in the cache's values rather than a timer of the cache, so that tests need not wait.

use std::sync::Arc;
use std::time::Duration;

use moka::ops::compute::Op;
use moka::sync::Cache;
use tokio::time::Instant;

use crate::app::App;
use crate::clock::{Jitter, Now};
use crate::message::Name;
use crate::origin::Origin;
use crate::vapid::{KeyId, Subject, Token, Validity, VapidError, VapidKey};

/// How many tokens are kept. Anybody can choose an origin.
const TOKEN_LIMIT: u64 = 10_000;

/// How long a token is used whatever the wall clock shows.
const LEAST_USE: Duration = Duration::from_hours(1);

/// How long a token is used at most, of the twelve hours it is good for.
const MOST_USE: Duration = Duration::from_hours(11);

/// How much earlier than that a token may be signed anew.
const SPREAD: Duration = Duration::from_hours(2);

/// The tokens in use.
#[derive(Debug)]
pub(in crate::sender) struct TokenCache {
    tokens: Cache<Key, Result<Kept, VapidError>>,
    validity: Validity,
}

/// A token is for one application (whose subject it names), one key and one origin.
type Key = (Name, Name, Origin);

/// A token, what it was signed with and for whom, and how long it is used.
#[derive(Clone, Debug)]
struct Kept {
    token: Arc<Token>,
    key: KeyId,
    subject: Subject,
    signed_at: Instant,
    used_for: Duration,
}

/// A token, and whether it had to be signed for the caller.
#[derive(Debug)]
pub(in crate::sender) struct Authorization {
    /// The token.
    pub(in crate::sender) token: Arc<Token>,
    /// How long ago it was signed, by the clock that shows more.
    pub(in crate::sender) age: Duration,
    /// Whether it was signed just now.
    pub(in crate::sender) signed: bool,
}

impl Default for TokenCache {
    fn default() -> Self {
        Self {
            tokens: Cache::new(TOKEN_LIMIT),
            validity: Validity::default(),
        }
    }
}

impl TokenCache {
    /// Returns a token that is fresh at `now`, the time at the origin; signs one if there is none.
    /// `jitter` spreads the times of replacement.
    ///
    /// Of many simultaneous calls one signs and the others wait for it.
    ///
    /// # Errors
    /// If the key cannot sign. The next call tries again.
    pub(in crate::sender) fn authorization(
        &self,
        app: &App,
        key: &VapidKey,
        audience: &Origin,
        now: Now,
        jitter: &dyn Jitter,
    ) -> Result<Authorization, VapidError> {
        let is_stale = |kept: &Result<Kept, VapidError>| match kept {
            Ok(kept) => kept.is_stale(now) || !kept.is_of(app, key),
            Err(_) => true,
        };
        let names = (app.name.clone(), key.name().clone(), audience.clone());
        if let Some(Ok(kept)) = self.tokens.get(&names).filter(|kept| !is_stale(kept)) {
            return Ok(kept.authorization(false, now));
        }
        let sign = || {
            let token = Token::sign(key, audience, &app.subject, now.wall, self.validity)?;
            Ok(Kept {
                token: Arc::new(token),
                key: key.id().clone(),
                subject: app.subject.clone(),
                signed_at: now.mono,
                used_for: MOST_USE - SPREAD.mul_f64(jitter.draw()),
            })
        };
        let entry = self.tokens.entry(names).or_insert_with_if(sign, is_stale);
        let signed = entry.is_fresh();
        entry
            .into_value()
            .map(|kept| kept.authorization(signed, now))
    }

    /// Removes a token that its service refuses, so that the next call signs a new one.
    ///
    /// A token that was replaced meanwhile is left alone.
    pub(in crate::sender) fn remove(
        &self,
        app: &App,
        key: &VapidKey,
        audience: &Origin,
        token: &Arc<Token>,
    ) {
        let names = (app.name.clone(), key.name().clone(), audience.clone());
        self.tokens.entry(names).and_compute_with(|entry| {
            let is_same = entry.is_some_and(
                |entry| matches!(entry.value(), Ok(kept) if Arc::ptr_eq(&kept.token, token)),
            );
            if is_same { Op::Remove } else { Op::Nop }
        });
    }
}

impl Kept {
    fn age(&self, now: Now) -> Duration {
        now.mono.saturating_duration_since(self.signed_at)
    }

    fn is_stale(&self, now: Now) -> bool {
        let age = self.age(now);
        age >= LEAST_USE && (age >= self.used_for || !self.token.is_fresh(now.wall))
    }

    /// Returns whether the key and the subject are those of the token, and not new ones under the same
    /// names.
    fn is_of(&self, app: &App, key: &VapidKey) -> bool {
        self.key == *key.id() && self.subject == app.subject
    }

    fn authorization(self, signed: bool, now: Now) -> Authorization {
        // A machine that slept has a monotonic clock that slept too.
        let shown = now.wall.duration_since(self.token.signed_at());
        Authorization {
            age: self.age(now).max(shown.unwrap_or_default()),
            token: self.token,
            signed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;
    use url::Url;

    use super::*;
    use crate::clock::{Clock, FixedClock, FixedJitter};

    const NOON: Duration = Duration::from_secs(1_800_000_000);

    fn origin(host: &str) -> Origin {
        Origin::of(&Url::parse(&format!("https://{host}/")).unwrap())
    }

    fn clock() -> FixedClock {
        FixedClock::at(SystemTime::UNIX_EPOCH + NOON)
    }

    fn asked(cache: &TokenCache, app: &App, host: &str, now: Now) -> Authorization {
        let jitter = FixedJitter(0.5);
        cache
            .authorization(app, &app.ring.primary, &origin(host), now, &jitter)
            .unwrap()
    }

    fn signed(cache: &TokenCache, app: &App, host: &str, clock: &FixedClock) -> bool {
        asked(cache, app, host, clock.now()).signed
    }

    #[test]
    fn a_new_key_or_subject_under_the_same_name_needs_a_new_token() {
        let (cache, mut app, clock) = (TokenCache::default(), App::for_tests("shop"), clock());
        assert!(signed(&cache, &app, "a", &clock));
        app.ring.primary = App::for_tests("shop").ring.primary;
        assert!(signed(&cache, &app, "a", &clock));
        assert!(!signed(&cache, &app, "a", &clock));
        app.subject = Subject::parse("mailto:others@example.org").unwrap();
        assert!(signed(&cache, &app, "a", &clock));
        assert!(!signed(&cache, &app, "a", &clock));
    }

    #[test]
    fn one_signature_serves_an_origin_until_near_its_end() {
        let (cache, app, clock) = (TokenCache::default(), App::for_tests("shop"), clock());
        assert!(signed(&cache, &app, "a", &clock));
        clock.advance(Duration::from_hours(9));
        let again = asked(&cache, &app, "a", clock.now());
        assert!(!again.signed);
        assert_eq!(again.age, Duration::from_hours(9));
        assert!(signed(&cache, &app, "b", &clock));
        assert!(signed(&cache, &app, "a:8443", &clock));
        clock.advance(Duration::from_hours(1));
        assert!(signed(&cache, &app, "a", &clock));
        assert!(!signed(&cache, &app, "b", &clock));
    }

    #[test]
    fn tokens_that_were_signed_together_do_not_end_together() {
        let app = App::for_tests("shop");
        let ends_after = |jitter: f64| {
            let (cache, clock) = (TokenCache::default(), clock());
            let signed = || {
                let (key, now) = (&app.ring.primary, clock.now());
                cache
                    .authorization(&app, key, &origin("a"), now, &FixedJitter(jitter))
                    .unwrap()
                    .signed
            };
            assert!(signed());
            let minutes = (1..).find(|_| {
                clock.advance(Duration::from_mins(1));
                signed()
            });
            minutes.unwrap()
        };
        assert_eq!([0.0, 0.5, 1.0].map(ends_after), [660, 600, 540]);
    }

    #[test]
    fn a_wall_clock_that_steps_leaves_a_good_token_for_an_hour_and_then_gets_one_that_fits() {
        let hours = Duration::from_hours;
        let start = SystemTime::UNIX_EPOCH + NOON;
        for jumped in [start + hours(30), start - hours(30)] {
            let (cache, app, clock) = (TokenCache::default(), App::for_tests("shop"), clock());
            assert!(signed(&cache, &app, "a", &clock));
            clock.jump(jumped);
            assert!(!signed(&cache, &app, "a", &clock));
            clock.advance(hours(1));
            let fits = asked(&cache, &app, "a", clock.now());
            assert!(fits.signed);
            assert_eq!(fits.token.signed_at(), jumped + hours(1));
            assert!(!signed(&cache, &app, "a", &clock));
        }
    }

    #[test]
    fn a_refused_token_is_forgotten_once() {
        let (cache, app, clock) = (TokenCache::default(), App::for_tests("shop"), clock());
        let first = asked(&cache, &app, "a", clock.now()).token;
        let refused = || cache.remove(&app, &app.ring.primary, &origin("a"), &first);
        refused();
        let second = asked(&cache, &app, "a", clock.now());
        assert!(second.signed && !Arc::ptr_eq(&first, &second.token));
        refused();
        assert!(
            !signed(&cache, &app, "a", &clock),
            "the second was not refused"
        );
    }

    #[test]
    fn of_many_that_ask_at_once_one_signs() {
        let (cache, app, clock) = (TokenCache::default(), App::for_tests("shop"), clock());
        let count = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| signed(&cache, &app, "a", &clock)))
                .collect();
            asking
                .into_iter()
                .filter_map(|thread| thread.join().ok().filter(|signed| *signed))
                .count()
        });
        assert_eq!(count, 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Each step lets minutes pass and then sets the wall clock by hours.
        #[test]
        fn wherever_the_wall_clock_steps_no_two_signatures_are_within_an_hour(
            steps in prop::collection::vec((0u64..180, -40i64..40), 1..40),
        ) {
            let (cache, app, clock) = (TokenCache::default(), App::for_tests("shop"), clock());
            let mut last: Option<Instant> = None;
            for (minutes, hours) in steps {
                clock.advance(Duration::from_mins(minutes));
                let step = Duration::from_hours(hours.unsigned_abs());
                let wall = clock.now().wall;
                clock.jump(if hours < 0 { wall - step } else { wall + step });
                let now = clock.now();
                if asked(&cache, &app, "a", now).signed {
                    let since = last.map(|last| now.mono - last);
                    prop_assert!(since.is_none_or(|since| since >= LEAST_USE), "{since:?}");
                    last = Some(now.mono);
                }
            }
        }

        /// The true time goes on while the wall clock is up to eleven hours wrong, either way.
        #[test]
        fn a_wall_clock_that_is_wrong_by_hours_signs_what_services_take(
            steps in prop::collection::vec((60u64..300, -11i64..=11), 1..40),
        ) {
            let (cache, app, clock) = (TokenCache::default(), App::for_tests("shop"), clock());
            let mut truth = clock.now().wall;
            for (minutes, hours) in steps {
                clock.advance(Duration::from_mins(minutes));
                truth += Duration::from_mins(minutes);
                let step = Duration::from_hours(hours.unsigned_abs());
                clock.jump(if hours < 0 { truth - step } else { truth + step });
                let asked = asked(&cache, &app, "a", clock.now());
                let left = asked.token.expires_at().duration_since(truth).unwrap_or_default();
                let taken = left > Duration::ZERO && left <= Validity::LIMIT;
                prop_assert!(taken || !asked.signed, "{left:?}");
            }
        }
    }
}
