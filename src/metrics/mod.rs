//! Every metric of the daemon, registered once, with labels that outsiders cannot grow.
//!
//! Labels are enums of this crate and the configured applications. The host of an endpoint, which anybody
//! can choose, appears only as the family of its push service. Every series exists from the start at zero.

mod labels;
mod process;
mod register;
mod series;

use std::time::{Duration, SystemTime};

use prometheus::{Encoder, Error, IntGauge, Registry, TextEncoder};

use crate::message::Name;
use crate::origin::Service;
use crate::outcome::{Again, BreakerState, DeferralReason, Meaning, Reason, Waiting};
use crate::wire::Kind;

pub use self::labels::{Confirmed, ControlRead, KeyAlarm, Reload, Role};

use self::labels::UNKNOWN_APP;
use self::process::Process;
use self::series::Series;

/// The daemon's metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    series: Series,
}

impl Metrics {
    /// Registers every series at zero.
    ///
    /// # Errors
    /// If two metrics have one name, which a test would have found.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let series = Series::register(&registry)?;
        registry.register(Box::new(Process::new()?))?;
        Ok(Self { registry, series })
    }

    /// Starts the series of a configured application at zero.
    pub fn start_app(&self, app: &Name) {
        self.series.start_app(app.as_str());
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
        self.series
            .deliveries
            .with_label_values(&[if redelivered { "true" } else { "false" }])
            .inc();
        self.series.deliveries_in_flight.inc();
    }

    /// Counts a delivery that is acknowledged, or whose generation is over.
    pub fn delivery_ended(&self) {
        self.series.deliveries_in_flight.dec();
    }

    /// Counts a settled recipient, `age` after its event was created; `app` must be a configured
    /// application, or `None`.
    pub fn message_settled(
        &self,
        app: Option<&Name>,
        service: Service,
        reason: Reason,
        age: Duration,
    ) {
        let app = app.map_or(UNKNOWN_APP, Name::as_str);
        let outcome = reason.outcome().name();
        self.series
            .messages
            .with_label_values(&[app, service.name(), outcome, reason.name()])
            .inc();
        self.series
            .message_age
            .with_label_values(&[outcome])
            .observe(age.as_secs_f64());
    }

    /// Counts a recipient that is sent to wait.
    pub fn recipient_waits(&self, waiting: Waiting) {
        self.series
            .retries
            .with_label_values(&[waiting.name()])
            .inc();
    }

    /// Counts a recipient that is not admitted.
    pub fn deferred(&self, service: Service, reason: DeferralReason) {
        self.series
            .deferrals
            .with_label_values(&[service.name(), reason.name()])
            .inc();
    }

    /// Records one exchange with a push service.
    pub fn exchange(&self, service: Service, meaning: Meaning, elapsed: Duration) {
        let labels = [service.name(), meaning.name()];
        self.series
            .send_duration
            .with_label_values(&labels)
            .observe(elapsed.as_secs_f64());
    }

    /// Records how long a recipient waited for its permit.
    pub fn admission_waited(&self, service: Service, elapsed: Duration) {
        self.series
            .admission_wait
            .with_label_values(&[service.name()])
            .observe(elapsed.as_secs_f64());
    }

    /// Counts a request in flight until the guard is dropped, however that comes about.
    #[must_use]
    pub fn request_in_flight(&self, service: Service) -> InFlight {
        let gauge = self
            .series
            .requests_in_flight
            .with_label_values(&[service.name()]);
        gauge.inc();
        InFlight(gauge)
    }

    /// Shows how many origins the gates remember.
    pub fn gate_origins(&self, count: usize) {
        self.series
            .gate_origins
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Shows how many breakers are not closed.
    pub fn breakers_open(&self, count: usize) {
        self.series
            .breakers_open
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a breaker that changed.
    pub fn breaker_turned(&self, service: Service, to: BreakerState) {
        self.series
            .breaker_transitions
            .with_label_values(&[service.name(), to.name()])
            .inc();
    }

    /// Counts a VAPID token that was signed or found in the cache.
    pub fn token(&self, signed: bool) {
        if signed {
            self.series.tokens_signed.inc()
        } else {
            self.series.token_hits.inc()
        }
    }

    /// Counts a request that follows another within one attempt.
    pub fn second_request(&self, again: Again) {
        self.series
            .second_requests
            .with_label_values(&[again.name()])
            .inc();
    }

    /// Counts a pause of a key at an origin that an operator must end.
    pub fn key_alarm(&self, service: Service, cause: KeyAlarm) {
        self.series
            .key_alarms
            .with_label_values(&[service.name(), cause.name()])
            .inc();
    }

    /// Shows by how many seconds this machine's clock is ahead of a push service's.
    pub fn clock_drift(&self, service: Service, seconds_ahead: i64) {
        self.series
            .clock_drift
            .with_label_values(&[service.name()])
            .set(seconds_ahead);
    }

    /// Shows whether most of the last subscriptions were called gone.
    pub fn gone_unusual(&self, service: Service, is_unusual: bool) {
        self.series
            .gone_unusual
            .with_label_values(&[service.name()])
            .set(i64::from(is_unusual));
    }

    /// Counts a recipient whose subscription was called gone before, and that costs no request.
    pub fn tombstone_hit(&self) {
        self.series.tombstone_hits.inc();
    }

    /// Counts a recipient that is pushed to although its subscription was called gone before.
    pub fn pushed_after_gone(&self) {
        self.series.pushed_after_gone.inc();
    }

    /// Counts the broker's answer to a publication, `elapsed` after it was published.
    pub fn published(&self, kind: Kind, confirmed: Confirmed, elapsed: Duration) {
        self.series
            .publishes
            .with_label_values(&[kind.name(), confirmed.name()])
            .inc();
        self.series.publish_duration.observe(elapsed.as_secs_f64());
    }

    /// Shows how many publications the broker refused and must take before their messages can be
    /// acknowledged.
    pub fn publications_refused(&self, count: usize) {
        self.series
            .publications_refused
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Shows whether a connection to the broker is up.
    pub fn broker_connected(&self, role: Role, up: bool) {
        self.series
            .broker_connected
            .with_label_values(&[role.name()])
            .set(i64::from(up));
    }

    /// Shows whether the broker blocks publishing.
    pub fn broker_blocked(&self, blocked: bool) {
        self.series.broker_blocked.set(i64::from(blocked));
    }

    /// Counts a connection that was lost or refused.
    pub fn broker_reconnects(&self) {
        self.series.broker_reconnects.inc();
    }

    /// Counts a control message.
    pub fn control_message(&self, kind: ControlRead) {
        self.series
            .control_messages
            .with_label_values(&[kind.name()])
            .inc();
    }

    /// Shows how much is cancelled and forgotten, and counts what was dropped before its time.
    pub fn control_kept(&self, kept: usize, dropped: usize) {
        self.series
            .control_kept
            .set(i64::try_from(kept).unwrap_or(i64::MAX));
        self.series
            .control_dropped
            .inc_by(u64::try_from(dropped).unwrap_or(u64::MAX));
    }

    /// Shows whether control messages are being read.
    pub fn control_read(&self, is_read: bool) {
        let no_labels: [&str; 0] = [];
        let series = self.series.control_read.with_label_values(&no_labels);
        series.set(i64::from(is_read));
    }

    /// Counts a configuration that was read again.
    pub fn config_reloaded(&self, result: Reload) {
        self.series
            .config_reloads
            .with_label_values(&[result.name()])
            .inc();
    }

    /// Shows when the configuration was last applied.
    pub fn config_applied(&self, at: SystemTime) {
        let since = at.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.unwrap_or_default().as_secs();
        self.series
            .config_last_reload
            .set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// Starts the series of a delay band at zero.
    pub fn start_delay_band(&self, band: &str, length: Duration) {
        let series = &self.series;
        let seconds = series.delay_band.with_label_values(&[band]);
        seconds.set(length.as_secs_f64());
        series.delay_probe_age.with_label_values(&[band]);
        series.delay_probes_returned.with_label_values(&[band]);
        series.delay_probes_lost.with_label_values(&[band]);
    }

    /// Shows how long ago the oldest probe of a delay band was sent that is not known to be back.
    pub fn delay_probe_age(&self, band: &str, age: Duration) {
        self.series
            .delay_probe_age
            .with_label_values(&[band])
            .set(age.as_secs_f64());
    }

    /// Counts a probe of a delay band that came back.
    pub fn delay_probe_returned(&self, band: &str) {
        self.series
            .delay_probes_returned
            .with_label_values(&[band])
            .inc();
    }

    /// Counts a probe of a delay band that was not taken or did not come back.
    pub fn delay_probe_lost(&self, band: &str) {
        self.series
            .delay_probes_lost
            .with_label_values(&[band])
            .inc();
    }

    /// Counts a panic that was caught.
    pub fn panicked(&self) {
        self.series.panics.inc();
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
        let shop = Name::parse("shop").unwrap();
        metrics.start_app(&shop);
        let before = metrics.render().unwrap();
        assert!(before.contains(
            r#"pushrider_messages_total{app="shop",outcome="gone",push_service="fcm",reason="unsubscribed"} 0"#
        ));
        let (second, fcm) = (Duration::from_secs(1), Service::Fcm);
        metrics.message_settled(Some(&shop), fcm, Reason::Unsubscribed, second);
        metrics.message_settled(None, Service::Other, Reason::UnknownApp, second);
        metrics.recipient_waits(Waiting::Retry(Reason::Throttled));
        metrics.exchange(Service::Other, Meaning::Retryable, Duration::from_secs(1));
        metrics.published(Kind::Chunk, Confirmed::Lost, Duration::ZERO);
        metrics.deferred(Service::Fcm, DeferralReason::Rate);
        metrics.breaker_turned(Service::Apple, BreakerState::HalfOpen);
        let after = metrics.render().unwrap();
        assert_eq!(after.lines().count(), before.lines().count());
        assert!(after.contains(
            r#"pushrider_messages_total{app="shop",outcome="gone",push_service="fcm",reason="unsubscribed"} 1"#
        ));
        assert!(after.contains(
            r#"pushrider_messages_total{app="(unknown)",outcome="rejected",push_service="other",reason="unknown_app"} 1"#
        ));
        assert!(after.contains(r#"pushrider_retries_total{reason="throttled"} 1"#));
        for (text, count) in [(&before, 0), (&after, 1)] {
            let labels = r#"push_service="apple",to="half_open""#;
            let line = format!("pushrider_breaker_transitions_total{{{labels}}} {count}");
            assert!(text.contains(&line), "{line}");
        }
    }

    #[test]
    fn the_version_is_a_label() {
        let text = Metrics::new().unwrap().render().unwrap();
        let line = format!(
            "pushrider_build_info{{version=\"{}\"}} 1",
            env!("CARGO_PKG_VERSION")
        );
        assert!(text.contains(&line), "{line}");
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
