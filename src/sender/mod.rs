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
mod clock_skew;
mod decision;
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
use crate::gate::{Admission, Deferral, Gates, LaneSlots, Permit, Request};
use crate::message::Name;
use crate::metrics::Metrics;
use crate::outcome::{Again, DeferralReason, Meaning, Verdict};
use crate::plan;
use crate::plan::{Push, Terms};
use crate::push_service::Transport;
use crate::retry::{Policies, Policy};
use crate::subscription::Endpoint;
use crate::vapid::VapidKey;
use crate::wire::headers::RetryHistory;

use self::alarms::Alarms;
use self::decision::{AttemptContext, second_request, warning_of};
use self::endpoint_turns::EndpointTurns;
use self::keys::{Keys, RingJudgement, SuspensionCause};
use self::round_trip::{RoundTrip, RoundTrips, Trip};
use self::time::Time;

pub use self::decision::{Next, Wait};
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
    /// Creates a sender that sends by `transport`.
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

    /// Tries one key after the other until the push service accepts one.
    async fn attempt(&self, app: &App, push: Push, mut context: AttemptContext<'_>) -> Next {
        let endpoint = &push.message.subscription.endpoint;
        let (mut mismatch, mut suspended) = (None, None);
        for key in self.keys.in_order(app, &push, context.history) {
            let now = self.time.mono();
            if let Some((left, cause)) = self.keys.suspended(endpoint.origin(), key, now) {
                suspended = suspended.max(Some((left, cause, key.name())));
                continue;
            }
            let change = mismatch.is_some().then_some(Again::AnotherKey);
            context.start_next_with(key.name(), default_key(app, &push));
            match self.try_key(app, key, change, &push, &mut context).await {
                Err(next) => return next,
                Ok(round_trip) if round_trip.verdict.is_key_mismatch() => {
                    context.last_status = round_trip.status;
                    mismatch = Some((key, round_trip));
                }
                Ok(round_trip) => return self.conclude(app, key, push, round_trip, context),
            }
        }
        if let Some((left, cause, key)) = suspended {
            context.start_next_with(key, default_key(app, &push));
            return self.wait_for_key(cause, left, &context);
        }
        match mismatch {
            Some((key, round_trip)) => self.no_key_matches(app, key, push, round_trip, context),
            None => Next::Panicked,
        }
    }

    /// Makes the request with one key, and a second one where that may be accepted at once. An error
    /// is what follows for a recipient that got no answer.
    ///
    /// A request that the service certainly did not see does not count as the first.
    async fn try_key(
        &self,
        app: &App,
        key: &VapidKey,
        mut change: Option<Again>,
        push: &Push,
        context: &mut AttemptContext<'_>,
    ) -> Result<RoundTrip, Next> {
        let endpoint = &push.message.subscription.endpoint;
        let permit = self.admit(endpoint, key.name(), context).await?;
        let now = self.now().wall;
        if let Some(refusal) = self.withdrawn.recipient(context.keys, now) {
            return Err(decision::withdrawn(refusal, context, now));
        }
        let mut answered = None;
        let round_trip = loop {
            let now = self.now().wall;
            let Some(message) = plan::timely(&push.message, &context.terms.deadline, now) else {
                break answered.ok_or_else(|| decision::too_late(context, now))?;
            };
            if let Some(change) = change {
                self.metrics.second_request(change);
                context.warnings.extend(warning_of(change));
            }
            context.requests += 1;
            let trip = Trip {
                app,
                key,
                message: &message,
                history: context.history,
                again: change,
                retry_after_cap: self.policy(context).retry_after_cap,
            };
            let round_trip = self.round_trips.make(trip).await;
            let round_trip =
                round_trip.map_err(|error| decision::unsendable(&error, key, self.now().wall))?;
            let Some(again) = second_request(&round_trip.verdict, &message) else {
                break round_trip;
            };
            if again == Again::FreshToken {
                let origin = endpoint.origin();
                self.round_trips
                    .forget_token(app, key, origin, &round_trip.token);
            }
            change = Some(again);
            answered = Some(round_trip);
        };
        // A dry run says nothing about the push service.
        if app.mode == Mode::Send {
            self.report(endpoint, permit, &round_trip.verdict);
        }
        Ok(round_trip)
    }

    /// Asks for a permit. An error is what follows for a recipient that gets none.
    async fn admit(
        &self,
        endpoint: &Endpoint,
        key: &Name,
        context: &AttemptContext<'_>,
    ) -> Result<Permit, Next> {
        let asked_at = self.time.mono();
        let request = Request {
            origin: endpoint.origin(),
            listing: endpoint.listing(),
            key,
            lane: context.lane,
            deferrals: context.history.deferrals,
        };
        let admission = self.gates.admit(request, asked_at).await;
        let waited = self.time.mono().saturating_duration_since(asked_at);
        self.metrics.admission_waited(endpoint.service(), waited);
        self.metrics.gate_origins(self.gates.origins());
        match admission {
            Admission::Granted(permit) => {
                let open = self.gates.breakers_open();
                self.alarms
                    .gate_changed(endpoint, permit.change(), None, open);
                Ok(permit)
            }
            Admission::Deferred(deferral) => {
                self.metrics.deferred(endpoint.service(), deferral.why);
                Err(self.defer(deferral, context))
            }
        }
    }

    /// Reports the verdict to the gate, which frees the permit.
    fn report(&self, endpoint: &Endpoint, permit: Permit, verdict: &Verdict) {
        let change = permit.report(verdict, self.time.mono());
        let open = self.gates.breakers_open();
        self.alarms
            .gate_changed(endpoint, change, Some(verdict), open);
    }

    /// Records what the answer says of the key, and decides what follows.
    fn conclude(
        &self,
        app: &App,
        key: &VapidKey,
        push: Push,
        round_trip: RoundTrip,
        mut context: AttemptContext<'_>,
    ) -> Next {
        let endpoint = &push.message.subscription.endpoint;
        let verdict = &round_trip.verdict;
        if verdict.meaning == Meaning::Accepted {
            self.keys.accepted(app, key, endpoint, self.time.mono());
        } else if verdict.is_vapid_refusal() {
            let back_off = || self.key_back_off(&context);
            let now = self.time.mono();
            let wait = self.keys.refused(endpoint, key, verdict, now, back_off);
            if let Some(wait) = wait {
                context.last_status = round_trip.status;
                return self.wait_for_key(SuspensionCause::Refusal, wait, &context);
            }
        }
        let mut warnings = push.warnings;
        warnings.append(&mut context.warnings);
        let (policy, now, jitter) = (self.policy(&context), self.now().wall, self.jitter.draw());
        let mut next = decision::decide(policy, round_trip, &context, now, jitter);
        if let Next::Settled(record) = &mut next {
            record.vapid_key = Some(key.name().clone());
            record.warnings = warnings;
        }
        next
    }

    /// Ends a recipient whose subscription was made with another key, or sends it to wait while that
    /// is not certain.
    fn no_key_matches(
        &self,
        app: &App,
        key: &VapidKey,
        push: Push,
        round_trip: RoundTrip,
        mut context: AttemptContext<'_>,
    ) -> Next {
        let endpoint = &push.message.subscription.endpoint;
        let wait = match self.keys.mismatched(app, endpoint, self.time.mono()) {
            RingJudgement::OtherKey => return self.conclude(app, key, push, round_trip, context),
            RingJudgement::Wait { suspended, .. } => suspended,
        };
        context.key = None;
        let wait = wait.unwrap_or_else(|| self.key_back_off(&context));
        self.wait_for_key(SuspensionCause::Mismatch, wait, &context)
    }

    fn defer(&self, deferral: Deferral, context: &AttemptContext<'_>) -> Next {
        decision::defer(deferral, context, self.now().wall, self.jitter.draw())
    }

    fn wait_for_key(
        &self,
        cause: SuspensionCause,
        wait: Duration,
        context: &AttemptContext<'_>,
    ) -> Next {
        decision::wait_for_key(cause, wait, context, self.now().wall, self.jitter.draw())
    }

    /// Returns the wait of a recipient whose key was refused, while the key is not suspended.
    fn key_back_off(&self, context: &AttemptContext<'_>) -> Duration {
        let requests = context.history.requests.saturating_add(1);
        self.policy(context).back_off(requests, self.jitter.draw())
    }

    fn policy(&self, context: &AttemptContext<'_>) -> &Policy {
        self.retry.of(context.service)
    }
}

/// Returns the key that signs first if no other key is known to be the subscription's.
fn default_key<'a>(app: &'a App, push: &'a Push) -> &'a Name {
    push.key.as_ref().unwrap_or(&app.ring.primary).name()
}
