//! Permits: how much may be under way, in all and per origin, and whom to leave alone.
//!
//! A push service in trouble must not take the room of the others, so every request holds a permit
//! of its origin besides one of the whole. What an origin bears is felt out (`limiter`); one that is
//! down is left alone until a probe finds it up (`breaker`); one that asks for a pause gets it,
//! whole or for the key that was throttled (`pause`). Origins outside the list of the large services
//! are chosen by strangers: they start small and share at most half of the whole.
//!
//! Where an operator has set a rate, requests are spaced before they ask for a place (`rate`), so
//! that who waits for its turn holds no place of the others.
//!
//! Who finds the gate shut, or gets no permit within about a second, does not wait here but in the
//! broker (`deferral`): what waits in memory fills the prefetch window and starves the rest. For the
//! same reason only so many of a lane wait for one origin at a time (`crowd`). Nor do lanes wait for
//! each other: each has its turn (`places`).
//!
//! A [`Permit`] frees its places when it is dropped: on success, panic and cancellation alike. One
//! that is dropped without a report is an abandoned request: had it been a breaker's probe, the
//! next request is.

mod breaker;
mod crowd;
mod deferral;
mod keys;
mod limiter;
mod origin_gate;
mod pause;
mod permit;
mod places;
mod rate;
mod slots;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::message::Name;
use crate::origin::{Listed, Origin};
use crate::outcome::Scope;

pub use self::breaker::Settings as BreakerSettings;
pub use self::deferral::{Deferral, Why};
pub use self::permit::Permit;
pub use self::rate::Rate;
pub use self::slots::{LaneSlots, Slot};

use self::crowd::Crowds;
use self::limiter::Limiter;
use self::origin_gate::{Beginning, OriginGate};
use self::places::{Place, Places};
use self::slots::Slots;
use self::table::Table;

/// What an operator decides about permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Requests in flight, over all origins.
    pub in_flight: usize,
    /// The most requests in flight to one origin.
    pub per_origin: usize,
    /// How long a recipient waits for a permit before it is deferred to the broker.
    pub max_wait: Duration,
    /// How many requests a second go to one origin with one key, if that is limited.
    pub rate: Option<Rate>,
    /// When an origin is left alone.
    pub breaker: BreakerSettings,
}

/// How many origins are remembered.
const ORIGIN_LIMIT: usize = 10_000;

/// How many requests a stranger gets at once before it has answered any.
const STRANGER_START: usize = 50;

/// How many recipients of one lane may be in hand for each that may be sent to: enough to keep every
/// place taken, and few enough that they all get one before they would be deferred.
const SLOTS_PER_PLACE: usize = 2;

/// All permits of the daemon.
#[derive(Debug)]
pub struct Gates {
    slots: Slots,
    all: Arc<Places>,
    strangers: Arc<Places>,
    origins: Table,
    tripped: Arc<AtomicUsize>,
    settings: Settings,
}

/// The answer to asking for a permit.
#[derive(Debug)]
pub enum Admission {
    /// Go on; the places are held until the permit is dropped.
    Granted(Permit),
    /// Wait in the broker.
    Deferred(Deferral),
}

/// What became of the gate of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its breaker opened, for so long.
    Opened(Duration),
    /// One request is on its way to find out.
    HalfOpen,
    /// Its breaker closed.
    Closed,
    /// It is paused, whole or for one key, for so long.
    Paused(Scope, Duration),
}

/// There is no room, for nobody knows how long.
const BUSY: Admission = Admission::Deferred(Deferral {
    why: Why::Busy,
    left: Duration::ZERO,
});

/// The places besides the origin's own.
struct Rest {
    _shared: Option<Place>,
    _whole: Place,
}

impl Gates {
    /// Creates the permits that `settings` allow.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            slots: Slots::new(settings.in_flight.saturating_mul(SLOTS_PER_PLACE)),
            all: Places::new(settings.in_flight),
            strangers: Places::new(settings.in_flight.div_ceil(2)),
            origins: Table::new(ORIGIN_LIMIT),
            tripped: Arc::default(),
            settings,
        }
    }

    /// Returns the slots for recipients of a lane's messages.
    #[must_use]
    pub fn slots(&self, lane: &Name) -> Arc<LaneSlots> {
        self.slots.of(lane)
    }

    /// Asks for a permit to send to an origin with a key, waiting for at most `max_wait` in the line
    /// of a lane.
    ///
    /// A shut gate defers at once.
    pub async fn admit(
        &self,
        origin: &Origin,
        listed: Listed,
        key: &Name,
        lane: &Name,
        now: Instant,
    ) -> Admission {
        let gate = self.gate(origin, listed, now);
        let Some(rate) = self.settings.rate else {
            return self
                .find_room(gate, listed, key, lane, now, self.settings.max_wait)
                .await;
        };
        let patience = self.settings.max_wait;
        let wait = match gate.take_turn(key, rate, patience, now) {
            Ok(wait) => wait,
            Err(deferral) => return Admission::Deferred(deferral),
        };
        if !wait.is_zero() {
            sleep(wait).await;
        }
        let (room, since) = (Arc::clone(&gate), now + wait);
        let admission = self
            .find_room(room, listed, key, lane, since, patience - wait)
            .await;
        if let Admission::Deferred(_) = admission {
            gate.give_turn_back(key, rate);
        }
        admission
    }

    /// Returns how many origins are remembered.
    #[must_use]
    pub fn origins(&self) -> usize {
        self.origins.len()
    }

    /// Returns how many breakers are open or half-open.
    #[must_use]
    pub fn breakers_open(&self) -> usize {
        self.tripped.load(Ordering::Relaxed)
    }

    /// Finds room for one request, waiting for at most `patience`.
    async fn find_room(
        &self,
        gate: Arc<OriginGate>,
        listed: Listed,
        key: &Name,
        lane: &Name,
        now: Instant,
        patience: Duration,
    ) -> Admission {
        let strangers = (!listed.0).then_some(&self.strangers);
        if let Some((place, rest)) = self.take_at_once(&gate, strangers) {
            return enter(gate, place, rest, key, now);
        }
        if let Some(deferral) = gate.shut(key, now) {
            return Admission::Deferred(deferral);
        }
        let crowd = gate.crowds.of(lane);
        let Some(waiting) = crowd.join(now) else {
            return BUSY;
        };
        match timeout(patience, self.take(&gate, strangers, lane)).await {
            Ok((place, rest)) => {
                waiting.succeeded();
                // The gate may have been shut meanwhile. That `now` is a little old does no harm:
                // it makes a pause seem longer by what was waited, never shorter.
                enter(Arc::clone(&gate), place, rest, key, now)
            }
            Err(_elapsed) => {
                waiting.gave_up(now + patience);
                BUSY
            }
        }
    }

    /// Spares the timer when there is room, which is nearly always.
    fn take_at_once(
        &self,
        gate: &OriginGate,
        strangers: Option<&Arc<Places>>,
    ) -> Option<(Place, Rest)> {
        let place = gate.places.try_take()?;
        let shared = match strangers {
            Some(strangers) => Some(strangers.try_take()?),
            None => None,
        };
        let whole = self.all.try_take()?;
        Some((place, Rest::new(shared, whole)))
    }

    /// Waits at the narrowest gate first, so that who waits there holds no place of the others.
    async fn take(
        &self,
        gate: &OriginGate,
        strangers: Option<&Arc<Places>>,
        lane: &Name,
    ) -> (Place, Rest) {
        let place = gate.places.take(lane).await;
        let shared = match strangers {
            Some(strangers) => Some(strangers.take(lane).await),
            None => None,
        };
        let whole = self.all.take(lane).await;
        (place, Rest::new(shared, whole))
    }

    fn gate(&self, origin: &Origin, listed: Listed, now: Instant) -> Arc<OriginGate> {
        self.origins.gate(origin, now, || {
            let most = self.settings.per_origin;
            let start = if listed.0 { most } else { STRANGER_START };
            let begins = Beginning {
                listed,
                limiter: Limiter::new(start, most),
                crowds: Crowds::new(most.div_ceil(2), self.settings.in_flight),
                breaker: self.settings.breaker,
            };
            OriginGate::new(begins, Arc::clone(&self.tripped), now)
        })
    }
}

impl Rest {
    fn new(shared: Option<Place>, whole: Place) -> Self {
        Self {
            _shared: shared,
            _whole: whole,
        }
    }
}

fn enter(gate: Arc<OriginGate>, place: Place, rest: Rest, key: &Name, now: Instant) -> Admission {
    match gate.enter(key, now) {
        Ok(ticket) => Admission::Granted(Permit::new(gate, place, rest, ticket, key, now)),
        Err(deferral) => Admission::Deferred(deferral),
    }
}
