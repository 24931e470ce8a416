//! Second requests, and verdicts that depend on what was before.

use super::*;

#[test]
fn a_second_refusal_is_final() {
    let fresh = "retryable vapid_rejected again fresh_token: token has expired";
    let fault = "retryable vapid_rejected: token has expired";
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
        assert!(verdict.is_vapid_refusal());
    }
}

#[test]
fn a_token_that_cannot_be_good_by_the_services_clock_is_signed_anew_whatever_its_age() {
    for (service, listed, status, body) in [
        (Service::Fcm, true, 403, "invalid JWT provided"),
        (Service::Apple, true, 403, r#"{"reason":"BadJwtToken"}"#),
        (Service::Wns, true, 401, ""),
        (Service::Mozilla, true, 401, r#"{"errno":109}"#),
        (Service::Other, false, 401, "expired"),
        (Service::Other, false, 403, "the token has expired"),
    ] {
        for (tried, fresh) in [(None, true), (Some(Again::FreshToken), false)] {
            let context = Context {
                listing: Listing::of(listed),
                tried,
                token_age: Duration::ZERO,
                token_untimely: true,
                ..context(service)
            };
            let again = classified(answer(status, &[], body), context).again;
            assert_eq!(again, fresh.then_some(Again::FreshToken), "{service:?}");
        }
    }
}

#[test]
fn a_refused_token_pauses_nobody_else() {
    let unauthenticated = r#"{"error":{"code":401,"status":"UNAUTHENTICATED"}}"#;
    for (tried, body) in [
        (None, unauthenticated),
        (Some(Again::FreshToken), "invalid JWT provided"),
        (Some(Again::FreshToken), "token has expired"),
    ] {
        let context = Context {
            tried,
            token_age: Duration::ZERO,
            ..context(Service::Fcm)
        };
        let verdict = classified(answer(403, &[], body), context);
        assert!(verdict.is_vapid_refusal(), "{body}");
        assert_eq!(verdict.meaning, Meaning::Retryable);
        assert_eq!((verdict.pause, verdict.after), (None, None));
    }
}

#[test]
fn keys_are_tried_until_the_ring_is_through_and_anything_else_once() {
    for &tried in Again::ALL {
        let context = Context {
            tried: Some(tried),
            ..context(Service::Fcm)
        };
        let verdict = classified(answer(403, &[], "do not correspond"), context);
        assert!(verdict.is_key_mismatch());
        assert_eq!(verdict.meaning, Meaning::Rejected);
        assert_eq!(verdict.again, Some(Again::AnotherKey), "{tried:?}");
        for &change in Again::ALL {
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
