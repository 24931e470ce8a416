//! VAPID tokens, signed once per key and origin and used until near their end.
//!
//! A signature costs as much as a third of an encryption and its reuse is what push services ask
//! for (RFC 8292 §5; Apple minds more than one an hour). Freshness is data in the token rather than
//! a timer of the cache, so that a wall clock that jumps is noticed and tests need not wait.

use std::sync::Arc;
use std::time::SystemTime;

use moka::sync::Cache;

use crate::message::Name;
use crate::origin::Origin;
use crate::plan::App;
use crate::vapid::{Token, Validity, VapidError, VapidKey};

/// How many tokens are kept; origins are chosen by strangers.
const TOKEN_LIMIT: u64 = 10_000;

/// The tokens in use.
#[derive(Debug)]
pub struct TokenCache {
    tokens: Cache<Key, Result<Arc<Token>, VapidError>>,
    validity: Validity,
}

/// A token speaks for one key, of one application (whose subject it names), to one origin.
type Key = (Name, Name, Origin);

/// A token, and whether it had to be signed for the caller.
#[derive(Debug)]
pub struct Authorization {
    /// The token.
    pub token: Arc<Token>,
    /// Whether it was signed just now.
    pub signed: bool,
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
    /// Returns a token that is fresh at `now`, signing one if there is none.
    ///
    /// Of many that ask at once one signs and the others wait for it.
    ///
    /// # Errors
    /// If the key cannot sign. The next call tries again.
    pub fn authorization(
        &self,
        app: &App,
        key: &VapidKey,
        audience: &Origin,
        now: SystemTime,
    ) -> Result<Authorization, VapidError> {
        let stale = |token: &Result<Arc<Token>, VapidError>| match token {
            Ok(token) => !token.is_fresh(now),
            Err(_) => true,
        };
        let names = (app.name.clone(), key.name().clone(), audience.clone());
        if let Some(Ok(token)) = self.tokens.get(&names).filter(|token| !stale(token)) {
            return Ok(Authorization {
                token,
                signed: false,
            });
        }
        let entry = self.tokens.entry(names).or_insert_with_if(
            || Token::sign(key, audience, &app.subject, now, self.validity).map(Arc::new),
            stale,
        );
        let signed = entry.is_fresh();
        entry
            .into_value()
            .map(|token| Authorization { token, signed })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use url::Url;

    use super::*;
    use crate::plan::{EndpointForm, Mode, RequestRules, Results};
    use crate::vapid::{KeyRing, Subject};

    const NOON: Duration = Duration::from_secs(1_800_000_000);

    fn app() -> App {
        let name = |text| Name::parse(text).unwrap();
        App {
            name: name("shop"),
            subject: Subject::parse("mailto:ops@example.org").unwrap(),
            ring: KeyRing {
                primary: Arc::new(VapidKey::generate(name("main")).unwrap()),
                older: Vec::new(),
            },
            ttl: 60,
            results: Results::All,
            mode: Mode::Send,
            payload_limit: 3993,
            endpoint: EndpointForm::Full,
            requests: RequestRules::default(),
        }
    }

    fn origin(host: &str) -> Origin {
        Origin::of(&Url::parse(&format!("https://{host}/")).unwrap())
    }

    fn signed(cache: &TokenCache, app: &App, host: &str, now: SystemTime) -> bool {
        cache
            .authorization(app, &app.ring.primary, &origin(host), now)
            .unwrap()
            .signed
    }

    #[test]
    fn one_signature_serves_an_origin_until_near_its_end() {
        let (cache, app) = (TokenCache::default(), app());
        let now = SystemTime::UNIX_EPOCH + NOON;
        assert!(signed(&cache, &app, "a", now));
        assert!(!signed(&cache, &app, "a", now + Duration::from_hours(10)));
        assert!(signed(&cache, &app, "b", now));
        assert!(signed(&cache, &app, "a:8443", now));
        assert!(signed(&cache, &app, "a", now + Duration::from_hours(12)));
    }

    #[test]
    fn a_wall_clock_that_jumps_gets_a_token_that_fits_it() {
        let now = SystemTime::UNIX_EPOCH + NOON;
        for jumped in [
            now + Duration::from_hours(30),
            now - Duration::from_hours(30),
        ] {
            let (cache, app) = (TokenCache::default(), app());
            assert!(signed(&cache, &app, "a", now));
            assert!(signed(&cache, &app, "a", jumped));
            assert!(!signed(&cache, &app, "a", jumped));
        }
    }

    #[test]
    fn of_many_that_ask_at_once_one_signs() {
        let (cache, app) = (TokenCache::default(), app());
        let now = SystemTime::UNIX_EPOCH + NOON;
        let count = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| signed(&cache, &app, "a", now)))
                .collect();
            asking
                .into_iter()
                .filter_map(|thread| thread.join().ok().filter(|signed| *signed))
                .count()
        });
        assert_eq!(count, 1);
    }
}
