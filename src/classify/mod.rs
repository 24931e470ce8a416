//! What an attempt means.
//!
//! Push services agree on little: only 2xx, 404 and 410 mean the same everywhere, and what the rest
//! means is the service's own. The shared table here is what RFC 8030 and the field agree on
//! (push-services.md §2); a service family that differs gets a room of its own beside it, consulted
//! first.
//!
//! Two asymmetries are on purpose. A subscription ends only on a service's plain word, because a
//! wrong `gone` deletes a subscriber and a wrong retry costs a request. And a host outside the list
//! of the large services is a stranger: its 404 may come from a reverse proxy in trouble and must
//! be said twice, its 401 and 403 speak of its own access control rather than of our VAPID token,
//! and its words are not repeated.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::RETRY_AFTER;

use crate::origin::{Listed, Service};
use crate::outcome::{Again, Answer, Attempt, Failure, Meaning, Reason, Scope, Verdict};
use crate::retry_after;

/// What is known about a request besides the answer to it.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The family of push service that answered.
    pub service: Service,
    /// Whether its host is on the list of the large services.
    pub listed: Listed,
    /// Which attempt at the recipient it was; the first is 1.
    pub attempt: u32,
    /// The status of the attempt before this one.
    pub last_status: Option<u16>,
    /// What the request changed, if it was not the attempt's first.
    pub tried: Option<Again>,
    /// How old the VAPID token was that signed the request.
    pub token_age: Duration,
    /// The bytes of the request's body.
    pub body_len: usize,
    /// The longest wait that a service may ask for.
    pub retry_after_cap: Duration,
}

/// How long a stranger's 404 is left to settle before it is asked again.
const NOT_FOUND_AGAIN: Duration = Duration::from_secs(600);

/// How long messages wait for an operator when a service finds fault with the VAPID token.
const VAPID_REJECTED_AGAIN: Duration = Duration::from_secs(900);

/// The longest text of a push service that a result repeats, in bytes.
const DETAIL_LIMIT: usize = 512;

/// Tells what an attempt means.
#[must_use]
pub fn classify(attempt: &Attempt, context: Context, now: SystemTime) -> Verdict {
    match attempt {
        Attempt::Answered(answer) => {
            let mut verdict = of_status(answer.status, context);
            if verdict.meaning == Meaning::Retryable {
                let asked = answer.headers.get(RETRY_AFTER).and_then(|value| {
                    retry_after::parse(value.as_bytes(), now, context.retry_after_cap)
                });
                verdict.after = asked.max(verdict.after);
            }
            verdict.detail = words(answer, context.listed);
            verdict.pause = pause(&verdict, answer.status, context.service);
            // A service that throttles is up, whatever the number it says so with.
            let throttled = verdict.reason == Reason::Throttled;
            verdict.down = answer.status.is_server_error() && !throttled;
            verdict
        }
        Attempt::Failed(failure) => Verdict {
            down: *failure != Failure::ForbiddenAddress,
            ..of_failure(*failure)
        },
    }
}

/// Tells who must pause besides the recipient itself (push-services.md §2, rows 27 to 29).
fn pause(verdict: &Verdict, status: StatusCode, service: Service) -> Option<Scope> {
    if verdict.reason != Reason::Throttled {
        return None;
    }
    match (service, status) {
        // Apple counts per device, ntfy's quota of 507 is the topic's.
        (Service::Apple, _) | (Service::Ntfy, StatusCode::INSUFFICIENT_STORAGE) => None,
        (Service::Fcm, _) | (Service::Wns, StatusCode::NOT_ACCEPTABLE) => Some(Scope::Key),
        (
            Service::Mozilla | Service::Wns | Service::Ntfy | Service::NextPush | Service::Other,
            _,
        ) => Some(Scope::Origin),
    }
}

fn of_status(status: StatusCode, context: Context) -> Verdict {
    match status.as_u16() {
        200..=299 => Verdict::of(Meaning::Accepted, Reason::Accepted),
        300..=399 => Verdict::of(Meaning::Rejected, Reason::Redirected),
        401 | 403 => unauthorized(context),
        404 => not_found(context),
        410 => Verdict::of(Meaning::Gone, Reason::Unsubscribed),
        408 | 425 => Verdict::of(Meaning::Retryable, Reason::ServiceUnavailable),
        413 => Verdict::of(Meaning::Rejected, Reason::PayloadTooLarge),
        429 => Verdict::of(Meaning::Retryable, Reason::Throttled),
        500..=599 => Verdict::of(Meaning::Retryable, Reason::ServiceUnavailable),
        _ => Verdict::of(Meaning::Rejected, Reason::BadRequest),
    }
}

/// The large services check VAPID and nothing else; a stranger's server may guard its door.
fn unauthorized(context: Context) -> Verdict {
    match context.service {
        Service::Fcm | Service::Mozilla | Service::Apple | Service::Wns => Verdict {
            after: Some(VAPID_REJECTED_AGAIN),
            ..Verdict::of(Meaning::Retryable, Reason::VapidRejected)
        },
        Service::Ntfy | Service::NextPush | Service::Other => {
            Verdict::of(Meaning::Rejected, Reason::BadRequest)
        }
    }
}

fn not_found(context: Context) -> Verdict {
    let said_before = context.last_status == Some(StatusCode::NOT_FOUND.as_u16());
    if context.listed.0 || said_before {
        Verdict::of(Meaning::Gone, Reason::NotFound)
    } else {
        Verdict {
            after: Some(NOT_FOUND_AGAIN),
            ..Verdict::of(Meaning::Retryable, Reason::ServiceUnavailable)
        }
    }
}

fn of_failure(failure: Failure) -> Verdict {
    let (reason, detail) = match failure {
        Failure::Timeout => (Reason::Timeout, "no answer before the deadline"),
        Failure::Dns => (Reason::Dns, "the host's name has no address"),
        Failure::Connect => (Reason::Network, "no connection could be made"),
        Failure::Tls => (
            Reason::Tls,
            "the TLS handshake failed or the certificate is not trusted",
        ),
        Failure::Interrupted => (Reason::Network, "the connection broke before the answer"),
        Failure::NotProcessed => (Reason::Network, "the service refused to begin the request"),
        Failure::Protocol => (Reason::Network, "the answer was not HTTP within our limits"),
        Failure::ForbiddenAddress => {
            return Verdict {
                detail: Some(
                    "the host's addresses are private or special, and guard.allow does not name \
                     them"
                        .into(),
                ),
                ..Verdict::of(Meaning::Rejected, Reason::EndpointForbidden)
            };
        }
    };
    Verdict {
        again: (failure == Failure::NotProcessed).then_some(Again::AsItWas),
        detail: Some(detail.into()),
        ..Verdict::of(Meaning::Retryable, reason)
    }
}

/// Takes the beginning of an answer's body as text, if the host is one whose words are repeated.
fn words(answer: &Answer, listed: Listed) -> Option<Box<str>> {
    if !listed.0 || answer.excerpt.is_empty() {
        return None;
    }
    let excerpt = &answer.excerpt[..answer.excerpt.len().min(DETAIL_LIMIT)];
    let text = String::from_utf8_lossy(excerpt);
    let text = text.trim_end_matches(char::REPLACEMENT_CHARACTER).trim();
    (!text.is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn context(service: Service, listed: bool) -> Context {
        Context {
            service,
            listed: Listed(listed),
            attempt: 1,
            last_status: None,
            tried: None,
            token_age: Duration::ZERO,
            body_len: 0,
            retry_after_cap: Duration::from_secs(86_400),
        }
    }

    fn answer(status: u16) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            excerpt: Bytes::new(),
        }
    }

    fn classified(answer: Answer, context: Context) -> Verdict {
        classify(&Attempt::Answered(answer), context, NOW)
    }

    #[test]
    fn only_404_and_410_end_a_subscription() {
        for service in Service::ALL {
            for status in 100..=999 {
                let verdict = classified(answer(status), context(service, true));
                let gone = verdict.meaning == Meaning::Gone;
                assert_eq!(gone, status == 404 || status == 410, "{service:?} {status}");
            }
        }
    }

    #[test]
    fn the_shared_table_holds() {
        for (status, meaning, reason) in [
            (200, Meaning::Accepted, Reason::Accepted),
            (201, Meaning::Accepted, Reason::Accepted),
            (202, Meaning::Accepted, Reason::Accepted),
            (299, Meaning::Accepted, Reason::Accepted),
            (301, Meaning::Rejected, Reason::Redirected),
            (307, Meaning::Rejected, Reason::Redirected),
            (400, Meaning::Rejected, Reason::BadRequest),
            (401, Meaning::Retryable, Reason::VapidRejected),
            (403, Meaning::Retryable, Reason::VapidRejected),
            (404, Meaning::Gone, Reason::NotFound),
            (405, Meaning::Rejected, Reason::BadRequest),
            (408, Meaning::Retryable, Reason::ServiceUnavailable),
            (410, Meaning::Gone, Reason::Unsubscribed),
            (413, Meaning::Rejected, Reason::PayloadTooLarge),
            (418, Meaning::Rejected, Reason::BadRequest),
            (425, Meaning::Retryable, Reason::ServiceUnavailable),
            (429, Meaning::Retryable, Reason::Throttled),
            (500, Meaning::Retryable, Reason::ServiceUnavailable),
            (503, Meaning::Retryable, Reason::ServiceUnavailable),
            (599, Meaning::Retryable, Reason::ServiceUnavailable),
        ] {
            let verdict = classified(answer(status), context(Service::Fcm, true));
            assert_eq!(
                (verdict.meaning, verdict.reason),
                (meaning, reason),
                "{status}"
            );
        }
    }

    #[test]
    fn a_stranger_must_say_404_twice() {
        let stranger = context(Service::Other, false);
        let first = classified(answer(404), stranger);
        assert_eq!(
            (first.meaning, first.after),
            (Meaning::Retryable, Some(NOT_FOUND_AGAIN))
        );
        let again = Context {
            last_status: Some(404),
            ..stranger
        };
        assert_eq!(classified(answer(404), again).meaning, Meaning::Gone);
        let between = Context {
            last_status: Some(503),
            ..stranger
        };
        assert_eq!(classified(answer(404), between).meaning, Meaning::Retryable);
    }

    #[test]
    fn a_stranger_at_the_door_is_not_a_vapid_fault() {
        for status in [401, 403] {
            for service in [Service::Other, Service::Ntfy, Service::NextPush] {
                let verdict = classified(answer(status), context(service, false));
                assert_eq!(verdict.reason, Reason::BadRequest, "{service:?} {status}");
            }
            let verdict = classified(answer(status), context(Service::Mozilla, false));
            assert_eq!(verdict.reason, Reason::VapidRejected, "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_where_a_retry_follows() {
        let mut asks = answer(429);
        asks.headers
            .insert(RETRY_AFTER, HeaderValue::from_static("120"));
        let verdict = classified(asks, context(Service::Fcm, true));
        assert_eq!(verdict.after, Some(Duration::from_secs(120)));
        let mut gone = answer(410);
        gone.headers
            .insert(RETRY_AFTER, HeaderValue::from_static("120"));
        assert_eq!(classified(gone, context(Service::Fcm, true)).after, None);
    }

    #[test]
    fn a_throttle_pauses_whom_it_speaks_of() {
        for (service, status, pause) in [
            (Service::Apple, 429, None),
            (Service::Fcm, 429, Some(Scope::Key)),
            (Service::Mozilla, 429, Some(Scope::Origin)),
            (Service::Wns, 429, Some(Scope::Origin)),
            (Service::Ntfy, 429, Some(Scope::Origin)),
            (Service::NextPush, 429, Some(Scope::Origin)),
            (Service::Other, 429, Some(Scope::Origin)),
            (Service::Other, 503, None),
            (Service::Fcm, 201, None),
        ] {
            let verdict = classified(answer(status), context(service, true));
            assert_eq!(verdict.pause, pause, "{service:?} {status}");
        }
    }

    #[test]
    fn only_trouble_of_the_service_counts_towards_its_breaker() {
        for service in Service::ALL {
            for status in 100..=999 {
                let verdict = classified(answer(status), context(service, false));
                let throttled = verdict.reason == Reason::Throttled;
                let down = (500..=599).contains(&status) && !throttled;
                assert_eq!(verdict.down, down, "{service:?} {status}");
            }
        }
    }

    #[test]
    fn a_strangers_words_are_not_repeated() {
        let mut says = answer(400);
        says.excerpt = Bytes::from("x".repeat(511) + "\u{fc}\n");
        assert_eq!(
            classified(says.clone(), context(Service::Other, false)).detail,
            None
        );
        let detail = classified(says, context(Service::Fcm, true))
            .detail
            .unwrap();
        assert_eq!(&*detail, "x".repeat(511));
    }

    #[test]
    fn only_what_was_not_processed_is_sent_again_at_once() {
        for (failure, reason) in [
            (Failure::Timeout, Reason::Timeout),
            (Failure::Dns, Reason::Dns),
            (Failure::Connect, Reason::Network),
            (Failure::Tls, Reason::Tls),
            (Failure::Interrupted, Reason::Network),
            (Failure::NotProcessed, Reason::Network),
            (Failure::Protocol, Reason::Network),
        ] {
            let verdict = classify(&Attempt::Failed(failure), context(Service::Fcm, true), NOW);
            assert_eq!(
                (verdict.meaning, verdict.reason),
                (Meaning::Retryable, reason)
            );
            let expected = (failure == Failure::NotProcessed).then_some(Again::AsItWas);
            assert_eq!(verdict.again, expected);
            assert!(verdict.down, "{failure:?}");
        }
        let forbidden = Attempt::Failed(Failure::ForbiddenAddress);
        let verdict = classify(&forbidden, context(Service::Other, false), NOW);
        assert_eq!(
            (verdict.meaning, verdict.reason),
            (Meaning::Rejected, Reason::EndpointForbidden)
        );
        assert!(!verdict.down, "nothing was asked");
    }
}
