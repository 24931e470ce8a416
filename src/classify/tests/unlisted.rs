//! Hosts that nobody has named: what they say, and what they cannot bring about.

use super::*;

#[test]
fn an_unlisted_host_must_say_404_twice() {
    let unlisted = unlisted(Service::Other);
    let after = |last_status| Context {
        last_status,
        ..unlisted
    };
    for (last_status, expected) in [
        (None, "retryable service_unavailable after 600s"),
        (Some(404), "gone not_found"),
        (Some(503), "retryable service_unavailable after 600s"),
    ] {
        assert_eq!(actual(&silent(404, after(last_status))), expected);
    }
    let asks = answer(404, &[("retry-after", "1200")], Bytes::new());
    let patient = classified(asks, unlisted);
    assert_eq!(patient.after, Some(Duration::from_secs(1200)));
}

#[test]
fn the_access_control_of_an_unlisted_host_is_not_a_vapid_fault() {
    for status in [401, 403] {
        for service in [
            Service::Mozilla,
            Service::Ntfy,
            Service::NextPush,
            Service::Other,
        ] {
            let verdict = silent(status, unlisted(service));
            assert_eq!(verdict.reason, Reason::BadRequest, "{service:?} {status}");
            assert_eq!(verdict.pause, None);
        }
        let listed = silent(status, context(Service::Mozilla));
        assert_eq!(listed.reason, Reason::VapidRejected, "{status}");
    }
}

#[test]
fn the_text_of_an_unlisted_host_is_not_repeated() {
    for &service in Service::ALL {
        let body = Bytes::from_static(b"{\"reason\": \"BadTtl\", \"message\": \"secret\"}");
        let says = answer(400, &[("x-wns-error-description", "secret")], body);
        assert_eq!(classified(says.clone(), unlisted(service)).detail, None);
        assert!(classified(says, context(service)).detail.is_some());
    }
}

#[test]
fn autopush_is_recognized_behind_an_unlisted_name() {
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
        check(unlisted(service), &[(status, &[], body, expected)]);
    }
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

/// The only words besides 404 and 410 that end a subscription for an unlisted host (rows 7 and 8).
fn may_end(service: Service, status: u16, phrase: &str) -> bool {
    let next_push = service == Service::NextPush && status == 401 && phrase.contains("success");
    let autopush = status == 400 && phrase.contains("more_info");
    // Without its name, autopush is known by its path, which an unlisted host chose.
    let by_path = service == Service::Mozilla && status == 400 && phrase.contains("106");
    next_push || autopush || by_path
}

fn any_unlisted_service() -> impl Strategy<Value = Service> {
    proptest::sample::select(vec![
        Service::Mozilla,
        Service::Ntfy,
        Service::NextPush,
        Service::Other,
    ])
}

proptest! {
    #[test]
    fn phrases_of_an_unlisted_host_end_no_subscription(
        service in any_unlisted_service(),
        status in prop_oneof![100u16..=599, Just(400), Just(401), Just(403), Just(507)],
        phrase in proptest::sample::select(PHRASES),
        attempt in 1u32..9,
        last_status in proptest::option::of(400u16..=405),
    ) {
        let context = Context { attempt, last_status, ..unlisted(service) };
        let verdict = classified(answer(status, &[], phrase), context);
        let twice = status == 404 && last_status == Some(404);
        let may = twice || status == 410 || may_end(service, status, phrase);
        prop_assert_eq!(verdict.meaning == Meaning::Gone, may);
    }

    #[test]
    fn no_answer_is_too_strange(
        service in proptest::sample::select(Service::ALL),
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
        let context = Context { listing: Listing::of(listed), attempt, ..context(service) };
        let verdict = classified(answer, context);
        prop_assert!(verdict.after.unwrap_or_default() <= CAP);
        prop_assert!(verdict.detail.is_none_or(|detail| detail.len() <= 512));
        let throttled = verdict.reason == Reason::Throttled;
        prop_assert!(verdict.pause.is_none() || throttled);
        prop_assert!(verdict.after.is_none() || verdict.meaning == Meaning::Retryable);
    }
}
