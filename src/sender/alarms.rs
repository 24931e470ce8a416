//! What operators hear of sending: one line in the log and a step of a metric for each kind.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::classify;
use crate::classify::Context;
use crate::clock::seconds;
use crate::gate::Change;
use crate::message::Name;
use crate::metrics::{KeyAlarm, Metrics};
use crate::origin::Service;
use crate::outcome::{Answer, Attempt, BreakerState, Verdict};
use crate::subscription::Endpoint;

use super::clock_skew::ClockSkew;
use super::failures::Failures;

/// What operators have heard before, so that no line repeats without need.
pub(super) struct Alarms {
    /// The kinds of unfamiliar answers. There are as many as services and statuses.
    unfamiliar: Mutex<BTreeSet<(Service, bool, u16)>>,
    failures: Failures,
    metrics: Arc<Metrics>,
}

impl Alarms {
    /// Creates the alarms of a daemon that has reported nothing.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            unfamiliar: Mutex::default(),
            failures: Failures::default(),
            metrics,
        }
    }

    /// Reports a change of an origin's gate, which `verdict` made unless it was time alone;
    /// `breakers_open` is the number of open breakers.
    pub(super) fn gate_changed(
        &self,
        endpoint: &Endpoint,
        change: Option<Change>,
        verdict: Option<&Verdict>,
        breakers_open: usize,
    ) {
        self.metrics.breakers_open(breakers_open);
        let Some(change) = change else { return };
        let (origin, service) = (endpoint.origin(), endpoint.service());
        let push_service = service.name();
        let reason = verdict.map(|verdict| verdict.reason.name());
        let detail = verdict.and_then(|verdict| verdict.detail.as_deref());
        match change {
            Change::Breaker(state, wait) => {
                self.metrics.breaker_turned(service, state);
                match state {
                    BreakerState::Open => {
                        let wait_s = seconds(wait);
                        info!(%origin, push_service, reason, detail, wait_s, "breaker opened");
                    }
                    BreakerState::HalfOpen => info!(%origin, push_service, "breaker half-open"),
                    BreakerState::Closed => info!(%origin, push_service, "breaker closed"),
                }
            }
            Change::Paused(scope, wait) => {
                let (scope, wait_s) = (scope.name(), seconds(wait));
                info!(%origin, push_service, scope, reason, detail, wait_s, "paused");
            }
        }
    }

    /// Reports an answer that `classify` does not recognise, once per service and status.
    ///
    /// Push services change their answers without notice. Such an answer is judged by its status
    /// alone, and the line in the log shows what a later version should recognise. The answer of an
    /// unlisted host does not stand for one of the large services', and its text is not repeated.
    pub(super) fn unfamiliar(&self, attempt: &Attempt, context: &Context, verdict: &Verdict) {
        let Attempt::Answered(answer) = attempt else {
            return;
        };
        if !verdict.unfamiliar || !self.is_first(answer, context) {
            return;
        }
        let push_service = context.service.name();
        let status = answer.status.as_u16();
        let reason = verdict.reason.name();
        if context.listing.is_listed() {
            let answer = classify::evidence(answer);
            warn!(push_service, status, reason, said = %answer, "unfamiliar answer");
        } else {
            info!(
                push_service,
                status, reason, "unfamiliar answer of an unlisted host"
            );
        }
    }

    fn is_first(&self, answer: &Answer, context: &Context) -> bool {
        let listed = context.listing.is_listed();
        let kind = (context.service, listed, answer.status.as_u16());
        let mut reported = self.unfamiliar.lock();
        reported.insert(kind)
    }

    /// Reports an attempt that made no connection.
    pub(super) fn failed(&self, attempt: &Attempt, endpoint: &Endpoint, now: Instant) {
        self.failures.report(attempt, endpoint, now);
    }

    /// Reports the skew between this machine's clock and a listed service's.
    pub(super) fn clock_skew(&self, endpoint: &Endpoint, skew: ClockSkew, is_news: bool) {
        self.metrics.clock_drift(endpoint.service(), skew.seconds());
        if is_news {
            warn!(
                push_service = endpoint.service().name(),
                seconds_ahead = skew.seconds(),
                "this machine's clock is wrong, going by a push service's; set it (NTP), for \
                 deadlines and schedules go by it"
            );
        }
    }

    /// Reports that a push service accepted a key that was suspended.
    pub(super) fn key_accepted(&self, endpoint: &Endpoint, key: &Name) {
        info!(
            origin = %endpoint.origin(),
            %key,
            "a push service takes what this key signs; its suspension is over"
        );
    }

    /// Reports a key that is suspended because no subscription was made with it; the log has it the
    /// `first` time.
    pub(super) fn key_mismatch(&self, endpoint: &Endpoint, key: &Name, first: bool) {
        let (origin, service) = (endpoint.origin(), endpoint.service());
        self.metrics.key_alarm(service, KeyAlarm::Mismatch);
        if first {
            warn!(
                %origin,
                push_service = service.name(),
                %key,
                "no subscription here was made with this key, so it is taken for wrong and its \
                 messages wait: load the right private key and restart; if the key is right and \
                 merely new or unused here, wait, or take it off the ring"
            );
        }
    }

    /// Reports the first refusal of what a key signed.
    pub(super) fn key_refused_once(&self, endpoint: &Endpoint, key: &Name, detail: Option<&str>) {
        info!(
            origin = %endpoint.origin(),
            push_service = endpoint.service().name(),
            %key,
            subscription = %endpoint.fingerprint(),
            detail,
            "a push service refuses what this key signs for one subscription"
        );
    }

    /// Reports a key that is suspended for `wait` because a push service refuses what it signs.
    pub(super) fn key_refused(
        &self,
        endpoint: &Endpoint,
        key: &Name,
        wait: Duration,
        detail: Option<&str>,
    ) {
        let (origin, service) = (endpoint.origin(), endpoint.service());
        self.metrics.key_alarm(service, KeyAlarm::VapidRejected);
        warn!(
            %origin,
            push_service = service.name(),
            %key,
            wait_s = seconds(wait),
            detail,
            "a push service refuses what this key signs for every subscription, so its messages \
             wait: check the private key, the application's subject and this machine's clock, then \
             restart"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::origin::Listing;

    fn alarms() -> Alarms {
        Alarms::new(Arc::new(Metrics::new().unwrap()))
    }

    fn answer(status: u16) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            excerpt: Bytes::new(),
        }
    }

    fn context(service: Service, listed: bool) -> Context {
        Context {
            service,
            listing: Listing::of(listed),
            attempt: 1,
            last_status: None,
            earlier_answers: None,
            tried: None,
            token_age: Duration::ZERO,
            token_untimely: false,
            body_len: 0,
            retry_after_cap: Duration::ZERO,
        }
    }

    #[test]
    fn each_kind_of_unfamiliar_answer_is_reported_once() {
        let alarms = alarms();
        for (service, listed, status, first) in [
            (Service::Mozilla, false, 418, true),
            (Service::Mozilla, true, 418, true),
            (Service::Mozilla, true, 418, false),
            (Service::Mozilla, true, 400, true),
            (Service::Fcm, true, 418, true),
            (Service::Mozilla, false, 418, false),
        ] {
            let context = context(service, listed);
            let reported = alarms.is_first(&answer(status), &context);
            assert_eq!(reported, first, "{service:?} {listed} {status}");
        }
    }

    #[test]
    fn only_what_is_unfamiliar_is_remembered() {
        let alarms = alarms();
        for status in 100..=999 {
            let attempt = Attempt::Answered(answer(status));
            let context = context(Service::Fcm, true);
            let verdict = classify::classify(&attempt, context, UNIX_EPOCH);
            alarms.unfamiliar(&attempt, &context, &verdict);
            let was_told = !alarms.is_first(&answer(status), &context);
            assert_eq!(was_told, verdict.unfamiliar, "{status}");
        }
    }
}
