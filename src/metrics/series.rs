//! What is registered: names, helps, labels, buckets.

use prometheus::{Error, Registry};

use crate::origin::Service;
use crate::outcome::{Again, BreakerState, DeferralReason, Meaning, Outcome, Reason, Waiting};
use crate::wire::Kind;

use super::labels::{Confirmed, ControlRead, KeyAlarm, Reload, Role, UNKNOWN_APP};
use super::register::{AGE_BUCKETS, EXCHANGE_BUCKETS};

/// Defines a field for each family of series, and registers it: a row is the field, the kind of metric,
/// its name, its help, the buckets of a histogram, and the labels of several series.
macro_rules! series {
    ($($field:ident: $kind:ident($($argument:expr),*);)*) => {
        /// Every family of series.
        #[derive(Clone, Debug)]
        pub(super) struct Series {
            $(pub(super) $field: super::register::types::$kind,)*
        }

        impl Series {
            /// Registers every series at zero.
            pub(super) fn register(registry: &Registry) -> Result<Self, Error> {
                let series = Self {
                    $($field: super::register::$kind(registry, $($argument),*)?,)*
                };
                series.start_at_zero();
                Ok(series)
            }
        }
    };
}

series! {
    build_info: gauges("build_info", "Always 1; the label is the daemon's version.", &["version"]);
    deliveries: counters("deliveries_total", "Messages taken from the broker.", &["redelivered"]);
    deliveries_in_flight: gauge("deliveries_in_flight", "Messages taken and not yet acknowledged.");
    messages: counters(
        "messages_total",
        "Recipients settled, by what became of them.",
        &["app", "push_service", "outcome", "reason"]
    );
    message_age: histograms(
        "message_age_seconds",
        "From the event's creation to its outcome.",
        AGE_BUCKETS, &["outcome"]
    );
    send_duration: histograms(
        "send_duration_seconds",
        "Exchanges with push services, by what the answer means.",
        EXCHANGE_BUCKETS, &["push_service", "outcome"]
    );
    admission_wait: histograms(
        "admission_wait_seconds",
        "Waiting for a permit to send.",
        EXCHANGE_BUCKETS, &["push_service"]
    );
    requests_in_flight: gauges(
        "requests_in_flight",
        "Requests sent and not yet answered.",
        &["push_service"]
    );
    retries: counters("retries_total", "Recipients sent to wait in the broker.", &["reason"]);
    deferrals: counters(
        "deferrals_total",
        "Recipients that were not admitted, by why; no attempt was used up.",
        &["push_service", "why"]
    );
    gate_origins: gauge("gate_origins", "Origins of push services that are remembered.");
    breakers_open: gauge(
        "breakers_open",
        "Origins that are left alone until a probe finds them up."
    );
    breaker_transitions: counters(
        "breaker_transitions_total",
        "Changes of the breakers of push services.",
        &["push_service", "to"]
    );
    tokens_signed: counter("vapid_tokens_signed_total", "VAPID tokens signed.");
    token_hits: counter("vapid_tokens_cache_hits_total", "VAPID tokens found in the cache.");
    second_requests: counters(
        "second_requests_total",
        "Requests that followed another within one attempt, by what they changed.",
        &["change"]
    );
    key_alarms: counters(
        "key_alarms_total",
        "Pauses of a VAPID key at an origin that an operator must end.",
        &["push_service", "cause"]
    );
    clock_drift: gauges(
        "clock_drift_seconds",
        "How far this machine's clock is ahead of the push service's.",
        &["push_service"]
    );
    gone_unusual: gauges(
        "gone_unusual",
        "Whether most of the last subscriptions were called gone.",
        &["push_service"]
    );
    tombstone_hits: counter(
        "tombstone_hits_total",
        "Recipients settled without a request: their subscription was just found gone."
    );
    pushed_after_gone: counter(
        "pushed_after_gone_total",
        "Recipients of newer events that are pushed to although their subscription was just found gone."
    );
    publishes: counters(
        "publishes_total",
        "Publications, by how the broker answered.",
        &["kind", "result"]
    );
    publish_duration: histogram(
        "publish_duration_seconds",
        "From publishing to the broker's confirm.",
        EXCHANGE_BUCKETS
    );
    publications_refused: gauge(
        "publications_refused",
        "Publications that a full queue rejected or no queue took, published again later."
    );
    broker_connected: gauges("broker_connected", "Whether the connection is up.", &["role"]);
    broker_blocked: gauge(
        "broker_blocked",
        "Whether the broker blocks publishing (memory or disk alarm)."
    );
    broker_reconnects: counter("broker_reconnects_total", "Connections lost or refused.");
    delay_band: real_gauges(
        "delay_band_seconds",
        "How long a delay band is.",
        &["band"]
    );
    delay_probe_age: real_gauges(
        "delay_probe_age_seconds",
        "Since the oldest probe of a delay band was sent that is not known to be back; 0 if all are.",
        &["band"]
    );
    delay_probes_returned: counters(
        "delay_probes_returned_total",
        "Probes of a delay band that came back to this daemon, whoever sent them.",
        &["band"]
    );
    delay_probes_lost: counters(
        "delay_probes_lost_total",
        "Probes of a delay band that were not taken, or did not come back to a daemon that is alone.",
        &["band"]
    );
    control_messages: counters(
        "control_messages_total",
        "Control messages read, those from before the start included.",
        &["kind"]
    );
    control_kept: gauge(
        "control_kept",
        "Events, groups, labels, subscriptions and recipients that are cancelled or forgotten."
    );
    control_dropped: counter(
        "control_dropped_total",
        "Of these, how many were dropped before their time because there were too many."
    );
    control_read: gauges(
        "control_read",
        "Whether control messages are being read; absent with broker.control = \"off\".",
        &[]
    );
    config_reloads: counters(
        "config_reloads_total",
        "Reloads of the configuration (SIGHUP), by whether it was applied.",
        &["result"]
    );
    config_last_reload: gauge(
        "config_last_reload_success_timestamp_seconds",
        "When the configuration was last applied, at the start or by a reload."
    );
    panics: counter("panics_total", "Panics caught; each cost one recipient.");
}

impl Series {
    /// Starts the series of an application at zero.
    pub(super) fn start_app(&self, app: &str) {
        for service in Service::ALL.iter().map(|service| service.name()) {
            for &reason in Reason::ALL {
                let outcome = reason.outcome().name();
                self.messages
                    .with_label_values(&[app, service, outcome, reason.name()]);
            }
        }
    }

    fn start_at_zero(&self) {
        self.start_app(UNKNOWN_APP);
        let version = env!("CARGO_PKG_VERSION");
        self.build_info.with_label_values(&[version]).set(1);
        for redelivered in ["false", "true"] {
            self.deliveries.with_label_values(&[redelivered]);
        }
        for service in Service::ALL.iter().map(|service| service.name()) {
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
        for &kind in ControlRead::ALL {
            self.control_messages.with_label_values(&[kind.name()]);
        }
        for &reload in Reload::ALL {
            self.config_reloads.with_label_values(&[reload.name()]);
        }
        for &role in Role::ALL {
            self.broker_connected.with_label_values(&[role.name()]);
        }
    }
}
