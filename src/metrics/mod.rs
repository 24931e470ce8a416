//! Every metric of the daemon, registered once, with labels that strangers cannot grow.
//!
//! Labels are enums of ours; the one thing a stranger chooses, the host of an endpoint, appears
//! only as the family of its push service. Every series exists from the start at zero.

mod labels;
mod register;

use std::time::Duration;

use prometheus::{
    Encoder, Error, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry, TextEncoder,
};

use crate::origin::Service;
use crate::outcome::{Again, Meaning, Outcome, Reason, Waiting};
use crate::wire::Kind;

pub use self::labels::{BreakerState, Confirmed, Deferred, KeyAlarm, Role};

use self::register::{
    AGE_BUCKETS, EXCHANGE_BUCKETS, counter, counters, gauge, gauges, histogram, histograms,
};

/// The daemon's metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    deliveries: IntCounterVec,
    deliveries_in_flight: IntGauge,
    messages: IntCounterVec,
    message_age: HistogramVec,
    send_duration: HistogramVec,
    admission_wait: HistogramVec,
    requests_in_flight: IntGaugeVec,
    retries: IntCounterVec,
    deferrals: IntCounterVec,
    gate_origins: IntGauge,
    breakers_open: IntGauge,
    breaker_transitions: IntCounterVec,
    tokens_signed: IntCounter,
    token_hits: IntCounter,
    second_requests: IntCounterVec,
    key_alarms: IntCounterVec,
    clock_drift: IntGaugeVec,
    gone_unusual: IntGaugeVec,
    tombstone_hits: IntCounter,
    publishes: IntCounterVec,
    publish_duration: Histogram,
    broker_connected: IntGaugeVec,
    broker_blocked: IntGauge,
    broker_reconnects: IntCounter,
    panics: IntCounter,
}

impl Metrics {
    /// Registers every series at zero.
    ///
    /// # Errors
    /// If two metrics have one name, which a test would have found.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let metrics = Self {
            deliveries: counters(
                &registry,
                "deliveries_total",
                "Messages taken from the broker.",
                &["redelivered"],
            )?,
            deliveries_in_flight: gauge(
                &registry,
                "deliveries_in_flight",
                "Messages taken and not yet acknowledged.",
            )?,
            messages: counters(
                &registry,
                "messages_total",
                "Recipients settled, by what became of them.",
                &["push_service", "outcome", "reason"],
            )?,
            message_age: histograms(
                &registry,
                "message_age_seconds",
                "From the event's creation to its outcome.",
                AGE_BUCKETS,
                &["outcome"],
            )?,
            send_duration: histograms(
                &registry,
                "send_duration_seconds",
                "Exchanges with push services, by what the answer means.",
                EXCHANGE_BUCKETS,
                &["push_service", "outcome"],
            )?,
            admission_wait: histograms(
                &registry,
                "admission_wait_seconds",
                "Waiting for a permit to send.",
                EXCHANGE_BUCKETS,
                &["push_service"],
            )?,
            requests_in_flight: gauges(
                &registry,
                "requests_in_flight",
                "Requests sent and not yet answered.",
                &["push_service"],
            )?,
            retries: counters(
                &registry,
                "retries_total",
                "Recipients sent to wait in the broker.",
                &["reason"],
            )?,
            deferrals: counters(
                &registry,
                "deferrals_total",
                "Recipients that were not admitted, by why; no attempt was used up.",
                &["push_service", "why"],
            )?,
            gate_origins: gauge(
                &registry,
                "gate_origins",
                "Origins of push services that are remembered.",
            )?,
            breakers_open: gauge(
                &registry,
                "breakers_open",
                "Origins that are left alone until a probe finds them up.",
            )?,
            breaker_transitions: counters(
                &registry,
                "breaker_transitions_total",
                "Changes of the breakers of push services.",
                &["push_service", "to"],
            )?,
            tokens_signed: counter(
                &registry,
                "vapid_tokens_signed_total",
                "VAPID tokens signed.",
            )?,
            token_hits: counter(
                &registry,
                "vapid_tokens_cache_hits_total",
                "VAPID tokens found in the cache.",
            )?,
            second_requests: counters(
                &registry,
                "second_requests_total",
                "Requests that followed another within one attempt, by what they changed.",
                &["change"],
            )?,
            key_alarms: counters(
                &registry,
                "key_alarms_total",
                "Pauses of a VAPID key at an origin that an operator must end.",
                &["push_service", "cause"],
            )?,
            clock_drift: gauges(
                &registry,
                "clock_drift_seconds",
                "How far this machine's clock is ahead of the push service's.",
                &["push_service"],
            )?,
            gone_unusual: gauges(
                &registry,
                "gone_unusual",
                "Whether most of the last subscriptions were called gone.",
                &["push_service"],
            )?,
            tombstone_hits: counter(
                &registry,
                "tombstone_hits_total",
                "Recipients settled without a request: their subscription was just found gone.",
            )?,
            publishes: counters(
                &registry,
                "publishes_total",
                "Publications, by how the broker answered.",
                &["kind", "result"],
            )?,
            publish_duration: histogram(
                &registry,
                "publish_duration_seconds",
                "From publishing to the broker's confirm.",
                EXCHANGE_BUCKETS,
            )?,
            broker_connected: gauges(
                &registry,
                "broker_connected",
                "Whether the connection is up.",
                &["role"],
            )?,
            broker_blocked: gauge(
                &registry,
                "broker_blocked",
                "Whether the broker blocks publishing (memory or disk alarm).",
            )?,
            broker_reconnects: counter(
                &registry,
                "broker_reconnects_total",
                "Connections lost or refused.",
            )?,
            panics: counter(
                &registry,
                "panics_total",
                "Panics caught; each cost one recipient.",
            )?,
            registry,
        };
        metrics.start_at_zero();
        Ok(metrics)
    }

    fn start_at_zero(&self) {
        for redelivered in ["false", "true"] {
            self.deliveries.with_label_values(&[redelivered]);
        }
        for service in Service::ALL.map(Service::name) {
            for reason in Reason::ALL {
                self.messages
                    .with_label_values(&[service, reason.outcome().name(), reason.name()]);
            }
            for meaning in Meaning::ALL {
                self.send_duration
                    .with_label_values(&[service, meaning.name()]);
            }
            self.admission_wait.with_label_values(&[service]);
            self.requests_in_flight.with_label_values(&[service]);
            self.clock_drift.with_label_values(&[service]);
            self.gone_unusual.with_label_values(&[service]);
            for cause in KeyAlarm::ALL {
                self.key_alarms.with_label_values(&[service, cause.name()]);
            }
            for why in Deferred::ALL {
                self.deferrals.with_label_values(&[service, why.name()]);
            }
            for to in BreakerState::ALL {
                self.breaker_transitions
                    .with_label_values(&[service, to.name()]);
            }
        }
        for outcome in Outcome::ALL {
            self.message_age.with_label_values(&[outcome.name()]);
        }
        for again in Again::ALL {
            self.second_requests.with_label_values(&[again.name()]);
        }
        for waiting in Waiting::ALL {
            self.retries.with_label_values(&[waiting.name()]);
        }
        for kind in Kind::ALL {
            for confirmed in Confirmed::ALL {
                self.publishes
                    .with_label_values(&[kind.name(), confirmed.name()]);
            }
        }
        for role in Role::ALL {
            self.broker_connected.with_label_values(&[role.name()]);
        }
    }

    /// Renders every series in Prometheus' text format.
    ///
    /// # Errors
    /// If a metric cannot be encoded.
    pub fn render(&self) -> Result<String, Error> {
        let mut text = Vec::with_capacity(64 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Counts a message taken from the broker.
    pub fn delivery_taken(&self, redelivered: bool) {
        self.deliveries
            .with_label_values(&[if redelivered { "true" } else { "false" }])
            .inc();
        self.deliveries_in_flight.inc();
    }

    /// Counts a delivery that is acknowledged, or whose generation is over.
    pub fn delivery_ended(&self) {
        self.deliveries_in_flight.dec();
    }

    /// Counts a settled recipient, `age` after its event was created.
    pub fn message_settled(&self, service: Service, reason: Reason, age: Duration) {
        let outcome = reason.outcome().name();
        self.messages
            .with_label_values(&[service.name(), outcome, reason.name()])
            .inc();
        self.message_age
            .with_label_values(&[outcome])
            .observe(age.as_secs_f64());
    }

    /// Counts a recipient that is sent to wait.
    pub fn recipient_waits(&self, waiting: Waiting) {
        self.retries.with_label_values(&[waiting.name()]).inc();
    }

    /// Counts a recipient that is not admitted.
    pub fn deferred(&self, service: Service, why: Deferred) {
        self.deferrals
            .with_label_values(&[service.name(), why.name()])
            .inc();
    }

    /// Records one exchange with a push service.
    pub fn exchange(&self, service: Service, meaning: Meaning, elapsed: Duration) {
        let labels = [service.name(), meaning.name()];
        self.send_duration
            .with_label_values(&labels)
            .observe(elapsed.as_secs_f64());
    }

    /// Records how long a recipient waited for its permit.
    pub fn admission_waited(&self, service: Service, elapsed: Duration) {
        self.admission_wait
            .with_label_values(&[service.name()])
            .observe(elapsed.as_secs_f64());
    }

    /// Counts a request in flight until the guard is dropped, however that comes about.
    #[must_use]
    pub fn request_in_flight(&self, service: Service) -> InFlight {
        let gauge = self.requests_in_flight.with_label_values(&[service.name()]);
        gauge.inc();
        InFlight(gauge)
    }

    /// Shows how many origins the gates remember.
    pub fn gate_origins(&self, count: usize) {
        self.gate_origins
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Shows how many breakers are not closed.
    pub fn breakers_open(&self, count: usize) {
        self.breakers_open
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a breaker that changed.
    pub fn breaker_turned(&self, service: Service, to: BreakerState) {
        self.breaker_transitions
            .with_label_values(&[service.name(), to.name()])
            .inc();
    }

    /// Counts a VAPID token that was signed or found in the cache.
    pub fn token(&self, signed: bool) {
        if signed {
            self.tokens_signed.inc()
        } else {
            self.token_hits.inc()
        }
    }

    /// Counts a request that follows another within one attempt.
    pub fn second_request(&self, again: Again) {
        self.second_requests
            .with_label_values(&[again.name()])
            .inc();
    }

    /// Counts a pause of a key at an origin that an operator must end.
    pub fn key_alarm(&self, service: Service, cause: KeyAlarm) {
        self.key_alarms
            .with_label_values(&[service.name(), cause.name()])
            .inc();
    }

    /// Shows by how many seconds this machine's clock is ahead of a push service's.
    pub fn clock_drift(&self, service: Service, seconds_ahead: i64) {
        self.clock_drift
            .with_label_values(&[service.name()])
            .set(seconds_ahead);
    }

    /// Shows whether most of the last subscriptions were called gone.
    pub fn gone_unusual(&self, service: Service, is_unusual: bool) {
        self.gone_unusual
            .with_label_values(&[service.name()])
            .set(i64::from(is_unusual));
    }

    /// Counts a recipient whose subscription was called gone before, and who costs no request.
    pub fn tombstone_hit(&self) {
        self.tombstone_hits.inc();
    }

    /// Counts the broker's answer to a publication, `elapsed` after it was published.
    pub fn published(&self, kind: Kind, confirmed: Confirmed, elapsed: Duration) {
        self.publishes
            .with_label_values(&[kind.name(), confirmed.name()])
            .inc();
        self.publish_duration.observe(elapsed.as_secs_f64());
    }

    /// Shows whether a connection to the broker is up.
    pub fn broker_connected(&self, role: Role, up: bool) {
        self.broker_connected
            .with_label_values(&[role.name()])
            .set(i64::from(up));
    }

    /// Shows whether the broker blocks publishing.
    pub fn broker_blocked(&self, blocked: bool) {
        self.broker_blocked.set(i64::from(blocked));
    }

    /// Counts a connection that was lost or refused.
    pub fn broker_reconnects(&self) {
        self.broker_reconnects.inc();
    }

    /// Counts a panic that was caught.
    pub fn panicked(&self) {
        self.panics.inc();
    }
}

/// A request that is under way.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_exists_from_the_start_and_their_number_is_bounded() {
        let metrics = Metrics::new().unwrap();
        let before = metrics.render().unwrap();
        assert!(before.contains(
            r#"pushrider_messages_total{outcome="gone",push_service="fcm",reason="unsubscribed"} 0"#
        ));
        metrics.message_settled(Service::Fcm, Reason::Unsubscribed, Duration::from_secs(1));
        metrics.recipient_waits(Waiting::Retry(Reason::Throttled));
        metrics.exchange(Service::Other, Meaning::Retryable, Duration::from_secs(1));
        metrics.published(Kind::Chunk, Confirmed::Lost, Duration::ZERO);
        metrics.deferred(Service::Fcm, Deferred::Rate);
        metrics.breaker_turned(Service::Apple, BreakerState::HalfOpen);
        let after = metrics.render().unwrap();
        assert_eq!(after.lines().count(), before.lines().count());
        assert!(after.contains(
            r#"pushrider_messages_total{outcome="gone",push_service="fcm",reason="unsubscribed"} 1"#
        ));
        assert!(after.contains(r#"pushrider_retries_total{reason="throttled"} 1"#));
        for (text, count) in [(&before, 0), (&after, 1)] {
            let labels = r#"push_service="apple",to="half_open""#;
            let line = format!("pushrider_breaker_transitions_total{{{labels}}} {count}");
            assert!(text.contains(&line), "{line}");
        }
    }

    #[test]
    fn a_request_is_in_flight_until_its_guard_is_dropped() {
        let metrics = Metrics::new().unwrap();
        let shows = |count: i32| {
            let line = format!("pushrider_requests_in_flight{{push_service=\"apple\"}} {count}");
            assert!(metrics.render().unwrap().contains(&line), "{line}");
        };
        let guard = metrics.request_in_flight(Service::Apple);
        shows(1);
        drop(guard);
        shows(0);
    }
}
