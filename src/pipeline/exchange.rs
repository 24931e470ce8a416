//! One exchange with a push service, and what it means.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{DATE, LOCATION};
use tracing::warn;

use crate::app::{App, Mode};
use crate::classify;
use crate::classify::{Context, FirstWord};
use crate::clock::Now;
use crate::drift::TOLERANCE;
use crate::message::PushMessage;
use crate::origin::Origin;
use crate::outcome::{Again, Answer, Attempt, Meaning, Reason, Verdict};
use crate::push_service::Transport;
use crate::subscription::Endpoint;
use crate::vapid::{Token, VapidKey};
use crate::wire::headers::RetryHistory;

use super::Pipeline;
use super::request::Unsendable;

/// One exchange and what it means.
pub(super) struct Exchange {
    pub(super) verdict: Verdict,
    pub(super) status: Option<u16>,
    pub(super) message_url: Option<Box<str>>,
    pub(super) sent_at: SystemTime,
    pub(super) elapsed: Duration,
    pub(super) token: Arc<Token>,
}

/// The longest URL of a message that a result names.
const LOCATION_LIMIT: usize = 2048;

impl<T: Transport> Pipeline<T> {
    /// Sends a message, changed as a second request asks, and says what came of it.
    pub(super) async fn exchange(
        &self,
        app: &App,
        key: &VapidKey,
        message: &PushMessage,
        history: &RetryHistory,
        again: Option<Again>,
    ) -> Result<Exchange, Unsendable> {
        let authorization = self.authorize(app, key, message)?;
        let request = self.prepare(app, key, message, &authorization, again)?;
        let endpoint = &message.subscription.endpoint;
        let sent = self.now();
        if app.mode == Mode::DryRun {
            return Ok(dry_run(sent.wall, authorization.token));
        }
        let body_len = request.body.len();
        let in_flight = self.metrics.request_in_flight(endpoint.service());
        let posting = self.transport.post(request, self.settings.push_timeout);
        let attempt = posting.await;
        drop(in_flight);
        let now = self.clock.now();
        let service_time = service_time(&attempt);
        if let Some(service_time) = service_time {
            self.compare_clocks(endpoint, service_time, now);
        }
        let token = authorization.token;
        let context = Context {
            service: endpoint.service(),
            listing: endpoint.listing(),
            attempt: history.attempts + 1,
            last_status: history.last_status,
            first_word: self.first_word(app, endpoint, &attempt, now),
            tried: again,
            token_age: authorization.age,
            token_untimely: service_time
                .is_some_and(|service_time| !token.is_good_at(service_time, TOLERANCE)),
            body_len,
            retry_after_cap: self.retry(endpoint.service()).retry_after_cap,
        };
        let exchange = self.understand(endpoint, &attempt, context, sent, token);
        if let (true, Some(status)) = (exchange.verdict.unconfirmed, exchange.status) {
            let subscription = endpoint.fingerprint();
            self.tombstones
                .note_unconfirmed(&app.name, subscription, status, now.mono);
        }
        Ok(exchange)
    }

    /// Returns what earlier answers of the same status said of the subscription, where that counts.
    fn first_word(
        &self,
        app: &App,
        endpoint: &Endpoint,
        attempt: &Attempt,
        now: Now,
    ) -> Option<FirstWord> {
        let Attempt::Answered(answer) = attempt else {
            return None;
        };
        if !matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN) {
            return None;
        }
        let (subscription, status) = (endpoint.fingerprint(), answer.status.as_u16());
        self.tombstones
            .first_word(&app.name, subscription, status, now.mono)
    }

    fn understand(
        &self,
        endpoint: &Endpoint,
        attempt: &Attempt,
        context: Context,
        sent: Now,
        token: Arc<Token>,
    ) -> Exchange {
        let now = self.now();
        let verdict = classify::classify(attempt, context, now.wall);
        self.unfamiliar.notice(attempt, &context, &verdict);
        self.private_dns.notice(attempt, endpoint, now.mono);
        let elapsed = now.mono.saturating_duration_since(sent.mono);
        self.metrics
            .exchange(endpoint.service(), verdict.meaning, elapsed);
        let answer = match attempt {
            Attempt::Answered(answer) => Some(answer),
            Attempt::Failed(_) => None,
        };
        Exchange {
            verdict,
            status: answer.map(|answer| answer.status.as_u16()),
            message_url: answer.and_then(|answer| message_url(endpoint, answer)),
            sent_at: sent.wall,
            elapsed,
            token,
        }
    }

    /// Compares the clock of an answer with ours; of strangers' clocks no operator need hear.
    fn compare_clocks(&self, endpoint: &Endpoint, service_time: SystemTime, now: Now) {
        let drift = self
            .drifts
            .observe(endpoint.origin(), endpoint.listing(), service_time, now);
        if !endpoint.is_listed() {
            return;
        }
        self.metrics
            .clock_drift(endpoint.service(), drift.seconds());
        if self.drifts.is_news(drift) {
            warn!(
                push_service = endpoint.service().name(),
                seconds_ahead = drift.seconds(),
                "this machine's clock is wrong, going by a push service's; set it (NTP), for \
                 deadlines and schedules go by it"
            );
        }
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

/// Returns where the push service keeps a message that it took (RFC 8030 §5), as an absolute URL.
///
/// A `Location` that is relative is resolved; one of another origin is no message of this service.
fn message_url(endpoint: &Endpoint, answer: &Answer) -> Option<Box<str>> {
    if !answer.status.is_success() {
        return None;
    }
    let location = answer.headers.get(LOCATION)?.to_str().ok()?;
    let url = endpoint.url().join(location).ok()?;
    let is_ours = Origin::of(&url) == *endpoint.origin();
    (is_ours && url.as_str().len() <= LOCATION_LIMIT).then(|| url.as_str().into())
}

/// What an application in `dry_run` is told: everything but the request was done.
fn dry_run(now: SystemTime, token: Arc<Token>) -> Exchange {
    Exchange {
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
            let told = message_url(&endpoint, &answer);
            assert_eq!(told.as_deref(), expected, "{status} {location}");
        }
    }
}
