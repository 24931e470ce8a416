//! The table of push-services.md §2 over whole domains; each room has a test of its own answers.

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;

// Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples.
const NOW: Duration = Duration::from_secs(784_111_777);
const CAP: Duration = Duration::from_secs(86_400);

/// An answer: its status, its headers, its body, and what they mean.
pub(super) type Row<'a> = (u16, &'a [(&'a str, &'a str)], &'a str, &'a str);

/// A listed host's first answer to a token that has been in use for a while.
pub(super) fn context(service: Service) -> Context {
    Context {
        service,
        listed: Listed(true),
        attempt: 1,
        last_status: None,
        tried: None,
        token_age: Duration::from_secs(7200),
        key_proved: false,
        body_len: 4096,
        retry_after_cap: CAP,
    }
}

fn stranger(service: Service) -> Context {
    Context {
        listed: Listed(false),
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
pub(super) fn told(verdict: &Verdict) -> String {
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
        assert_eq!(told(&verdict), *expected, "{status} {headers:?} {body}");
    }
}

#[test]
fn only_404_and_410_end_a_subscription_without_a_word() {
    for service in Service::ALL {
        for status in 100..=999 {
            let verdict = silent(status, context(service));
            let gone = verdict.meaning == Meaning::Gone;
            assert_eq!(gone, status == 404 || status == 410, "{service:?} {status}");
        }
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
        (404, "gone not_found"),
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
        assert_eq!(told(&verdict), expected, "{status}");
    }
}

#[test]
fn a_stranger_must_say_404_twice() {
    let stranger = stranger(Service::Other);
    let after = |last_status| Context {
        last_status,
        ..stranger
    };
    for (last_status, expected) in [
        (None, "retryable service_unavailable after 600s"),
        (Some(404), "gone not_found"),
        (Some(503), "retryable service_unavailable after 600s"),
    ] {
        assert_eq!(told(&silent(404, after(last_status))), expected);
    }
    let asks = answer(404, &[("retry-after", "1200")], Bytes::new());
    let patient = classified(asks, stranger);
    assert_eq!(patient.after, Some(Duration::from_secs(1200)));
}

#[test]
fn a_stranger_at_the_door_is_not_a_vapid_fault() {
    for status in [401, 403] {
        for service in [
            Service::Mozilla,
            Service::Ntfy,
            Service::NextPush,
            Service::Other,
        ] {
            let verdict = silent(status, stranger(service));
            assert_eq!(verdict.reason, Reason::BadRequest, "{service:?} {status}");
            assert_eq!(verdict.pause, None);
        }
        let listed = silent(status, context(Service::Mozilla));
        assert_eq!(listed.reason, Reason::VapidRejected, "{status}");
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
        assert!(!verdict.is_vapid_fault() && !verdict.is_key_mismatch());
    }
}

#[test]
fn only_trouble_of_the_service_counts_towards_its_breaker() {
    for service in Service::ALL {
        for status in 100..=999 {
            let verdict = silent(status, stranger(service));
            let throttled = verdict.reason == Reason::Throttled;
            let down = (500..=599).contains(&status) && !throttled;
            assert_eq!(verdict.down, down, "{service:?} {status}");
        }
    }
}

#[test]
fn a_strangers_words_are_not_repeated() {
    for service in Service::ALL {
        let body = Bytes::from_static(b"{\"reason\": \"BadTtl\", \"message\": \"secret\"}");
        let says = answer(400, &[("x-wns-error-description", "secret")], body);
        assert_eq!(classified(says.clone(), stranger(service)).detail, None);
        assert!(classified(says, context(service)).detail.is_some());
    }
}

#[test]
fn a_second_refusal_is_final() {
    let fresh = "retryable vapid_rejected again fresh_token: token has expired";
    let fault = "retryable vapid_rejected after 900s pause key: token has expired";
    for (tried, expected) in [
        (None, fresh),
        (Some(Again::AsItWas), fresh),
        (Some(Again::AnotherKey), fresh),
        (Some(Again::FreshToken), fault),
        (
            Some(Again::WithoutTopic),
            "retryable vapid_rejected: token has expired",
        ),
    ] {
        let context = Context {
            tried,
            ..context(Service::Fcm)
        };
        check(context, &[(403, &[], "token has expired", expected)]);
    }
}

#[test]
fn a_token_that_is_refused_while_young_is_a_fault_and_one_that_expired_is_not() {
    for (seconds, body, expected) in [
        (3600, "invalid JWT provided", Some(Again::FreshToken)),
        (3599, "invalid JWT provided", None),
        (0, "token has expired", Some(Again::FreshToken)),
    ] {
        let context = Context {
            token_age: Duration::from_secs(seconds),
            ..context(Service::Fcm)
        };
        let verdict = classified(answer(403, &[], body), context);
        assert_eq!(verdict.again, expected, "{seconds} {body}");
        assert_eq!(verdict.is_vapid_fault(), expected.is_none());
        assert_eq!(verdict.pause.is_some(), expected.is_none());
    }
}

#[test]
fn a_key_that_is_taken_from_others_is_not_paused_for_one_endpoint() {
    let unauthenticated = r#"{"error":{"code":401,"status":"UNAUTHENTICATED"}}"#;
    for (tried, body) in [
        (None, unauthenticated),
        (Some(Again::FreshToken), "invalid JWT provided"),
        (Some(Again::FreshToken), "token has expired"),
    ] {
        for key_proved in [false, true] {
            let context = Context {
                tried,
                token_age: Duration::ZERO,
                key_proved,
                ..context(Service::Fcm)
            };
            let verdict = classified(answer(403, &[], body), context);
            assert_eq!(verdict.is_vapid_fault(), !key_proved, "{body}");
            assert_eq!(verdict.meaning, Meaning::Retryable);
            assert_eq!(verdict.after, Some(Duration::from_secs(900)));
        }
    }
}

#[test]
fn keys_are_tried_until_the_ring_is_through_and_anything_else_once() {
    for tried in Again::ALL {
        let context = Context {
            tried: Some(tried),
            ..context(Service::Fcm)
        };
        let verdict = classified(answer(403, &[], "do not correspond"), context);
        assert!(verdict.is_key_mismatch());
        assert_eq!(verdict.meaning, Meaning::Rejected);
        assert_eq!(verdict.again, Some(Again::AnotherKey), "{tried:?}");
        for change in Again::ALL {
            let offered = offered(change, Some(tried)).is_some();
            let once = change == Again::AnotherKey || change != tried;
            assert!(once || !offered, "{tried:?} {change:?}");
        }
    }
}

#[test]
fn an_endpoint_in_doubt_is_given_up_after_an_hour() {
    let doubt = "invalid push subscription endpoint";
    for (attempt, last_status, gone) in [
        (1, None, false),
        (3, Some(403), false),
        (4, Some(403), true),
        (4, Some(503), false),
        (4, None, false),
    ] {
        let context = Context {
            attempt,
            last_status,
            ..context(Service::Fcm)
        };
        let verdict = classified(answer(403, &[], doubt), context);
        assert_eq!(
            verdict.meaning == Meaning::Gone,
            gone,
            "{attempt} {last_status:?}"
        );
        let patience = (!gone).then_some(Duration::from_secs(1200));
        assert_eq!(verdict.after, patience);
    }
}

#[test]
fn autopush_gives_itself_away_behind_a_strangers_name() {
    let error = r#"{"code":401,"errno":109,"error":"Unauthorized",
        "message":"VAPID public key mismatch","more_info":"http://autopush.example"}"#;
    let no_user = error.replace("109", "106");
    let proxy = r#"{"errno":109,"message":"VAPID public key mismatch"}"#;
    for (service, status, body, expected) in [
        (
            Service::Other,
            401,
            error,
            "rejected key_mismatch again another_key",
        ),
        (
            Service::Ntfy,
            401,
            error,
            "rejected key_mismatch again another_key",
        ),
        (Service::Mozilla, 400, &no_user, "gone not_found"),
        (Service::Other, 201, error, "accepted accepted"),
        (
            Service::Other,
            401,
            proxy,
            "rejected bad_request unfamiliar: the server lets us in only with credentials of \
             its own",
        ),
    ] {
        check(stranger(service), &[(status, &[], body, expected)]);
    }
}

#[test]
fn what_was_not_answered_is_tried_again() {
    for (failure, expected) in [
        (Failure::Timeout, "retryable timeout down"),
        (Failure::Dns, "retryable dns down"),
        (Failure::Connect, "retryable network down"),
        (Failure::Tls, "retryable tls after 60s down"),
        (Failure::Interrupted, "retryable network down"),
        (
            Failure::NotProcessed,
            "retryable network again as_it_was down",
        ),
        (Failure::Protocol, "retryable network down"),
        (Failure::ForbiddenAddress, "rejected endpoint_forbidden"),
    ] {
        let judged = |context| {
            let verdict = classify(&Attempt::Failed(failure), context, SystemTime::UNIX_EPOCH);
            let told = told(&verdict);
            told.split_once(": ").unwrap().0.to_owned()
        };
        assert_eq!(judged(context(Service::Fcm)), expected);
        let second = Context {
            attempt: 99,
            tried: Some(Again::AsItWas),
            ..context(Service::Fcm)
        };
        let patient = expected.replace("60s", "3600s");
        assert_eq!(judged(second), patient.replace(" again as_it_was", ""));
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

/// What some service says, somewhere.
const PHRASES: &[&str] = &[
    "InvalidRegistration",
    "InvalidTokenFormat",
    "invalid push subscription endpoint",
    r#"{"reason":"BadDeviceToken"}"#,
    r#"{"reason":"Unregistered"}"#,
    r#"{"reason":"ExpiredToken"}"#,
    r#"{"success":false}"#,
    r#"{"code":50701,"http":507}"#,
    r#"{"errno":106,"message":"No such subscription","more_info":"x"}"#,
    r#"{"errno":106}"#,
];

/// The only words besides 404 and 410 that end a subscription for a stranger (rows 7 and 8).
fn may_end(service: Service, status: u16, phrase: &str) -> bool {
    let next_push = service == Service::NextPush && status == 401 && phrase.contains("success");
    let autopush = status == 400 && phrase.contains("more_info");
    // Without its name, autopush is known by its path, which a stranger chose.
    let by_path = service == Service::Mozilla && status == 400 && phrase.contains("106");
    next_push || autopush || by_path
}

fn any_stranger() -> impl Strategy<Value = Service> {
    proptest::sample::select(vec![
        Service::Mozilla,
        Service::Ntfy,
        Service::NextPush,
        Service::Other,
    ])
}

proptest! {
    #[test]
    fn a_strangers_phrases_end_no_subscription(
        service in any_stranger(),
        status in prop_oneof![100u16..=599, Just(400), Just(401), Just(403), Just(507)],
        phrase in proptest::sample::select(PHRASES),
        attempt in 1u32..9,
        last_status in proptest::option::of(400u16..=405),
    ) {
        let context = Context { attempt, last_status, ..stranger(service) };
        let verdict = classified(answer(status, &[], phrase), context);
        let twice = status == 404 && last_status == Some(404);
        let may = twice || status == 410 || may_end(service, status, phrase);
        prop_assert_eq!(verdict.meaning == Meaning::Gone, may);
    }

    #[test]
    fn no_answer_is_too_strange(
        service in proptest::sample::select(Service::ALL.as_slice()),
        listed: bool,
        status in 100u16..=999,
        name in proptest::sample::select(vec![
            "retry-after", "date", "x-wns-status", "x-wns-error-description",
            "x-wns-continue-after", "www-authenticate", "apns-id",
        ]),
        value: Vec<u8>,
        asks in 0u64..u64::MAX,
        body: Vec<u8>,
        attempt: u32,
    ) {
        let mut answer = answer(status, &[("retry-after", &asks.to_string())], body);
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            answer.headers.insert(HeaderName::from_static(name), value);
        }
        let context = Context { listed: Listed(listed), attempt, ..context(service) };
        let verdict = classified(answer, context);
        prop_assert!(verdict.after.unwrap_or_default() <= CAP);
        prop_assert!(verdict.detail.is_none_or(|detail| detail.len() <= 512));
        let throttled = verdict.reason == Reason::Throttled;
        let vapid = verdict.reason == Reason::VapidRejected;
        prop_assert!(verdict.pause.is_none() || throttled || vapid);
        prop_assert!(verdict.after.is_none() || verdict.meaning == Meaning::Retryable);
    }
}
