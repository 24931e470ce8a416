//! What is registered: names, helps, labels, buckets.

use prometheus::{
    Error, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use crate::origin::Service;
use crate::outcome::{Again, DeferralReason, Meaning, Outcome, Reason, Waiting};
use crate::wire::Kind;

use super::labels::{BreakerState, Confirmed, KeyAlarm, Role};
use super::register::{
    AGE_BUCKETS, EXCHANGE_BUCKETS, counter, counters, gauge, gauges, histogram, histograms,
};

/// Every family of series.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) deliveries: IntCounterVec,
    pub(super) deliveries_in_flight: IntGauge,
    pub(super) messages: IntCounterVec,
    pub(super) message_age: HistogramVec,
    pub(super) send_duration: HistogramVec,
    pub(super) admission_wait: HistogramVec,
    pub(super) requests_in_flight: IntGaugeVec,
    pub(super) retries: IntCounterVec,
    pub(super) deferrals: IntCounterVec,
    pub(super) gate_origins: IntGauge,
    pub(super) breakers_open: IntGauge,
    pub(super) breaker_transitions: IntCounterVec,
    pub(super) tokens_signed: IntCounter,
    pub(super) token_hits: IntCounter,
    pub(super) second_requests: IntCounterVec,
    pub(super) key_alarms: IntCounterVec,
    pub(super) clock_drift: IntGaugeVec,
    pub(super) gone_unusual: IntGaugeVec,
    pub(super) tombstone_hits: IntCounter,
    pub(super) publishes: IntCounterVec,
    pub(super) publish_duration: Histogram,
    pub(super) publications_refused: IntGauge,
    pub(super) broker_connected: IntGaugeVec,
    pub(super) broker_blocked: IntGauge,
    pub(super) broker_reconnects: IntCounter,
    pub(super) panics: IntCounter,
}

impl Series {
    /// Registers every series at zero.
    pub(super) fn register(registry: &Registry) -> Result<Self, Error> {
        let series = Self {
            deliveries: counters(
                registry,
                "deliveries_total",
                "Messages taken from the broker.",
                &["redelivered"],
            )?,
            deliveries_in_flight: gauge(
                registry,
                "deliveries_in_flight",
                "Messages taken and not yet acknowledged.",
            )?,
            messages: counters(
                registry,
                "messages_total",
                "Recipients settled, by what became of them.",
                &["push_service", "outcome", "reason"],
            )?,
            message_age: histograms(
                registry,
                "message_age_seconds",
                "From the event's creation to its outcome.",
                AGE_BUCKETS,
                &["outcome"],
            )?,
            send_duration: histograms(
                registry,
                "send_duration_seconds",
                "Exchanges with push services, by what the answer means.",
                EXCHANGE_BUCKETS,
                &["push_service", "outcome"],
            )?,
            admission_wait: histograms(
                registry,
                "admission_wait_seconds",
                "Waiting for a permit to send.",
                EXCHANGE_BUCKETS,
                &["push_service"],
            )?,
            requests_in_flight: gauges(
                registry,
                "requests_in_flight",
                "Requests sent and not yet answered.",
                &["push_service"],
            )?,
            retries: counters(
                registry,
                "retries_total",
                "Recipients sent to wait in the broker.",
                &["reason"],
            )?,
            deferrals: counters(
                registry,
                "deferrals_total",
                "Recipients that were not admitted, by why; no attempt was used up.",
                &["push_service", "why"],
            )?,
            gate_origins: gauge(
                registry,
                "gate_origins",
                "Origins of push services that are remembered.",
            )?,
            breakers_open: gauge(
                registry,
                "breakers_open",
                "Origins that are left alone until a probe finds them up.",
            )?,
            breaker_transitions: counters(
                registry,
                "breaker_transitions_total",
                "Changes of the breakers of push services.",
                &["push_service", "to"],
            )?,
            tokens_signed: counter(
                registry,
                "vapid_tokens_signed_total",
                "VAPID tokens signed.",
            )?,
            token_hits: counter(
                registry,
                "vapid_tokens_cache_hits_total",
                "VAPID tokens found in the cache.",
            )?,
            second_requests: counters(
                registry,
                "second_requests_total",
                "Requests that followed another within one attempt, by what they changed.",
                &["change"],
            )?,
            key_alarms: counters(
                registry,
                "key_alarms_total",
                "Pauses of a VAPID key at an origin that an operator must end.",
                &["push_service", "cause"],
            )?,
            clock_drift: gauges(
                registry,
                "clock_drift_seconds",
                "How far this machine's clock is ahead of the push service's.",
                &["push_service"],
            )?,
            gone_unusual: gauges(
                registry,
                "gone_unusual",
                "Whether most of the last subscriptions were called gone.",
                &["push_service"],
            )?,
            tombstone_hits: counter(
                registry,
                "tombstone_hits_total",
                "Recipients settled without a request: their subscription was just found gone.",
            )?,
            publishes: counters(
                registry,
                "publishes_total",
                "Publications, by how the broker answered.",
                &["kind", "result"],
            )?,
            publish_duration: histogram(
                registry,
                "publish_duration_seconds",
                "From publishing to the broker's confirm.",
                EXCHANGE_BUCKETS,
            )?,
            publications_refused: gauge(
                registry,
                "publications_refused",
                "Publications that a full queue rejected or no queue took, published again later.",
            )?,
            broker_connected: gauges(
                registry,
                "broker_connected",
                "Whether the connection is up.",
                &["role"],
            )?,
            broker_blocked: gauge(
                registry,
                "broker_blocked",
                "Whether the broker blocks publishing (memory or disk alarm).",
            )?,
            broker_reconnects: counter(
                registry,
                "broker_reconnects_total",
                "Connections lost or refused.",
            )?,
            panics: counter(
                registry,
                "panics_total",
                "Panics caught; each cost one recipient.",
            )?,
        };
        series.start_at_zero();
        Ok(series)
    }

    fn start_at_zero(&self) {
        for redelivered in ["false", "true"] {
            self.deliveries.with_label_values(&[redelivered]);
        }
        for service in Service::ALL.iter().map(|service| service.name()) {
            for &reason in Reason::ALL {
                self.messages
                    .with_label_values(&[service, reason.outcome().name(), reason.name()]);
            }
            for &meaning in Meaning::ALL {
                self.send_duration
                    .with_label_values(&[service, meaning.name()]);
            }
            self.admission_wait.with_label_values(&[service]);
            self.requests_in_flight.with_label_values(&[service]);
            self.clock_drift.with_label_values(&[service]);
            self.gone_unusual.with_label_values(&[service]);
            for &cause in KeyAlarm::ALL {
                self.key_alarms.with_label_values(&[service, cause.name()]);
            }
            for &reason in DeferralReason::ALL {
                self.deferrals.with_label_values(&[service, reason.name()]);
            }
            for &to in BreakerState::ALL {
                self.breaker_transitions
                    .with_label_values(&[service, to.name()]);
            }
        }
        for &outcome in Outcome::ALL {
            self.message_age.with_label_values(&[outcome.name()]);
        }
        for &again in Again::ALL {
            self.second_requests.with_label_values(&[again.name()]);
        }
        for waiting in Waiting::ALL {
            self.retries.with_label_values(&[waiting.name()]);
        }
        for &kind in Kind::ALL {
            for &confirmed in Confirmed::ALL {
                self.publishes
                    .with_label_values(&[kind.name(), confirmed.name()]);
            }
        }
        for &role in Role::ALL {
            self.broker_connected.with_label_values(&[role.name()]);
        }
    }
}
