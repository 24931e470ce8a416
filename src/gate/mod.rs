//! Permits: how many requests may be under way, in all and per origin, and which origins to leave alone.
//!
//! A push service that is slow or down must not use up what the others need, so every request holds a permit
//! of its origin and one of the whole. How many requests an origin takes at once is learned from its answers
//! (`limiter`). An origin that is down is left alone until a probe succeeds (`breaker`). An origin that asks
//! for a pause gets it, for all keys or for the key that was throttled (`pause`). Anybody can choose an
//! unlisted origin: they start small and share at most half of the whole. Each origin has a gate of its own
//! (`table`).
//!
//! Where an operator has set a rate, requests are spaced before they ask for a permit (`rate`), so that a
//! request that waits for its turn holds no permit.
//!
//! # How requests queue
//!
//! 1. A request takes a free permit at once; then there is no waiter.
//! 2. A request without a permit waits in memory, for about a second at most, unless too many of its lane
//!    wait for the origin already (`waiters`): what waits in memory fills the prefetch window, which others
//!    need. All unlisted origins together have one small share of such waiters.
//! 3. A permit that becomes free goes to the lanes in turn, and within a lane to the recipient that was
//!    deferred most often, then to the one that came first (`fair_semaphore`).
//! 4. A recipient that gets no permit waits in the broker (`deferral`). It comes back when those before it
//!    will have been served, at the measured rate of requests to the origin (`throughput`, `line`). A new
//!    recipient does not use the share of waiters that recipients that are about to come back need.
//! 5. The recipients that an origin in a pause defers queue in the same way from the end of the pause. While
//!    an origin is down, their returns are spread, so that they do not all come back at once.
//!
//! Each lane and key has its own queue at an origin (`flow`).
//!
//! A [`Permit`] is free again when it is dropped: on success, panic and cancellation alike. A permit that is
//! dropped without a report is an abandoned request: if it was a breaker's probe, the next request is one.

mod breaker;
mod deferral;
mod fair_semaphore;
mod flow;
mod keys;
mod limiter;
mod line;
mod origin_gate;
mod pause;
mod permit;
mod rate;
mod request;
mod slots;
mod table;
#[cfg(test)]
mod tests;
mod throughput;
mod waiters;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::{Instant, sleep, timeout};

use crate::message::Name;
use crate::origin::{Listing, Origin};
use crate::outcome::DeferralReason;

pub use self::breaker::Settings as BreakerSettings;
pub use self::deferral::Deferral;
pub use self::permit::Permit;
pub use self::rate::Rate;
pub use self::request::{Change, Request};
pub use self::slots::{LaneSlots, Slot};

use self::deferral::Shut;
use self::fair_semaphore::{FairPermit, FairSemaphore};
use self::limiter::Limiter;
use self::origin_gate::{Beginning, Limits, OriginGate};
use self::permit::SharedPermits;
use self::slots::Slots;
use self::table::Table;
use self::waiters::{Waiters, Waiting};

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

/// How many requests an unlisted origin gets at once before it has answered any.
const UNLISTED_START: usize = 50;

/// Of the recipients that may be in flight, one in so many more may wait in memory for unlisted origins,
/// and twice as many where those answer quickly. More would save trips through the broker where there are
/// no others, and fill the prefetch window of the others where there are.
const UNLISTED_WAITERS: usize = 10;

/// How many recipients of one lane may be in hand for each that may be sent to: enough to keep every
/// place taken, and few enough that they all get one before they would be deferred.
const SLOTS_PER_PERMIT: usize = 2;

/// All permits of the daemon.
#[derive(Debug)]
pub struct Gates {
    slots: Arc<Slots>,
    all: Arc<FairSemaphore>,
    unlisted: Arc<FairSemaphore>,
    unlisted_waiters: Arc<Waiters>,
    origins: Arc<Table>,
    tripped: Arc<AtomicUsize>,
    /// What the gates of new origins begin with, whichever settings ask for them.
    latest: Arc<RwLock<Settings>>,
    settings: Settings,
}

/// The answer to asking for a permit.
#[derive(Debug)]
pub enum Admission {
    /// The request may be made.
    Granted(Permit),
    /// Wait in the broker.
    Deferred(Deferral),
}

impl Gates {
    /// Creates the permits that `settings` allow.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let [start, most] = unlisted_waiters(&settings);
        Self {
            slots: Arc::new(Slots::new(slots(&settings))),
            all: FairSemaphore::new(settings.in_flight),
            unlisted: FairSemaphore::new(settings.in_flight.div_ceil(2)),
            unlisted_waiters: Arc::new(Waiters::new(start, most)),
            origins: Arc::new(Table::new(ORIGIN_LIMIT)),
            tripped: Arc::default(),
            latest: Arc::new(RwLock::new(settings)),
            settings,
        }
    }

    /// Returns the same permits with other settings, which hold for every user of the permits from now
    /// on. What is known of origins stays.
    ///
    /// Only rates and waits stay those of `self` for its own users.
    #[must_use]
    pub fn with_settings(&self, settings: Settings) -> Self {
        // Before the origins that exist, so that none begins with the former settings after them.
        *self.latest.write() = settings;
        self.slots.resize(slots(&settings));
        self.all.resize(settings.in_flight);
        self.unlisted.resize(settings.in_flight.div_ceil(2));
        let [start, most] = unlisted_waiters(&settings);
        self.unlisted_waiters.resize(start, most);
        self.origins.for_each(|gate| gate.adopt(limits(&settings)));
        Self {
            slots: Arc::clone(&self.slots),
            all: Arc::clone(&self.all),
            unlisted: Arc::clone(&self.unlisted),
            unlisted_waiters: Arc::clone(&self.unlisted_waiters),
            origins: Arc::clone(&self.origins),
            tripped: Arc::clone(&self.tripped),
            latest: Arc::clone(&self.latest),
            settings,
        }
    }

    /// Returns the slots for recipients of a lane's messages.
    #[must_use]
    pub fn slots(&self, lane: &Name) -> Arc<LaneSlots> {
        self.slots.of(lane)
    }

    /// Asks for a permit, waiting for at most `max_wait`. A shut gate defers at once.
    pub async fn admit(&self, request: Request<'_>, now: Instant) -> Admission {
        let gate = self.gate(request.origin, request.listing, now);
        let patience = self.settings.max_wait;
        let Some(rate) = self.settings.rate else {
            return self.find_room(&gate, request, now, patience).await;
        };
        let wait = match gate.take_turn(request, rate, patience, now) {
            Ok(wait) => wait,
            Err(deferral) => return Admission::Deferred(deferral),
        };
        if !wait.is_zero() {
            sleep(wait).await;
        }
        let admission = self
            .find_room(&gate, request, now + wait, patience - wait)
            .await;
        if let Admission::Deferred(_) = admission {
            gate.give_turn_back(request.key, rate);
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

    /// Gets a permit for one request, waiting for at most `patience`.
    async fn find_room(
        &self,
        gate: &Arc<OriginGate>,
        request: Request<'_>,
        now: Instant,
        patience: Duration,
    ) -> Admission {
        let unlisted = (!request.listing.is_listed()).then_some(&self.unlisted);
        let shut = match self.take_at_once(gate, unlisted) {
            Some((permit, shared_permits)) => {
                match enter(gate, permit, shared_permits, request, now) {
                    Ok(permit) => return Admission::Granted(permit),
                    Err(shut) => Some(shut),
                }
            }
            None => gate.shut(request.key, now),
        };
        let is_brief = |shut: Shut| shut.why == DeferralReason::Paused && shut.left < patience;
        if let Some(shut) = shut.filter(|shut| !is_brief(*shut)) {
            return Admission::Deferred(gate.defer(request, shut, now));
        }
        let Some(waiting) = self.may_wait(gate, request, now) else {
            return Admission::Deferred(gate.defer(request, shut.unwrap_or(Shut::BUSY), now));
        };
        let pause = shut.map(|shut| shut.left).unwrap_or_default();
        let taking = async {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            self.take(gate, unlisted, request).await
        };
        // What waits for the end of a pause waits for a place as long as others do at least half.
        let patience = patience.max(pause + patience / 2);
        let Ok((permit, shared_permits)) = timeout(patience, taking).await else {
            if pause.is_zero() {
                waiting.for_each(|it| it.gave_up(now + patience));
            }
            return Admission::Deferred(gate.defer(request, Shut::BUSY, now + patience));
        };
        waiting.for_each(Waiting::succeeded);
        // The gate may have been shut meanwhile. That `now` is a little old does no harm: it makes a
        // pause seem longer by what was waited for a place, never shorter.
        let now = now + pause;
        match enter(gate, permit, shared_permits, request, now) {
            Ok(permit) => Admission::Granted(permit),
            Err(shut) => Admission::Deferred(gate.defer(request, shut, now)),
        }
    }

    /// Joins the waiters in memory: those of the origin, and those of all unlisted
    /// origins where it is one.
    fn may_wait(
        &self,
        gate: &OriginGate,
        request: Request<'_>,
        now: Instant,
    ) -> Option<impl Iterator<Item = Waiting> + use<>> {
        let position = gate.position(request, now);
        let join = |waiters: &Waiters| waiters.of(request.lane).join(position, now);
        let own = join(&gate.waiters)?;
        let shared = if request.listing.is_listed() {
            None
        } else {
            Some(join(&self.unlisted_waiters)?)
        };
        Some(std::iter::once(own).chain(shared))
    }

    /// Avoids the timer when a permit is free, which is nearly always.
    fn take_at_once(
        &self,
        gate: &OriginGate,
        unlisted: Option<&Arc<FairSemaphore>>,
    ) -> Option<(FairPermit, SharedPermits)> {
        let permit = gate.semaphore.try_take()?;
        let shared = match unlisted {
            Some(unlisted) => Some(unlisted.try_take()?),
            None => None,
        };
        let whole = self.all.try_take()?;
        Some((permit, SharedPermits::new(shared, whole)))
    }

    /// Waits at the narrowest gate first, so that what waits there holds no place of the others. Only
    /// there do those come first that were deferred before: what one origin defers must not take
    /// precedence over the requests of others.
    async fn take(
        &self,
        gate: &OriginGate,
        unlisted: Option<&Arc<FairSemaphore>>,
        request: Request<'_>,
    ) -> (FairPermit, SharedPermits) {
        let lane = request.lane;
        let permit = gate.semaphore.take(lane, request.deferrals).await;
        let shared = match unlisted {
            Some(unlisted) => Some(unlisted.take(lane, 0).await),
            None => None,
        };
        let whole = self.all.take(lane, 0).await;
        (permit, SharedPermits::new(shared, whole))
    }

    fn gate(&self, origin: &Origin, listing: Listing, now: Instant) -> Arc<OriginGate> {
        self.origins.gate(origin, now, || {
            let limits = limits(&self.latest.read());
            let most = limits.requests;
            let start = if listing.is_listed() {
                most
            } else {
                UNLISTED_START
            };
            let begins = Beginning {
                listing,
                limiter: Limiter::new(start, most),
                waiters: Waiters::new(limits.first_waiters, limits.waiters),
                breaker: limits.breaker,
            };
            OriginGate::new(begins, Arc::clone(&self.tripped), now)
        })
    }
}

/// Returns how many slots a lane that is alone can hold.
fn slots(settings: &Settings) -> usize {
    settings.in_flight.saturating_mul(SLOTS_PER_PERMIT)
}

/// Returns how many may wait for all unlisted origins at first, and at most.
fn unlisted_waiters(settings: &Settings) -> [usize; 2] {
    [UNLISTED_WAITERS, UNLISTED_WAITERS / 2].map(|share| settings.in_flight.div_ceil(share))
}

/// Returns the limits of one origin.
fn limits(settings: &Settings) -> Limits {
    Limits {
        requests: settings.per_origin,
        first_waiters: settings.per_origin.div_ceil(2),
        waiters: settings.in_flight,
        breaker: settings.breaker,
    }
}

fn enter(
    gate: &Arc<OriginGate>,
    permit: FairPermit,
    shared_permits: SharedPermits,
    request: Request<'_>,
    now: Instant,
) -> Result<Permit, Shut> {
    let pass = gate.enter(request, now)?;
    let gate = Arc::clone(gate);
    Ok(Permit::new(
        gate,
        permit,
        shared_permits,
        pass,
        request.key,
        now,
    ))
}
