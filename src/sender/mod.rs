//! Sends to one recipient: the way from a planned push to its end, or to a wait in the broker.
//!
//! [`Sender::send`] makes one attempt. Its steps, in order:
//!
//! 1. **Turn** ([`endpoint_turns`]): some push services take one request at a time per subscription.
//! 2. **Key** ([`keys`]): the keys of the ring are tried one after the other, the likeliest first.
//! 3. **Permit** ([`crate::gate`]): no permit within a second means a wait in the broker.
//! 4. **Round trip** ([`round_trip`]): sign, encrypt, send, and classify the answer.
//! 5. **Second request**: made at once where the verdict says that a changed request may be accepted.
//! 6. **Decision** ([`decision`]): the recipient ends, or it waits for the next attempt.
//!
//! An attempt is mostly one request. There are more in two cases: a service refuses a token, a topic,
//! a TTL or a coding, and gets one request that differs; or the subscription was made with another
//! key, and each key of the ring is tried.

mod alarms;
mod attempt;
mod clock_skew;
mod decision;
mod encryption;
mod endpoint_turns;
mod failures;
mod keys;
mod request;
mod round_trip;
mod time;
mod unconfirmed;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;

use crate::app::{App, Mode};
use crate::clock::{Clock, Jitter, Now};
use crate::control;
use crate::control::Withdrawn;
use crate::gate;
use crate::gate::{Deferral, Gates, LaneSlots};
use crate::message::Name;
use crate::metrics::Metrics;
use crate::outcome::DeferralReason;
use crate::plan::{Push, Terms};
use crate::push_service::Transport;
use crate::retry::Policies;
use crate::wire::headers::RetryHistory;

use self::alarms::Alarms;
use self::decision::AttemptContext;
use self::endpoint_turns::EndpointTurns;
use self::keys::Keys;
use self::round_trip::RoundTrips;
use self::time::Time;

pub use self::decision::{Next, Wait};
pub use self::encryption::Encryption;
pub use self::keys::{StateError, StateFile, SubscriptionKeys};

/// The operator's choices about sending.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Retries, by the family of the push service.
    pub retry: Policies,
    /// One deadline over a whole round trip to a push service.
    pub push_timeout: Duration,
}

/// Sends to recipients, many at a time.
pub struct Sender<T> {
    round_trips: RoundTrips<T>,
    endpoint_turns: Arc<EndpointTurns>,
    keys: Arc<Keys>,
    gates: Gates,
    retry: Policies,
    alarms: Arc<Alarms>,
    withdrawn: Arc<Withdrawn>,
    metrics: Arc<Metrics>,
    time: Arc<Time>,
    jitter: Arc<dyn Jitter>,
}

impl<T: Transport> Sender<T> {
    /// Creates a sender that sends by `transport` and encrypts on the threads of its callers.
    pub fn new(
        settings: Settings,
        transport: T,
        gates: Gates,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        jitter: Arc<dyn Jitter>,
    ) -> Self {
        let time = Arc::new(Time::new(clock));
        let alarms = Arc::new(Alarms::new(Arc::clone(&metrics)));
        Self {
            round_trips: RoundTrips::new(
                Arc::new(transport),
                settings.push_timeout,
                Arc::clone(&time),
                Arc::clone(&jitter),
                Arc::clone(&alarms),
                Arc::clone(&metrics),
            ),
            endpoint_turns: Arc::default(),
            keys: Arc::new(Keys::new(Arc::clone(&alarms))),
            gates,
            retry: settings.retry,
            alarms,
            withdrawn: Arc::default(),
            metrics,
            time,
            jitter,
        }
    }

    /// Returns the same sender, which encrypts by `encryption`.
    #[must_use]
    pub fn with_encryption(self, encryption: Encryption) -> Self {
        Self {
            round_trips: self.round_trips.with_encryption(encryption),
            ..self
        }
    }

    /// Returns a sender with other settings that knows what this one has learned: of keys, tokens,
    /// origins and clocks. It sends by `transport` if there is one, else as this one does.
    ///
    /// What is under way by this one ends with its own settings, but the permits are one for both.
    #[must_use]
    pub fn with_settings(
        &self,
        settings: Settings,
        gates: gate::Settings,
        transport: Option<T>,
    ) -> Self {
        let transport = transport.map(Arc::new);
        Self {
            round_trips: self.round_trips.with(transport, settings.push_timeout),
            endpoint_turns: Arc::clone(&self.endpoint_turns),
            keys: Arc::clone(&self.keys),
            gates: self.gates.with_settings(gates),
            retry: settings.retry,
            alarms: Arc::clone(&self.alarms),
            withdrawn: Arc::clone(&self.withdrawn),
            metrics: Arc::clone(&self.metrics),
            time: Arc::clone(&self.time),
            jitter: Arc::clone(&self.jitter),
        }
    }

    /// Returns the keys that subscriptions were found to be made with, which should outlive a restart.
    #[must_use]
    pub fn subscription_keys(&self) -> &Arc<SubscriptionKeys> {
        self.keys.subscription_keys()
    }

    /// Returns what is cancelled and forgotten.
    #[must_use]
    pub fn withdrawn(&self) -> &Arc<Withdrawn> {
        &self.withdrawn
    }

    /// Returns the slots for recipients of a lane.
    #[must_use]
    pub fn slots(&self, lane: &Name) -> Arc<LaneSlots> {
        self.gates.slots(lane)
    }

    /// Returns the time that deadlines go by: the earliest that it may be.
    #[must_use]
    pub fn now(&self) -> Now {
        self.time.now()
    }

    /// Returns the earliest and the latest time that it may be.
    #[must_use]
    pub fn time_bounds(&self) -> (SystemTime, SystemTime) {
        self.time.bounds()
    }

    /// Draws a number from 0 to 1 that spreads waits.
    #[must_use]
    pub fn jitter(&self) -> f64 {
        self.jitter.draw()
    }

    /// Makes one attempt at a recipient. A panic ends that recipient alone.
    pub async fn send(
        &self,
        app: &App,
        push: Push,
        lane: &Name,
        terms: &Terms,
        history: &RetryHistory,
        keys: control::Keys<'_>,
    ) -> Next {
        let service = push.message.subscription.endpoint.service();
        let context = AttemptContext::new(service, lane, terms, history, keys);
        let attempt = AssertUnwindSafe(self.attempt_in_turn(app, push, context));
        attempt.catch_unwind().await.unwrap_or_else(|_panic| {
            self.metrics.panicked();
            Next::Panicked
        })
    }

    /// Makes one attempt after the others at the same subscription, where its push service needs that.
    /// A recipient whose turn does not come in time waits in the broker.
    async fn attempt_in_turn(&self, app: &App, push: Push, context: AttemptContext<'_>) -> Next {
        let service = context.service;
        if app.mode == Mode::DryRun || !endpoint_turns::are_needed(service) {
            return self.attempt(app, push, context).await;
        }
        let subscription = push.message.subscription.endpoint.fingerprint();
        let Some(turn) = self.endpoint_turns.take(subscription).await else {
            self.metrics.deferred(service, DeferralReason::Busy);
            return self.defer(Deferral::of(DeferralReason::Busy, Duration::ZERO), &context);
        };
        let next = self.attempt(app, push, context).await;
        turn.end();
        next
    }
}
