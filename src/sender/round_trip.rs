//! One round trip to a push service: sign, encrypt, send, and classify the answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{DATE, LOCATION};

use crate::app::{App, Mode};
use crate::classify;
use crate::classify::{Context, EarlierAnswers};
use crate::clock::{Jitter, Now};
use crate::ece::EceError;
use crate::message::PushMessage;
use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::outcome::{Again, Answer, Attempt, Meaning, Reason, Verdict};
use crate::plan;
use crate::push_service::{PushRequest, Transport};
use crate::spans::Span;
use crate::subscription::Endpoint;
use crate::vapid::{Token, VapidError, VapidKey};
use crate::wire::headers::RetryHistory;

use super::alarms::Alarms;
use super::clock_skew::TOLERANCE;
use super::encryption::Encryption;
use super::keys::token_cache::{Authorization, TokenCache};
use super::request;
use super::request::Unsendable;
use super::time::Time;
use super::unconfirmed::UnconfirmedAnswers;

/// The longest URL of a message that a result names, in bytes.
const LOCATION_LIMIT: usize = 2048;

/// Makes round trips.
pub(super) struct RoundTrips<T> {
    transport: Arc<T>,
    encryption: Arc<Encryption>,
    push_timeout: Duration,
    tokens: Arc<TokenCache>,
    unconfirmed: Arc<UnconfirmedAnswers>,
    time: Arc<Time>,
    jitter: Arc<dyn Jitter>,
    alarms: Arc<Alarms>,
    metrics: Arc<Metrics>,
}

/// What to send in one round trip.
#[derive(Clone, Copy)]
pub(super) struct Trip<'a> {
    pub(super) app: &'a App,
    pub(super) key: &'a VapidKey,
    pub(super) message: &'a PushMessage,
    pub(super) history: &'a RetryHistory,
    /// What a second request changes.
    pub(super) again: Option<Again>,
    /// The longest wait that the push service may ask for.
    pub(super) retry_after_cap: Duration,
}

/// What one round trip brought, and what it means.
pub(super) struct RoundTrip {
    pub(super) verdict: Verdict,
    pub(super) status: Option<u16>,
    pub(super) message_url: Option<Box<str>>,
    pub(super) sent_at: SystemTime,
    pub(super) elapsed: Duration,
    pub(super) token: Arc<Token>,
}

impl<T: Transport> RoundTrips<T> {
    /// Creates what makes round trips by `transport`, each within `push_timeout`.
    pub(super) fn new(
        transport: Arc<T>,
        push_timeout: Duration,
        time: Arc<Time>,
        jitter: Arc<dyn Jitter>,
        alarms: Arc<Alarms>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            transport,
            encryption: Arc::default(),
            push_timeout,
            tokens: Arc::default(),
            unconfirmed: Arc::default(),
            time,
            jitter,
            alarms,
            metrics,
        }
    }

    /// Returns the same, which encrypts by `encryption`.
    pub(super) fn with_encryption(self, encryption: Encryption) -> Self {
        Self {
            encryption: Arc::new(encryption),
            ..self
        }
    }

    /// Returns the same with another deadline, and another transport if there is one.
    pub(super) fn with(&self, transport: Option<Arc<T>>, push_timeout: Duration) -> Self {
        Self {
            transport: transport.unwrap_or_else(|| Arc::clone(&self.transport)),
            encryption: Arc::clone(&self.encryption),
            push_timeout,
            tokens: Arc::clone(&self.tokens),
            unconfirmed: Arc::clone(&self.unconfirmed),
            time: Arc::clone(&self.time),
            jitter: Arc::clone(&self.jitter),
            alarms: Arc::clone(&self.alarms),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Makes one round trip.
    ///
    /// # Errors
    /// If the message cannot be signed or encrypted.
    pub(super) async fn make(&self, trip: Trip<'_>) -> Result<RoundTrip, Unsendable> {
        let Trip { app, key, .. } = trip;
        let endpoint = &trip.message.subscription.endpoint;
        let authorization = self.authorize(app, key, endpoint.origin())?;
        let request = self.request(trip, &authorization.token).await?;
        let sent = self.time.now();
        if app.mode == Mode::DryRun {
            return Ok(dry_run(sent.wall, authorization.token));
        }
        let body_len = request.body.len();
        let in_flight = self.metrics.request_in_flight(endpoint.service());
        let span = Span::push(endpoint.origin());
        let attempt = self.transport.post(request, self.push_timeout).await;
        span.answered(&attempt);
        drop(in_flight);
        let now = self.time.machine();
        let service_time = service_time(&attempt);
        if let Some(service_time) = service_time {
            self.compare_clocks(endpoint, service_time, now);
        }
        let token = authorization.token;
        let context = Context {
            service: endpoint.service(),
            listing: endpoint.listing(),
            attempt: trip.history.attempts + 1,
            last_status: trip.history.last_status,
            earlier_answers: self.earlier_answers(app, endpoint, &attempt, now),
            tried: trip.again,
            token_age: authorization.age,
            token_untimely: service_time
                .is_some_and(|service_time| !token.is_good_at(service_time, TOLERANCE)),
            body_len,
            retry_after_cap: trip.retry_after_cap,
        };
        let judged = self.time.now();
        let verdict = self.classify(endpoint, &attempt, context, judged);
        self.remember(app, endpoint, &attempt, &verdict, now);
        let elapsed = judged.mono.saturating_duration_since(sent.mono);
        self.metrics
            .exchange(endpoint.service(), verdict.meaning, elapsed);
        Ok(round_trip(
            endpoint, &attempt, verdict, sent.wall, elapsed, token,
        ))
    }

    /// Forgets a token that its push service refuses, so that the next request gets a new one.
    pub(super) fn forget_token(
        &self,
        app: &App,
        key: &VapidKey,
        origin: &Origin,
        token: &Arc<Token>,
    ) {
        self.tokens.remove(app, key, origin, token);
    }

    /// Encrypts the message, changed as a second request asks, and makes the request.
    async fn request(&self, trip: Trip<'_>, token: &Token) -> Result<PushRequest, EceError> {
        let changed = trip
            .again
            .and_then(|again| plan::changed(trip.message, again));
        let message = &*changed.unwrap_or(Cow::Borrowed(trip.message));
        let encrypted = match request::plaintext(trip.app, message) {
            Some(plaintext) => {
                let now = self.time.mono();
                Some(self.encryption.encrypt(plaintext, now).await?)
            }
            None => None,
        };
        Ok(request::request(trip.key, token, message, encrypted))
    }

    /// Returns a cached token for an origin, or signs one.
    fn authorize(
        &self,
        app: &App,
        key: &VapidKey,
        origin: &Origin,
    ) -> Result<Authorization, VapidError> {
        let now = self.time.at_origin(origin);
        let authorization = self
            .tokens
            .authorization(app, key, origin, now, &*self.jitter)?;
        self.metrics.token(authorization.signed);
        Ok(authorization)
    }

    /// Returns what earlier answers of the same status showed of the subscription, where that counts.
    fn earlier_answers(
        &self,
        app: &App,
        endpoint: &Endpoint,
        attempt: &Attempt,
        now: Now,
    ) -> Option<EarlierAnswers> {
        let status = status_of(attempt)?;
        if !matches!(status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN) {
            return None;
        }
        let subscription = endpoint.fingerprint();
        self.unconfirmed
            .find(&app.name, subscription, status.as_u16(), now.mono)
    }

    fn classify(
        &self,
        endpoint: &Endpoint,
        attempt: &Attempt,
        context: Context,
        now: Now,
    ) -> Verdict {
        let verdict = classify::classify(attempt, context, now.wall);
        self.alarms.unfamiliar(attempt, &context, &verdict);
        self.alarms.failed(attempt, endpoint, now.mono);
        verdict
    }

    /// Remembers an answer that calls the subscription dead and is not confirmed; forgets such
    /// answers once the subscription is known to be alive or dead.
    fn remember(
        &self,
        app: &App,
        endpoint: &Endpoint,
        attempt: &Attempt,
        verdict: &Verdict,
        now: Now,
    ) {
        let subscription = endpoint.fingerprint();
        if let (true, Some(status)) = (verdict.unconfirmed, status_of(attempt)) {
            self.unconfirmed
                .record(&app.name, subscription, status.as_u16(), now.mono);
        } else if matches!(verdict.meaning, Meaning::Accepted | Meaning::Gone) {
            self.unconfirmed.remove(&app.name, subscription);
        }
    }

    /// Compares the clock of an answer with this machine's. Only a listed service's raises an alarm.
    fn compare_clocks(&self, endpoint: &Endpoint, service_time: SystemTime, now: Now) {
        let (origin, listing) = (endpoint.origin(), endpoint.listing());
        let (skew, is_news) = self.time.observe(origin, listing, service_time, now);
        if listing.is_listed() {
            self.alarms.clock_skew(endpoint, skew, is_news);
        }
    }
}

fn round_trip(
    endpoint: &Endpoint,
    attempt: &Attempt,
    verdict: Verdict,
    sent_at: SystemTime,
    elapsed: Duration,
    token: Arc<Token>,
) -> RoundTrip {
    let answer = match attempt {
        Attempt::Answered(answer) => Some(answer),
        Attempt::Failed(_) => None,
    };
    RoundTrip {
        verdict,
        status: answer.map(|answer| answer.status.as_u16()),
        message_url: answer.and_then(|answer| message_url(endpoint, answer)),
        sent_at,
        elapsed,
        token,
    }
}

fn status_of(attempt: &Attempt) -> Option<StatusCode> {
    match attempt {
        Attempt::Answered(answer) => Some(answer.status),
        Attempt::Failed(_) => None,
    }
}

/// Returns what the clock of a push service showed when it answered (RFC 9110 §6.6.1).
fn service_time(attempt: &Attempt) -> Option<SystemTime> {
    match attempt {
        Attempt::Answered(answer) => {
            let date = answer.headers.get(DATE)?.to_str().ok()?;
            httpdate::parse_http_date(date).ok()
        }
        Attempt::Failed(_) => None,
    }
}

/// Returns the URL of a message that the push service accepted (RFC 8030 §5), in absolute form.
///
/// A `Location` that is relative is resolved; a URL of another origin is not a message of this service.
fn message_url(endpoint: &Endpoint, answer: &Answer) -> Option<Box<str>> {
    if !answer.status.is_success() {
        return None;
    }
    let location = answer.headers.get(LOCATION)?.to_str().ok()?;
    let url = endpoint.url().join(location).ok()?;
    let is_ours = Origin::of(&url) == *endpoint.origin();
    (is_ours && url.as_str().len() <= LOCATION_LIMIT).then(|| url.as_str().into())
}

/// Returns what a dry run brings: everything but the request was done.
fn dry_run(now: SystemTime, token: Arc<Token>) -> RoundTrip {
    RoundTrip {
        verdict: Verdict {
            detail: Some("dry_run: encrypted and signed, not sent".into()),
            ..Verdict::of(Meaning::Accepted, Reason::Accepted)
        },
        status: None,
        message_url: None,
        sent_at: now,
        elapsed: Duration::ZERO,
        token,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn a_result_names_a_message_of_the_service_that_took_it_and_no_other_url() {
        let endpoint = Endpoint::parse("https://push.example.net:8443/wpush/v2/x").unwrap();
        let long = format!(
            "https://push.example.net:8443/m/{}",
            "x".repeat(LOCATION_LIMIT)
        );
        let absolute = "https://push.example.net:8443/m/1%2";
        for (status, location, expected) in [
            (201, absolute, Some(absolute)),
            (202, absolute, Some(absolute)),
            (201, "/m/1", Some("https://push.example.net:8443/m/1")),
            (201, "1", Some("https://push.example.net:8443/wpush/v2/1")),
            (201, "https://push.example.net/m/1", None),
            (201, "//evil.example/m/1", None),
            (201, "http://push.example.net:8443/m/1", None),
            (201, "https://push.example.net:8443@evil.example/", None),
            (201, "javascript:alert(1)", None),
            (201, &long, None),
            (301, absolute, None),
            (404, absolute, None),
            (503, absolute, None),
        ] {
            let value = HeaderValue::from_str(location).unwrap();
            let answer = Answer {
                status: StatusCode::from_u16(status).unwrap(),
                headers: HeaderMap::from_iter([(LOCATION, value)]),
                excerpt: Bytes::new(),
            };
            let url = message_url(&endpoint, &answer);
            assert_eq!(url.as_deref(), expected, "{status} {location}");
        }
    }
}
