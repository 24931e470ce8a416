//! One attempt at a recipient that has its turn: key, permit, round trip, decision.

use std::time::Duration;

use crate::app::{App, Mode};
use crate::gate::{Admission, Deferral, Permit, Request};
use crate::message::Name;
use crate::outcome::{Again, Meaning, Verdict};
use crate::plan;
use crate::plan::Push;
use crate::push_service::Transport;
use crate::retry::Policy;
use crate::subscription::Endpoint;
use crate::vapid::VapidKey;

use super::decision::{AttemptContext, second_request, warning_of};
use super::keys::{RingJudgement, SuspensionCause};
use super::round_trip::{RoundTrip, Trip};
use super::{Next, Sender, decision};

impl<T: Transport> Sender<T> {
    /// Tries one key after the other until the push service accepts one.
    pub(super) async fn attempt(
        &self,
        app: &App,
        push: Push,
        mut context: AttemptContext<'_>,
    ) -> Next {
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

    pub(super) fn defer(&self, deferral: Deferral, context: &AttemptContext<'_>) -> Next {
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
