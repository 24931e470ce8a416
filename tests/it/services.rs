//! Every documented answer of every push service, through the whole daemon.
//!
//! The sandbox speaks as each service does; what an answer must become is push-services.md §2, and
//! whether the application hears of the subscription follows from it alone.

use std::collections::{BTreeMap, BTreeSet};

use pushrider::message::Name;
use pushrider::origin::Service;
use pushrider::sandbox;
use pushrider::sandbox::{Script, SubscriptionJson, Wish};
use pushrider::vapid::VapidKey;
use serde_json::{Value, json};

use crate::support::house::{House, event, is_delivery};

/// What a push meets.
#[derive(Clone, Copy, Debug)]
enum Meets {
    /// An answer of the service, by its name in the sandbox.
    Answer(&'static str),
    /// A subscription that was made with another key.
    AnotherKey,
    /// An endpoint that the service does not know.
    Nobody,
}

use Meets::{AnotherKey, Answer, Nobody};
use Service::{Apple, Fcm, Mozilla, NextPush, Ntfy, Other, Wns};

const ACCEPTED: &str = "accepted accepted";
const UNSUBSCRIBED: &str = "gone unsubscribed";
const NOT_FOUND: &str = "gone not_found";
const MISMATCH: &str = "rejected key_mismatch";
const BAD_REQUEST: &str = "rejected bad_request";
const TOO_LARGE: &str = "rejected payload_too_large";
const VAPID: &str = "failed vapid_rejected";
const THROTTLED: &str = "failed throttled";
const UNAVAILABLE: &str = "failed service_unavailable";

/// What becomes of a push that has one attempt, and how many requests that takes.
const TABLE: &[(Service, Meets, &str, u64)] = &[
    (Fcm, Answer("accepted"), ACCEPTED, 1),
    (Fcm, Answer("gone"), UNSUBSCRIBED, 1),
    (Fcm, Answer("not_found"), NOT_FOUND, 1),
    (Fcm, Answer("invalid_registration"), NOT_FOUND, 1),
    (Fcm, Answer("invalid_token"), NOT_FOUND, 1),
    (Fcm, Answer("key_mismatch"), MISMATCH, 1),
    (Fcm, Answer("sender_mismatch"), MISMATCH, 1),
    (Fcm, Answer("invalid_endpoint"), UNAVAILABLE, 1),
    (Fcm, Answer("vapid_rejected"), VAPID, 1),
    (Fcm, Answer("vapid_audience"), VAPID, 1),
    (Fcm, Answer("vapid_too_long"), VAPID, 2),
    (Fcm, Answer("vapid_expired"), VAPID, 2),
    (Fcm, Answer("vapid_no_expiry"), VAPID, 1),
    (Fcm, Answer("vapid_key"), VAPID, 1),
    (Fcm, Answer("vapid_header"), VAPID, 1),
    (Fcm, Answer("vapid_missing"), VAPID, 1),
    (Fcm, Answer("unauthenticated"), VAPID, 1),
    (Fcm, Answer("unauthorized"), VAPID, 1),
    (Fcm, Answer("payload_too_large"), TOO_LARGE, 1),
    (Fcm, Answer("bad_ttl"), BAD_REQUEST, 1),
    (Fcm, Answer("bad_request"), BAD_REQUEST, 1),
    (Fcm, Answer("throttled"), THROTTLED, 1),
    (Fcm, Answer("unavailable"), UNAVAILABLE, 1),
    (Fcm, Answer("internal_error"), UNAVAILABLE, 1),
    (Fcm, Answer("bad_gateway"), UNAVAILABLE, 1),
    (Fcm, AnotherKey, MISMATCH, 1),
    (Fcm, Nobody, NOT_FOUND, 1),
    (Mozilla, Answer("accepted"), ACCEPTED, 1),
    (Mozilla, Answer("gone"), UNSUBSCRIBED, 1),
    (Mozilla, Answer("user_gone"), UNSUBSCRIBED, 1),
    (Mozilla, Answer("user_deleted"), UNSUBSCRIBED, 1),
    (Mozilla, Answer("app_gone"), NOT_FOUND, 1),
    (Mozilla, Answer("not_found"), NOT_FOUND, 1),
    (Mozilla, Answer("key_mismatch"), MISMATCH, 1),
    (Mozilla, Answer("vapid_rejected"), VAPID, 1),
    (Mozilla, Answer("vapid_expired"), VAPID, 2),
    (Mozilla, Answer("vapid_audience"), VAPID, 1),
    (Mozilla, Answer("vapid_no_audience"), VAPID, 1),
    (Mozilla, Answer("vapid_too_long"), VAPID, 1),
    (Mozilla, Answer("vapid_missing"), VAPID, 1),
    (Mozilla, Answer("vapid_key"), VAPID, 1),
    (Mozilla, Answer("vapid_token"), VAPID, 1),
    (Mozilla, Answer("vapid_algorithm"), VAPID, 1),
    (Mozilla, Answer("vapid_scheme"), VAPID, 1),
    (Mozilla, Answer("vapid_claims"), VAPID, 1),
    (Mozilla, Answer("payload_too_large"), TOO_LARGE, 1),
    (Mozilla, Answer("constrained_device"), TOO_LARGE, 1),
    (Mozilla, Answer("bad_request"), BAD_REQUEST, 1),
    (Mozilla, Answer("router_type"), BAD_REQUEST, 1),
    (Mozilla, Answer("coding_missing"), BAD_REQUEST, 1),
    (Mozilla, Answer("coding_unknown"), BAD_REQUEST, 1),
    (Mozilla, Answer("salt_header"), BAD_REQUEST, 1),
    (Mozilla, Answer("dh_header"), BAD_REQUEST, 1),
    (Mozilla, Answer("ttl_missing"), BAD_REQUEST, 1),
    (Mozilla, Answer("ttl_negative"), BAD_REQUEST, 1),
    (Mozilla, Answer("topic_length"), BAD_REQUEST, 1),
    (Mozilla, Answer("topic_alphabet"), BAD_REQUEST, 1),
    (Mozilla, Answer("method"), BAD_REQUEST, 1),
    (Mozilla, Answer("throttled"), THROTTLED, 1),
    (Mozilla, Answer("unavailable"), UNAVAILABLE, 1),
    (Mozilla, Answer("not_saved"), UNAVAILABLE, 1),
    (Mozilla, Answer("save_failed"), UNAVAILABLE, 1),
    (Mozilla, Answer("internal_error"), UNAVAILABLE, 1),
    (Mozilla, Answer("bad_gateway"), UNAVAILABLE, 1),
    (Mozilla, Answer("bridge_rejected"), UNAVAILABLE, 1),
    (Mozilla, Answer("bridge_unreachable"), UNAVAILABLE, 1),
    (Mozilla, Answer("bridge_timeout"), UNAVAILABLE, 1),
    (Mozilla, AnotherKey, MISMATCH, 1),
    (Mozilla, Nobody, NOT_FOUND, 1),
    (Apple, Answer("accepted"), ACCEPTED, 1),
    (Apple, Answer("gone"), UNSUBSCRIBED, 1),
    (Apple, Answer("expired"), "gone expired_subscription", 1),
    (Apple, Answer("bad_token"), NOT_FOUND, 1),
    (Apple, Answer("not_found"), NOT_FOUND, 1),
    (Apple, Answer("key_mismatch"), MISMATCH, 1),
    // A token that is not an hour old is not signed anew.
    (Apple, Answer("vapid_rejected"), VAPID, 1),
    (Apple, Answer("vapid_header"), VAPID, 1),
    (Apple, Answer("vapid_key"), VAPID, 1),
    (Apple, Answer("payload_too_large"), TOO_LARGE, 1),
    (Apple, Answer("bad_ttl"), BAD_REQUEST, 1),
    (Apple, Answer("bad_urgency"), BAD_REQUEST, 1),
    (Apple, Answer("bad_topic"), BAD_REQUEST, 2),
    (Apple, Answer("bad_request"), BAD_REQUEST, 1),
    (Apple, Answer("method"), BAD_REQUEST, 1),
    (Apple, Answer("throttled"), THROTTLED, 1),
    (Apple, Answer("internal_error"), UNAVAILABLE, 1),
    (Apple, Answer("unavailable"), UNAVAILABLE, 1),
    (Apple, Answer("shutdown"), UNAVAILABLE, 1),
    (Apple, Answer("idle_timeout"), UNAVAILABLE, 1),
    (Apple, AnotherKey, MISMATCH, 1),
    (Apple, Nobody, NOT_FOUND, 1),
    (Wns, Answer("accepted"), ACCEPTED, 1),
    (Wns, Answer("dropped"), "accepted not_delivered", 1),
    (Wns, Answer("channel_throttled"), THROTTLED, 1),
    (Wns, Answer("app_throttled"), THROTTLED, 1),
    (Wns, Answer("gone"), "gone expired_subscription", 1),
    (Wns, Answer("not_found"), NOT_FOUND, 1),
    (Wns, Answer("key_mismatch"), MISMATCH, 1),
    (Wns, Answer("channel_key"), MISMATCH, 1),
    (Wns, Answer("vapid_rejected"), VAPID, 1),
    (Wns, Answer("payload_too_large"), TOO_LARGE, 1),
    // Nothing to mend: the TTL was not 0.
    (Wns, Answer("ttl_conflict"), BAD_REQUEST, 1),
    (Wns, Answer("bad_request"), BAD_REQUEST, 1),
    (Wns, Answer("method"), BAD_REQUEST, 1),
    (Wns, Answer("throttled"), THROTTLED, 1),
    (Wns, Answer("too_many_requests"), THROTTLED, 1),
    (Wns, Answer("unavailable"), UNAVAILABLE, 1),
    (Wns, Answer("internal_error"), UNAVAILABLE, 1),
    (Wns, Answer("bad_gateway"), UNAVAILABLE, 1),
    (Wns, AnotherKey, MISMATCH, 1),
    (Wns, Nobody, NOT_FOUND, 1),
    (Ntfy, Answer("accepted"), ACCEPTED, 1),
    (Ntfy, Answer("no_subscriber"), THROTTLED, 1),
    (Ntfy, Answer("throttled"), THROTTLED, 1),
    (Ntfy, Answer("daily_quota"), THROTTLED, 1),
    // Its own access control, and no fault of the token.
    (Ntfy, Answer("unauthorized"), BAD_REQUEST, 1),
    (Ntfy, Answer("forbidden"), BAD_REQUEST, 1),
    (Ntfy, Answer("bad_request"), BAD_REQUEST, 1),
    (Ntfy, Answer("topic_disallowed"), BAD_REQUEST, 1),
    (Ntfy, Answer("payload_too_large"), TOO_LARGE, 1),
    (Ntfy, Answer("not_found"), NOT_FOUND, 1),
    (Ntfy, Answer("unavailable"), UNAVAILABLE, 1),
    (Ntfy, Answer("internal_error"), UNAVAILABLE, 1),
    (Ntfy, AnotherKey, ACCEPTED, 1),
    (Ntfy, Nobody, THROTTLED, 1),
    (NextPush, Answer("accepted"), ACCEPTED, 1),
    (NextPush, Answer("gone"), NOT_FOUND, 1),
    (NextPush, Answer("not_found"), NOT_FOUND, 1),
    (NextPush, Answer("method"), BAD_REQUEST, 1),
    (NextPush, Answer("throttled"), THROTTLED, 1),
    (NextPush, Answer("unavailable"), UNAVAILABLE, 1),
    (NextPush, Answer("internal_error"), UNAVAILABLE, 1),
    (NextPush, AnotherKey, ACCEPTED, 1),
    (NextPush, Nobody, NOT_FOUND, 1),
    (Other, Answer("accepted"), ACCEPTED, 1),
    (Other, Answer("gone"), UNSUBSCRIBED, 1),
    // A stranger must say 404 twice, and its door is its own.
    (Other, Answer("not_found"), UNAVAILABLE, 1),
    (Other, Answer("vapid_rejected"), BAD_REQUEST, 1),
    (Other, Answer("payload_too_large"), TOO_LARGE, 1),
    (Other, Answer("bad_request"), BAD_REQUEST, 1),
    (Other, Answer("throttled"), THROTTLED, 1),
    (Other, Answer("unavailable"), UNAVAILABLE, 1),
    (Other, Answer("internal_error"), UNAVAILABLE, 1),
];

/// Endpoints that are never pushed to.
const NO_REQUEST: &[(&str, &str)] = &[
    (
        "https://permanently-removed.invalid/fcm/send/x",
        "gone removed_by_browser",
    ),
    (
        "https://android.googleapis.com/gcm/send/x",
        "gone removed_by_browser",
    ),
    ("https://10.0.0.5/x", "rejected endpoint_forbidden"),
    (
        "https://push.example.org:8/x",
        "rejected endpoint_forbidden",
    ),
    ("http://push.example.org/x", "rejected endpoint_forbidden"),
];

#[test]
fn the_table_has_every_answer_of_every_service() {
    let tested: BTreeSet<_> = TABLE
        .iter()
        .filter_map(|(service, meets, ..)| match meets {
            Answer(name) => Some((*service, *name)),
            AnotherKey | Nobody => None,
        })
        .collect();
    let documented: BTreeSet<_> = Service::ALL
        .into_iter()
        .flat_map(|service| {
            let names = sandbox::answers(service).into_iter();
            names.map(move |name| (service, name))
        })
        .collect();
    assert_eq!(tested, documented);
}

/// Each row has an origin of its own, so that no pause and no breaker reaches another.
#[tokio::test]
async fn every_answer_of_every_service_is_understood() {
    let settings = sandbox::Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap(); TABLE.len()],
        services: TABLE.iter().map(|row| row.0).collect(),
        ..sandbox::Settings::default()
    };
    let mut house = House::open_with(settings, "retry.max_attempts = 1").await;
    let mut expected = BTreeMap::new();
    for (number, (service, meets, ends, requests)) in TABLE.iter().enumerate() {
        let id = format!("{}-{number}", service.name());
        let told = format!("{ends} {requests} {}", service.name());
        expected.insert(id.clone(), told);
        let subscription = subscribe(&house, number, *meets);
        let options = json!({ "topic": "orders", "ttl": 600 });
        house.publish(&event(&id, &subscription, options)).await;
    }
    let any = house.subscribe(json!({}));
    for (number, (endpoint, ends)) in NO_REQUEST.iter().enumerate() {
        let subscription = SubscriptionJson {
            endpoint: (*endpoint).to_owned(),
            ..any.clone()
        };
        let id = format!("none-{number}");
        house.publish(&event(&id, &subscription, json!({}))).await;
        let service = if endpoint.contains("googleapis") {
            "fcm"
        } else {
            "other"
        };
        expected.insert(id, format!("{ends} 0 {service}"));
    }
    house.gather(expected.len(), is_delivery).await;
    house.settled().await;
    // What is settled is in the queue.
    house.gather(0, is_change).await;
    let told = told(&house);
    let wrong: Vec<_> = expected
        .iter()
        .map(|(id, ends)| (named(id), ends, told.get(id)))
        .filter(|(_, ends, told)| Some(*ends) != *told)
        .collect();
    assert!(wrong.is_empty(), "expected, got: {wrong:#?}");
    let changes = changes(&expected);
    let heard: BTreeSet<_> = house
        .results
        .iter()
        .filter(|it| is_change(it))
        .map(change)
        .collect();
    assert_eq!(heard, changes);
}

/// Names what an event was for, for people.
fn named(id: &str) -> String {
    let number = id.rsplit('-').next().and_then(|number| number.parse().ok());
    let row = number.and_then(|number: usize| TABLE.get(number));
    match row {
        Some((service, meets, ..)) if !id.starts_with("none") => {
            format!("{} {meets:?}", service.name())
        }
        _ => id.to_owned(),
    }
}

/// Makes the subscription of a row at its own origin.
fn subscribe(house: &House, origin: usize, meets: Meets) -> SubscriptionJson {
    let mut wish = Wish {
        origin,
        ..Wish::default()
    };
    match meets {
        Answer(name) => wish.answer = Script::from_json(json!({ "answer": name })).unwrap(),
        AnotherKey => {
            let other = VapidKey::generate(Name::parse("other").unwrap()).unwrap();
            wish.application_server_key = Some(other.public_key_base64url().to_owned());
        }
        Nobody => {}
    }
    let mut subscription = house.sandbox.subscribe(wish).unwrap();
    if let Nobody = meets {
        let endpoint = &mut subscription.endpoint;
        let end = endpoint.rfind(['%', '?']).unwrap_or(endpoint.len());
        endpoint.insert(end, 'x');
    }
    subscription
}

/// What has become of each event: outcome, reason, requests, push service.
fn told(house: &House) -> BTreeMap<String, String> {
    let results = house.results.iter().filter(|result| is_delivery(result));
    results
        .map(|result| {
            let word = |name: &str| result[name].as_str().unwrap_or_default().to_owned();
            let (outcome, reason, service) =
                (word("outcome"), word("reason"), word("push_service"));
            let requests = &result["requests"];
            (
                word("event_id"),
                format!("{outcome} {reason} {requests} {service}"),
            )
        })
        .collect()
}

fn is_change(result: &Value) -> bool {
    result.get("change").is_some()
}

fn change(result: &Value) -> (String, String) {
    let word = |name: &str| result[name].as_str().unwrap_or_default().to_owned();
    (word("event_id"), word("change"))
}

/// What the application must hear of its subscriptions: of those that are gone or belong to another
/// key, and of no others.
fn changes(expected: &BTreeMap<String, String>) -> BTreeSet<(String, String)> {
    let change = |ends: &str| {
        let gone = ends.starts_with("gone ").then_some("gone");
        gone.or(ends.starts_with(MISMATCH).then_some("key_mismatch"))
    };
    expected
        .iter()
        .filter_map(|(id, ends)| Some((id.clone(), change(ends)?.to_owned())))
        .collect()
}
