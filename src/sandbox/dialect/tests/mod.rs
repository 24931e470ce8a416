use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use http::status::StatusCode;
use serde_json::{Value, json};

use super::*;
use crate::origin::Listing;
use crate::sandbox::decrypt::DecryptError;
use crate::sandbox::push::Head;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::script::Response;
use crate::sandbox::vapid::{Claims, Credential, VapidError};
use crate::subscription::Endpoint;
use http::HeaderMap;

mod measured;

const TAKEN: Taken<'static> = Taken {
    origin: "https://push.example.net:8443",
    path: "/upAbCdEfGhIjKl?up=1",
    id: 7,
    ttl: 9_999_999,
    now: UNIX_EPOCH,
    body: b"sealed",
};

fn header<'a>(answer: &'a ServiceAnswer, name: &str) -> Option<&'a str> {
    answer
        .headers
        .get(name)
        .map(|value| value.to_str().unwrap())
}

fn body(answer: &ServiceAnswer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

fn answer(service: Service, scripted: &Value) -> ServiceAnswer {
    let script: crate::sandbox::Answer = serde_json::from_value(scripted.clone()).unwrap();
    let crate::sandbox::Act::Respond(response) = script.act else {
        panic!("{scripted}");
    };
    Dialect::of(service).say(&response, &TAKEN)
}

fn refused(service: Service, refusal: &Refusal) -> Option<(u16, String)> {
    let answer = (Dialect::of(service).refuse)(refusal)?;
    let body = String::from_utf8(answer.body.to_vec()).unwrap();
    Some((answer.status.as_u16(), body))
}

/// A head whose token names this contact.
fn head(ttl: u64, sub: Option<&str>) -> Head {
    let claims = Claims {
        aud: String::new(),
        exp: 0,
        sub: sub.map(str::to_owned),
    };
    let credential = Credential {
        claims,
        key: String::new(),
        point: [4; 65],
    };
    Head {
        ttl,
        credential: credential.into(),
    }
}

#[test]
fn every_path_is_one_by_which_senders_know_the_family() {
    let token = "A".repeat(43);
    for &service in Service::ALL {
        let path = (Dialect::of(service).path)(&token);
        let endpoint = Endpoint::parse(&format!("https://push.example.net{path}")).unwrap();
        let by_path = match service {
            Service::Mozilla | Service::Ntfy | Service::NextPush => service,
            // These are known by their hosts.
            Service::Fcm | Service::Apple | Service::Wns | Service::Other => Service::Other,
        };
        assert_eq!(endpoint.service(), by_path, "{service:?}");
        assert_eq!(endpoint.listing(), Listing::Unlisted);
    }
    let topic = (Dialect::of(Service::Ntfy).path)(&token);
    assert_eq!(topic.len(), "/up".len() + 12 + "?up=1".len());
}

#[test]
fn a_right_push_is_answered_as_by_each_service() {
    let accepted = |service| answer(service, &json!({}));
    let fcm = accepted(Service::Fcm);
    let location = header(&fcm, "location").unwrap();
    assert!(location.starts_with("https://push.example.net:8443/0:0000000000000007%"));
    assert_eq!((fcm.status.as_u16(), header(&fcm, "ttl")), (201, None));
    let mozilla = accepted(Service::Mozilla);
    assert_eq!(header(&mozilla, "ttl"), Some("2592000"));
    let location = header(&mozilla, "location").unwrap();
    assert!(location.starts_with("https://push.example.net:8443/m/"));
    let apple = accepted(Service::Apple);
    assert_eq!(apple.status.as_u16(), 201);
    assert!(header(&apple, "location").is_none() && apple.body.is_empty());
    assert_eq!(header(&apple, "apns-id").unwrap().len(), 36);
    let wns = accepted(Service::Wns);
    assert_eq!(header(&wns, "x-wns-status"), Some("received"));
    let ntfy = accepted(Service::Ntfy);
    assert_eq!(
        (ntfy.status.as_u16(), &body(&ntfy)["event"]),
        (200, &json!("message"))
    );
    assert_eq!(body(&ntfy)["topic"], "upAbCdEfGhIjKl");
    assert_eq!(body(&ntfy)["message"], "c2VhbGVk");
    assert_eq!(
        body(&accepted(Service::NextPush)),
        json!({ "success": true })
    );
    let plain = accepted(Service::Other);
    assert_eq!(header(&plain, "ttl"), Some("9999999"));
    assert_eq!(
        header(&plain, "location").unwrap().rsplit('/').next(),
        Some("7")
    );
}

#[test]
fn every_answer_has_one_name_and_a_body_that_can_be_read() {
    for &service in Service::ALL {
        let dialect = Dialect::of(service);
        let names = dialect.names();
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{service:?}");
        for (name, answer) in (dialect.answers)() {
            assert!(dialect.knows(name));
            let kind = header(&answer, "content-type")
                .unwrap_or_default()
                .to_owned();
            assert_eq!(
                kind.is_empty(),
                answer.body.is_empty(),
                "{service:?} {name}"
            );
            if kind == "application/json" {
                assert!(body(&answer).is_object(), "{service:?} {name}");
            }
        }
        for name in ["accepted", "throttled", "unavailable"] {
            assert!(dialect.knows(name), "{service:?} {name}");
        }
        assert!(!dialect.knows("nothing"));
    }
}

#[test]
fn a_script_says_only_what_differs() {
    let gone = answer(Service::Mozilla, &json!({ "status": 410 }));
    assert_eq!(body(&gone)["errno"], 106);
    assert_eq!(header(&gone, "cache-control"), Some("max-age=86400"));
    let same = answer(Service::Mozilla, &json!({ "answer": "gone" }));
    assert_eq!(gone.body, same.body);
    let slow = json!({ "answer": "throttled", "headers": { "Retry-After": "17" } });
    let slow = answer(Service::Mozilla, &slow);
    assert_eq!(
        (header(&slow, "retry-after"), body(&slow)["errno"].as_u64()),
        (Some("17"), Some(201))
    );
    let silent = answer(Service::Mozilla, &json!({ "status": 410, "body": "" }));
    assert!(silent.body.is_empty());
    let unheard = answer(Service::Apple, &json!({ "status": 599 }));
    assert_eq!((unheard.status.as_u16(), unheard.body.len()), (599, 0));
    let bare = answer(Service::Other, &json!({ "status": 200 }));
    assert!(bare.status == StatusCode::OK && bare.headers.is_empty());
}

#[test]
fn no_real_service_notices_what_no_browser_can_read() {
    let undecryptable = Refusal::Decrypt(DecryptError::Authentication(0));
    for &service in Service::ALL {
        let notices = refused(service, &undecryptable).is_some();
        assert_eq!(notices, service == Service::Other, "{service:?}");
    }
}

#[test]
fn a_push_by_another_key_is_refused_in_each_services_own_way() {
    let mismatch = Refusal::Vapid(VapidError::KeyMismatch);
    for (service, status, part) in [
        (Service::Fcm, 403, "do not correspond to the credentials"),
        (Service::Mozilla, 401, "VAPID public key mismatch"),
        (Service::Apple, 400, "VapidPkHashMismatch"),
        (Service::Wns, 403, ""),
        (Service::Other, 403, "public key mismatch"),
    ] {
        let (answer, body) = refused(service, &mismatch).unwrap();
        assert!(
            answer == status && body.contains(part),
            "{service:?} {body}"
        );
    }
    for service in [Service::Ntfy, Service::NextPush] {
        assert_eq!(refused(service, &mismatch), None, "they know no keys");
    }
}

#[test]
fn an_unknown_endpoint_is_refused_in_each_services_own_way() {
    for (service, status, part) in [
        (
            Service::Fcm,
            404,
            "A valid push subscription endpoint should be specified",
        ),
        (Service::Mozilla, 404, ""),
        (Service::Apple, 400, "BadDeviceToken"),
        (Service::Wns, 404, ""),
        (Service::Ntfy, 507, "50701"),
        (Service::NextPush, 401, r#"{"success":false}"#),
        (Service::Other, 404, "there is no such push resource"),
    ] {
        let (answer, body) = refused(service, &Refusal::NotFound).unwrap();
        assert!(
            answer == status && body.contains(part),
            "{service:?} {body}"
        );
    }
}

#[test]
fn what_is_too_long_is_refused_or_cut_off() {
    let long = Refusal::TooLarge(4097);
    for (service, status) in [
        (Service::Fcm, Some(400)),
        (Service::Mozilla, None),
        (Service::Apple, Some(413)),
        (Service::Wns, None),
        (Service::Ntfy, None),
        (Service::NextPush, None),
        (Service::Other, Some(413)),
    ] {
        let answer = refused(service, &long).map(|(status, _)| status);
        assert_eq!(answer, status, "{service:?}");
    }
}

#[test]
fn wns_keeps_nothing_for_no_time() {
    let demand = |headers: &HeaderMap, head: &Head| Dialect::of(Service::Wns).demand(headers, head);
    let mut headers = HeaderMap::new();
    assert_eq!(demand(&headers, &head(1, None)), Ok(()));
    let conflict = demand(&headers, &head(0, None)).unwrap_err();
    let answer = (Dialect::of(Service::Wns).refuse)(&conflict).unwrap();
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let description = "Ttl value conflicts with X-WNS-Cache-Policy.";
    assert_eq!(
        header(&answer, "x-wns-error-description"),
        Some(description)
    );
    headers.insert("x-wns-cache-policy", "no-cache".parse().unwrap());
    assert_eq!(demand(&headers, &head(0, None)), Ok(()));
}

#[test]
fn apple_wants_topics_that_decode_and_contacts_that_can_be_reached() {
    let demand =
        |headers: &HeaderMap, head: &Head| Dialect::of(Service::Apple).demand(headers, head);
    let contact = Some("mailto:ops@example.org");
    for (topic, length) in [("abcde", 5), ("abcdefghijklm", 13), ("abcdefghijkl", 12)] {
        let headers = [("topic".parse().unwrap(), topic.parse().unwrap())];
        let judged = demand(&headers.into_iter().collect(), &head(1, contact));
        assert_eq!(judged.is_err(), length % 4 == 1, "{topic}");
        if let Err(refusal) = judged {
            let (status, body) = refused(Service::Apple, &refusal).unwrap();
            assert!(status == 400 && body.contains("BadWebPushTopic"), "{body}");
        }
    }
    for (contact, right) in [
        (contact, true),
        (Some("https://example.org/contact"), true),
        (Some("mailto:me@localhost"), false),
        (Some("mailto:me@box.local"), false),
        (Some("mailto:me@x.invalid"), false),
        (Some("mailto: me@example.org"), false),
        (Some("mailto:<me@example.org>"), false),
        (Some("me@example.org"), false),
        (None, false),
    ] {
        let judged = demand(&HeaderMap::new(), &head(1, contact));
        assert_eq!(judged.is_ok(), right, "{contact:?}");
        if let Err(refusal) = judged {
            let (status, body) = refused(Service::Apple, &refusal).unwrap();
            assert!(status == 403 && body.contains("BadJwtToken"), "{body}");
        }
    }
}

#[test]
fn ntfy_forgets_after_twelve_hours() {
    let later = Taken {
        now: UNIX_EPOCH + Duration::from_secs(100),
        ..TAKEN
    };
    let response = Response::default();
    let answer = body(&Dialect::of(Service::Ntfy).say(&response, &later));
    assert_eq!(
        (&answer["time"], &answer["expires"]),
        (&json!(100), &json!(43_300))
    );
}
