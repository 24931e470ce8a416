//! Permits: how much may be under way, in all and per origin.
//!
//! A stalling push service must not take the room of the others, so every request holds a permit of
//! its origin besides one of the whole. Origins outside the list of the large services are chosen by
//! strangers and share at most half of the whole. Who gets no permit within about a second does not
//! wait here but in the broker: what waits in memory fills the prefetch window and starves the rest.
//!
//! A [`Permit`] frees its places when it is dropped: on success, panic and cancellation alike.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::origin::{Listed, Origin};

/// What an operator decides about permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Requests in flight, over all origins.
    pub in_flight: usize,
    /// Requests in flight to one origin.
    pub per_origin: usize,
    /// How long a recipient waits for a permit before it is deferred to the broker.
    pub max_wait: Duration,
}

/// How many origins are remembered; beyond that the least recently used are forgotten.
const ORIGIN_LIMIT: u64 = 10_000;

/// How long an unused origin is remembered.
const ORIGIN_IDLE: Duration = Duration::from_secs(600);

/// All permits of the daemon.
#[derive(Debug)]
pub struct Gates {
    all: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    origins: Cache<Origin, Arc<Semaphore>>,
    settings: Settings,
}

/// The answer to asking for a permit.
#[derive(Debug)]
pub enum Admission {
    /// Go on; the places are held until the permit is dropped.
    Granted(Permit),
    /// There is no room now: wait in the broker.
    Deferred,
}

/// The right to have one request under way.
#[derive(Debug)]
pub struct Permit {
    _places: [Option<OwnedSemaphorePermit>; 3],
}

impl Gates {
    /// Creates the permits that `settings` allow.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            all: Arc::new(Semaphore::new(settings.in_flight)),
            strangers: Arc::new(Semaphore::new(settings.in_flight.div_ceil(2))),
            origins: Cache::builder()
                .max_capacity(ORIGIN_LIMIT)
                .time_to_idle(ORIGIN_IDLE)
                .build(),
            settings,
        }
    }

    /// Asks for a permit to send to an origin, waiting for at most `max_wait`.
    pub async fn admit(&self, origin: &Origin, listed: Listed) -> Admission {
        // The narrowest gate comes first, so that who waits there holds no place of the others.
        let of_origin = self.origin(origin);
        let strangers = (!listed.0).then_some(&self.strangers);
        if let Some(permit) = self.admit_at_once(&of_origin, strangers) {
            return Admission::Granted(permit);
        }
        let places = async {
            let own = of_origin.acquire_owned().await.ok();
            let shared = match strangers {
                Some(strangers) => Arc::clone(strangers).acquire_owned().await.ok(),
                None => None,
            };
            let whole = Arc::clone(&self.all).acquire_owned().await.ok();
            Permit {
                _places: [own, shared, whole],
            }
        };
        match timeout(self.settings.max_wait, places).await {
            Ok(permit) => Admission::Granted(permit),
            Err(_elapsed) => Admission::Deferred,
        }
    }

    /// Returns how many origins are remembered.
    #[must_use]
    pub fn origins(&self) -> usize {
        usize::try_from(self.origins.entry_count()).unwrap_or(usize::MAX)
    }

    /// Spares the timer when there is room, which is nearly always.
    fn admit_at_once(
        &self,
        of_origin: &Arc<Semaphore>,
        strangers: Option<&Arc<Semaphore>>,
    ) -> Option<Permit> {
        let take = |semaphore: &Arc<Semaphore>| Arc::clone(semaphore).try_acquire_owned().ok();
        let own = take(of_origin)?;
        let shared = match strangers {
            Some(strangers) => Some(take(strangers)?),
            None => None,
        };
        let whole = take(&self.all)?;
        Some(Permit {
            _places: [Some(own), shared, Some(whole)],
        })
    }

    fn origin(&self, origin: &Origin) -> Arc<Semaphore> {
        self.origins.get(origin).unwrap_or_else(|| {
            self.origins.get_with_by_ref(origin, || {
                Arc::new(Semaphore::new(self.settings.per_origin))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    const SETTINGS: Settings = Settings {
        in_flight: 4,
        per_origin: 2,
        max_wait: Duration::from_secs(1),
    };

    fn origin(host: &str) -> Origin {
        Origin::of(&Url::parse(&format!("https://{host}/")).unwrap())
    }

    async fn granted(gates: &Gates, host: &str, listed: bool) -> Option<Permit> {
        match gates.admit(&origin(host), Listed(listed)).await {
            Admission::Granted(permit) => Some(permit),
            Admission::Deferred => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_origin_cannot_take_the_room_of_another() {
        let gates = Gates::new(SETTINGS);
        let stalled = [
            granted(&gates, "a", true).await,
            granted(&gates, "a", true).await,
        ];
        assert!(stalled.iter().all(Option::is_some));
        assert!(granted(&gates, "a", true).await.is_none());
        assert!(granted(&gates, "b", true).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_share_half_of_the_whole() {
        let gates = Gates::new(SETTINGS);
        let strangers = [
            granted(&gates, "a", false).await,
            granted(&gates, "b", false).await,
        ];
        assert!(strangers.iter().all(Option::is_some));
        assert!(granted(&gates, "c", false).await.is_none());
        assert!(granted(&gates, "c", true).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_permit_frees_its_places_for_who_waits() {
        let gates = Gates::new(SETTINGS);
        let first = granted(&gates, "a", false).await;
        let _second = granted(&gates, "a", false).await;
        let (third, ()) = tokio::join!(granted(&gates, "a", false), async { drop(first) });
        assert!(third.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_deferred_leaves_nothing_behind() {
        let gates = Gates::new(SETTINGS);
        let held = [
            granted(&gates, "a", false).await,
            granted(&gates, "a", false).await,
        ];
        assert!(granted(&gates, "a", false).await.is_none());
        drop(held);
        assert_eq!(gates.all.available_permits(), 4);
        assert_eq!(gates.strangers.available_permits(), 2);
        assert_eq!(gates.origin(&origin("a")).available_permits(), 2);
    }
}
