//! The table of classify/README.md §2 over whole domains; each module has a test of its own answers.

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::outcome::{ProxyFault, TlsFailure, TlsFault};

mod again;
mod unlisted;

// Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples.
const NOW: Duration = Duration::from_secs(784_111_777);
const CAP: Duration = Duration::from_secs(86_400);

/// An answer: its status, its headers, its body, and what they mean.
pub(super) type Row<'a> = (u16, &'a [(&'a str, &'a str)], &'a str, &'a str);

/// A listed host's first answer to a token that has been in use for a while.
pub(super) fn context(service: Service) -> Context {
    Context {
        service,
        listing: Listing::Listed,
        attempt: 1,
        last_status: None,
        earlier_answers: None,
        tried: None,
        token_age: Duration::from_secs(7200),
        token_untimely: false,
        body_len: 4096,
        retry_after_cap: CAP,
    }
}

fn unlisted(service: Service) -> Context {
    Context {
        listing: Listing::Unlisted,
        ..context(service)
    }
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let header = |(name, value): &(&str, &str)| {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    };
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers.iter().map(header).collect::<HeaderMap>(),
        excerpt: body.into(),
    }
}

fn classified(answer: Answer, context: Context) -> Verdict {
    let attempt = Attempt::Answered(answer);
    classify(&attempt, context, SystemTime::UNIX_EPOCH + NOW)
}

/// Judges an answer of one status and no words.
fn silent(status: u16, context: Context) -> Verdict {
    classified(answer(status, &[], Bytes::new()), context)
}

/// Tells a verdict in one line.
pub(super) fn actual(verdict: &Verdict) -> String {
    let mut line = format!("{} {}", verdict.meaning.name(), verdict.reason.name());
    if let Some(after) = verdict.after {
        line += &format!(" after {}s", after.as_secs());
    }
    if let Some(scope) = verdict.pause {
        line += &format!(" pause {}", scope.name());
    }
    if let Some(again) = verdict.again {
        line += &format!(" again {}", again.name());
    }
    if verdict.down {
        line += " down";
    }
    if verdict.unfamiliar {
        line += " unfamiliar";
    }
    if let Some(detail) = &verdict.detail {
        line += &format!(": {detail}");
    }
    line
}

/// Holds the rows of a service to what they mean in `context`.
pub(super) fn check(context: Context, rows: &[Row<'_>]) {
    for (status, headers, body, expected) in rows {
        let answer = answer(*status, headers, body.to_string());
        let verdict = classified(answer, context);
        assert_eq!(actual(&verdict), *expected, "{status} {headers:?} {body}");
    }
}

#[test]
fn only_410_and_a_second_404_end_a_subscription_without_a_word() {
    for &service in Service::ALL {
        for status in 100..=999 {
            let first = silent(status, context(service));
            assert_eq!(first.meaning == Meaning::Gone, status == 410, "{status}");
            let said_before = Context {
                last_status: Some(status),
                ..context(service)
            };
            let gone = silent(status, said_before).meaning == Meaning::Gone;
            assert_eq!(gone, status == 404 || status == 410, "{service:?} {status}");
        }
    }
}

#[test]
fn words_that_are_not_ascii_are_kept() {
    let said = |value: &[u8]| {
        let mut answer = answer(400, &[], String::new());
        let value = HeaderValue::from_bytes(value).unwrap();
        answer.headers.insert("x-wns-error-description", value);
        classified(answer, context(Service::Wns)).detail
    };
    let expected = "x-wns-error-description: Kanal ung\u{fc}ltig";
    assert_eq!(said(b"Kanal ung\xfcltig").as_deref(), Some(expected));
    assert_eq!(
        said("Kanal ung\u{fc}ltig".as_bytes()).as_deref(),
        Some(expected)
    );
}

#[test]
fn a_404_in_a_services_own_words_is_believed_at_once_and_any_other_must_be_said_twice() {
    let page = "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n  <title>Error 404 (Not \
                Found)!!1</title>\n  <p><b>404.</b>\n";
    let fcm = "A valid push subscription endpoint should be specified in the URL as such: x\n";
    let autopush = r#"{"code":404,"errno":102,"message":"Invalid","more_info":"x"}"#;
    let wns: &[(&str, &str)] = &[("x-wns-debug-trace", "BN1")];
    let (gone, waits) = ("gone not_found", "retryable service_unavailable after 600s");
    let unfamiliar = "retryable service_unavailable after 600s unfamiliar";
    for (service, headers, body, expected) in [
        (Service::Fcm, &[][..], fcm, gone),
        (Service::Fcm, &[], page, unfamiliar),
        (Service::Fcm, &[], "", unfamiliar),
        (Service::Mozilla, &[], autopush, gone),
        (Service::Mozilla, &[], page, unfamiliar),
        // Its own, but a proxy's may be so as well.
        (Service::Mozilla, &[], "", waits),
        (Service::Apple, &[], r#"{"reason":"BadPath"}"#, gone),
        (Service::Apple, &[], page, unfamiliar),
        (Service::Wns, wns, "", gone),
        (Service::Wns, &[], "", unfamiliar),
        (Service::Ntfy, &[], r#"{"code":40401,"http":404}"#, gone),
        (Service::Ntfy, &[], page, unfamiliar),
        (Service::NextPush, &[], page, waits),
        (Service::Other, &[], page, waits),
    ] {
        let actual = |context| {
            let mut verdict = classified(answer(404, headers, body), context);
            assert_eq!(verdict.unconfirmed, verdict.meaning != Meaning::Gone);
            verdict.detail = None;
            actual(&verdict)
        };
        assert_eq!(actual(context(service)), expected, "{service:?} {body}");
        let said_before = Context {
            last_status: Some(404),
            ..context(service)
        };
        assert_eq!(actual(said_before), gone, "{service:?} {body}");
        assert_eq!(actual(unlisted(service)), waits, "{service:?} {body}");
    }
}

#[test]
fn what_was_said_of_an_earlier_message_counts() {
    let words = |seconds, times| Context {
        earlier_answers: Some(EarlierAnswers {
            age: Duration::from_secs(seconds),
            times,
        }),
        ..unlisted(Service::Other)
    };
    for (seconds, expected) in [
        (0, "retryable service_unavailable after 600s"),
        (599, "retryable service_unavailable after 1s"),
        (600, "gone not_found"),
    ] {
        assert_eq!(actual(&silent(404, words(seconds, 1))), expected);
    }
    for (seconds, times, gone) in [(3600, 3, true), (3599, 9, false), (3600, 2, false)] {
        let context = Context {
            service: Service::Fcm,
            listing: Listing::Listed,
            ..words(seconds, times)
        };
        let doubt = answer(403, &[], "invalid push subscription endpoint");
        let verdict = classified(doubt, context);
        assert_eq!(verdict.meaning == Meaning::Gone, gone, "{seconds} {times}");
        assert_eq!(verdict.unconfirmed, !gone);
    }
}

#[test]
fn what_no_room_recognises_is_judged_by_its_status() {
    for (status, expected) in [
        (200, "accepted accepted"),
        (201, "accepted accepted"),
        (202, "accepted accepted"),
        (299, "accepted accepted"),
        (301, "rejected redirected unfamiliar"),
        (307, "rejected redirected unfamiliar"),
        (400, "rejected bad_request unfamiliar"),
        (401, "retryable vapid_rejected again fresh_token unfamiliar"),
        (402, "rejected bad_request unfamiliar"),
        (403, "retryable vapid_rejected again fresh_token unfamiliar"),
        (404, "retryable service_unavailable after 600s unfamiliar"),
        (405, "rejected bad_request"),
        (406, "rejected bad_request unfamiliar"),
        (408, "retryable service_unavailable"),
        (410, "gone unsubscribed"),
        (411, "rejected bad_request unfamiliar"),
        (
            413,
            "rejected payload_too_large: the request's body had 4096 bytes",
        ),
        (415, "rejected bad_request unfamiliar"),
        (418, "rejected bad_request unfamiliar"),
        (421, "retryable service_unavailable again new_connection"),
        (422, "rejected bad_request unfamiliar"),
        (425, "retryable service_unavailable"),
        (429, "retryable throttled pause key"),
        (500, "retryable service_unavailable down"),
        (502, "retryable service_unavailable down"),
        (503, "retryable service_unavailable down"),
        (507, "retryable service_unavailable down unfamiliar"),
        (599, "retryable service_unavailable down unfamiliar"),
        (600, "rejected bad_request unfamiliar"),
    ] {
        let verdict = silent(status, context(Service::Fcm));
        assert_eq!(actual(&verdict), expected, "{status}");
    }
}

#[test]
fn retry_after_is_read_where_a_retry_follows() {
    for (status, headers, wait) in [
        (429, &[("retry-after", "120")][..], Some(120)),
        (429, &[("retry-after", "-1")], None),
        (
            429,
            &[("retry-after", "99999999999999999999")],
            Some(86_400),
        ),
        (
            503,
            &[("retry-after", "Sun, 06 Nov 1994 08:51:37 GMT")],
            Some(120),
        ),
        // By the service's own clock, which is an hour behind, it asks for two minutes.
        (
            503,
            &[
                ("date", "Sun, 06 Nov 1994 07:49:37 GMT"),
                ("retry-after", "Sun, 06 Nov 1994 07:51:37 GMT"),
            ],
            Some(120),
        ),
        (503, &[("date", "yesterday"), ("retry-after", "7")], Some(7)),
        (410, &[("retry-after", "120")], None),
        (201, &[("retry-after", "120")], None),
        (413, &[("retry-after", "120")], None),
    ] {
        let verdict = classified(answer(status, headers, Bytes::new()), context(Service::Fcm));
        let wait = wait.map(Duration::from_secs);
        assert_eq!(verdict.after, wait, "{status} {headers:?}");
    }
}

#[test]
fn a_throttle_pauses_whom_it_speaks_of() {
    for (service, status, pause) in [
        (Service::Apple, 429, None),
        (Service::Fcm, 429, Some(Scope::Key)),
        (Service::Mozilla, 429, Some(Scope::Origin)),
        (Service::Wns, 429, Some(Scope::Origin)),
        (Service::Wns, 406, Some(Scope::Key)),
        (Service::Ntfy, 429, Some(Scope::Origin)),
        (Service::NextPush, 429, Some(Scope::Origin)),
        (Service::Other, 429, Some(Scope::Origin)),
        (Service::Other, 503, None),
        (Service::Fcm, 201, None),
    ] {
        let verdict = silent(status, context(service));
        assert_eq!(verdict.pause, pause, "{service:?} {status}");
        assert!(!verdict.is_vapid_refusal() && !verdict.is_key_mismatch());
    }
}

#[test]
fn only_trouble_of_the_service_counts_towards_its_breaker() {
    for &service in Service::ALL {
        for status in 100..=999 {
            let verdict = silent(status, unlisted(service));
            let throttled = verdict.reason == Reason::Throttled;
            let down = (500..=599).contains(&status) && !throttled;
            assert_eq!(verdict.down, down, "{service:?} {status}");
        }
    }
}

#[test]
fn what_was_not_answered_is_tried_again() {
    for (failure, expected) in [
        (Failure::Timeout, "retryable timeout down"),
        (Failure::Dns, "retryable dns down"),
        (Failure::Connect, "retryable network down"),
        (
            Failure::Proxy(ProxyFailure {
                place: "proxy.example.org:3128".into(),
                fault: ProxyFault::Refused,
            }),
            "retryable network down",
        ),
        (
            Failure::Tls(TlsFailure {
                fault: TlsFault::UnknownIssuer,
                words: "invalid peer certificate: UnknownIssuer".into(),
            }),
            "retryable tls after 60s down",
        ),
        (
            Failure::Tls(TlsFailure {
                fault: TlsFault::Closed,
                words: "unexpected end of file".into(),
            }),
            "retryable tls down",
        ),
        (Failure::Interrupted, "retryable network down"),
        (
            Failure::NotProcessed,
            "retryable network again as_it_was down",
        ),
        (Failure::Protocol, "retryable network down"),
        (Failure::ForbiddenAddress, "retryable dns down"),
    ] {
        let judged = |context| {
            let attempt = Attempt::Failed(failure.clone());
            let verdict = classify(&attempt, context, SystemTime::UNIX_EPOCH);
            let actual = actual(&verdict);
            actual.split_once(": ").unwrap().0.to_owned()
        };
        assert_eq!(judged(context(Service::Fcm)), expected);
        let second = Context {
            attempt: 99,
            tried: Some(Again::AsItWas),
            ..context(Service::Fcm)
        };
        let patient = expected.replace("60s", "3600s");
        assert_eq!(judged(second), patient.replace(" again as_it_was", ""));
        let unlisted = judged(unlisted(Service::Fcm));
        let forbidden = failure == Failure::ForbiddenAddress;
        assert_eq!(unlisted == "rejected endpoint_forbidden", forbidden);
    }
}

#[test]
fn evidence_shows_what_tells_answers_apart_and_no_secret() {
    let secret = "https://push.example.net/wpush/v2/gAAAAABk3";
    let says = answer(
        418,
        &[
            ("content-type", "text/html"),
            ("location", secret),
            ("via", secret),
            ("www-authenticate", "Bearer error=\"new\""),
        ],
        format!("<title>I am {secret}</title>"),
    );
    assert_eq!(
        &*evidence(&says),
        "content-type: text/html; via: https://push.example.net/[\u{2026}]; www-authenticate: \
         Bearer error=\"new\"; body: I am https://push.example.net/[\u{2026}]"
    );
    let nothing = answer(418, &[], Bytes::new());
    assert_eq!(&*evidence(&nothing), "");
}
