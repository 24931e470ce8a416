//! Every documented answer of every push service, through the whole daemon.
//!
//! The sandbox speaks as each service does; what an answer must become is classify/README.md §2, and
//! whether the application hears of the subscription follows from it alone.

use std::collections::{BTreeMap, BTreeSet};

use pushrider::message::Name;
use pushrider::origin::Service;
use pushrider::sandbox;
use pushrider::sandbox::{Script, SubscribeRequest, SubscriptionJson};
use pushrider::vapid::VapidKey;
use serde_json::{Value, json};

use crate::support::env::{TestEnv, event, is_delivery};

mod table;

use self::table::{MISMATCH, Meets, TABLE, VAPID};

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
            Meets::Answer(name) => Some((*service, *name)),
            Meets::Says(..) | Meets::AnotherKey | Meets::Nobody => None,
        })
        .collect();
    let documented: BTreeSet<_> = Service::ALL
        .iter()
        .copied()
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
    let mut env = TestEnv::open_with(settings, "retry.max_attempts = 1").await;
    let mut expected = prove_key(&env).await;
    env.gather(expected.len(), is_delivery).await;
    expected.extend(publish_rows(&env).await);
    expected.extend(publish_without_request(&env).await);
    env.gather(expected.len(), is_delivery).await;
    env.settled().await;
    // What is settled is in the queue.
    env.gather(0, is_change).await;
    let reported = reported(&env);
    let wrong: Vec<_> = expected
        .iter()
        .map(|(id, ends)| (named(id), ends, reported.get(id)))
        .filter(|(_, ends, reported)| Some(*ends) != *reported)
        .collect();
    assert!(wrong.is_empty(), "expected, got: {wrong:#?}");
    let changes = changes(&expected);
    let heard: BTreeSet<_> = env
        .results
        .iter()
        .filter(|it| is_change(it))
        .map(change)
        .collect();
    assert_eq!(heard, changes);
}

/// Has a push accepted wherever the key will be refused: that is believed of a key that was proved
/// there, for else the operator may have loaded a wrong one.
async fn prove_key(env: &TestEnv) -> BTreeMap<String, String> {
    let mut expected = BTreeMap::new();
    for (number, (service, _, ends, _)) in TABLE.iter().enumerate() {
        if [MISMATCH, VAPID].contains(ends) {
            let id = format!("proof-{number}");
            let subscription = env.subscribe_at(number, json!({}));
            env.publish(&event(&id, &subscription, json!({}))).await;
            expected.insert(id, format!("accepted accepted 1 {}", service.name()));
        }
    }
    expected
}

/// Publishes an event for each row, and returns what must become of it.
async fn publish_rows(env: &TestEnv) -> BTreeMap<String, String> {
    let mut expected = BTreeMap::new();
    for (number, (service, meets, ends, requests)) in TABLE.iter().enumerate() {
        let id = format!("{}-{number}", service.name());
        let reported = format!("{ends} {requests} {}", service.name());
        expected.insert(id.clone(), reported);
        let subscription = subscribe(env, number, *meets);
        let options = json!({ "topic": "orders", "ttl": 600 });
        env.publish(&event(&id, &subscription, options)).await;
    }
    expected
}

/// Publishes events for endpoints that are never pushed to.
async fn publish_without_request(env: &TestEnv) -> BTreeMap<String, String> {
    let mut expected = BTreeMap::new();
    let any = env.subscribe(json!({}));
    for (number, (endpoint, ends)) in NO_REQUEST.iter().enumerate() {
        let subscription = SubscriptionJson {
            endpoint: (*endpoint).to_owned(),
            ..any.clone()
        };
        let id = format!("none-{number}");
        env.publish(&event(&id, &subscription, json!({}))).await;
        let service = if endpoint.contains("googleapis") {
            "fcm"
        } else {
            "other"
        };
        expected.insert(id, format!("{ends} 0 {service}"));
    }
    expected
}

/// FCM's quota and outages reach Firefox for Android through Mozilla's origin, where desktop
/// browsers are served as well.
#[tokio::test]
async fn trouble_of_mozillas_bridge_to_android_leaves_desktop_browsers_alone() {
    let settings = sandbox::Settings {
        services: vec![Service::Mozilla],
        ..sandbox::Settings::default()
    };
    let mut env = TestEnv::open_with(settings, "retry.max_attempts = 1").await;
    for (answer, reason) in [
        ("android_quota", "throttled"),
        ("android_unavailable", "service_unavailable"),
    ] {
        // More than the failures that open a breaker.
        let events = (0..12).map(|n| format!("{answer}-{n}"));
        for id in events.clone() {
            let android = env.subscribe(json!({ "answer": answer }));
            env.publish(&event(&id, &android, json!({}))).await;
        }
        for id in events {
            let result = env.results_of(&id, 1).await.remove(0);
            let reported = (&result["outcome"], &result["reason"], &result["requests"]);
            assert_eq!(
                reported,
                (&json!("failed"), &json!(reason), &json!(1)),
                "{id}"
            );
        }
        let id = format!("desktop-{answer}");
        let desktop = env.subscribe(json!({}));
        env.publish(&event(&id, &desktop, json!({}))).await;
        let result = env.results_of(&id, 1).await.remove(0);
        assert_eq!(result["outcome"], "accepted");
    }
    let paused = env.daemon.metric("pushrider_deferrals_total", "").await;
    assert!(paused.abs() < f64::EPSILON, "{paused} deferrals");
}

/// A daemon that has just started knows no key; the first endpoints that it meets must not stop the
/// others.
#[tokio::test]
async fn one_subscription_that_refuses_the_key_holds_up_no_other() {
    let settings = sandbox::Settings {
        services: vec![Service::Fcm],
        ..sandbox::Settings::default()
    };
    let mut env = TestEnv::open_with(settings, "").await;
    let no_push_endpoint = json!([{ "answer": "vapid_missing", "times": 1 }, {}]);
    let refused = env.subscribe(no_push_endpoint);
    let of_another_sender = env.subscribe(json!({ "answer": "sender_page" }));
    let login = json!({ "ttl": 300 });
    for (id, subscription) in [("refused", &refused), ("another", &of_another_sender)] {
        env.publish(&event(id, subscription, login.clone())).await;
        env.arrived(&subscription.id, 1).await;
    }
    let fine = env.subscribe(json!({}));
    env.publish(&event("fine", &fine, login)).await;
    let result = env.results_of("fine", 1).await.remove(0);
    let reported = (&result["outcome"], &result["requests"]);
    assert_eq!(reported, (&json!("accepted"), &json!(1)));

    let result = env.results_of("refused", 1).await.remove(0);
    let reported = (&result["outcome"], &result["requests"]);
    assert_eq!(reported, (&json!("accepted"), &json!(2)), "{result:#}");
    let result = env.results_of("another", 1).await.remove(0);
    let reported = (&result["outcome"], &result["reason"]);
    assert_eq!(reported, (&json!("rejected"), &json!("key_mismatch")));
    let is_told = |result: &Value| change(result) == ("another".into(), "key_mismatch".into());
    env.gather(1, is_told).await;
}

#[tokio::test]
async fn a_deployment_may_push_to_the_services_it_knows_alone() {
    let settings = sandbox::Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap(); 2],
        services: vec![Service::Ntfy, Service::Other],
        ..sandbox::Settings::default()
    };
    let mut env = TestEnv::open_with(settings, "guard.hosts = 'known'").await;
    for (id, origin) in [("named", 0), ("unlisted", 1)] {
        let subscription = env.subscribe_at(origin, json!({}));
        env.publish(&event(id, &subscription, json!({}))).await;
    }
    let named = env.results_of("named", 1).await.remove(0);
    assert_eq!(named["outcome"], "accepted");
    let unlisted = env.results_of("unlisted", 1).await.remove(0);
    assert_eq!(
        (&unlisted["reason"], &unlisted["requests"]),
        (&json!("endpoint_forbidden"), &json!(0))
    );
    let detail = unlisted["detail"].as_str().unwrap();
    assert!(
        detail.contains("guard.hosts") && detail.contains("[services]"),
        "{detail}"
    );
    env.settled().await;
    assert!(!env.results.iter().any(is_change));
}

/// autopush stores messages for a browser that is offline under the subscription and the
/// millisecond, and the sandbox does so too.
#[tokio::test]
async fn a_burst_to_few_subscriptions_of_mozilla_arrives_whole() {
    const BURST: usize = 120;
    let settings = sandbox::Settings {
        services: vec![Service::Mozilla],
        ..sandbox::Settings::default()
    };
    let mut env = TestEnv::open_with(settings, "").await;
    let subscriptions = [(); 3].map(|()| env.subscribe(json!({})));
    let payloads: BTreeSet<_> = (0..BURST).map(|n| format!("message {n}")).collect();
    let bodies: Vec<_> = payloads
        .iter()
        .zip(subscriptions.iter().cycle())
        .map(|(payload, one)| event(payload, one, json!({ "payload": payload })).to_string())
        .collect();
    env.vhost
        .publish_all("webpush.events", "shop.default", &bodies)
        .await;
    let results = env.gather(BURST, is_delivery).await;
    assert!(results.iter().all(|it| it["outcome"] == "accepted"));
    let messages = env.sandbox.messages(None);
    let arrived: BTreeSet<_> = messages.iter().filter_map(|it| it.text.clone()).collect();
    let lost: Vec<_> = payloads.difference(&arrived).collect();
    assert!(lost.is_empty(), "{} are lost: {lost:?}", lost.len());
}

/// Names what an event was for, for people.
fn named(id: &str) -> String {
    let number = id.rsplit('-').next().and_then(|number| number.parse().ok());
    let row = number.and_then(|number: usize| TABLE.get(number));
    match row {
        Some((service, meets, ..)) if id.starts_with(service.name()) => {
            format!("{} {meets:?}", service.name())
        }
        _ => id.to_owned(),
    }
}

/// Makes the subscription of a row at its own origin.
fn subscribe(env: &TestEnv, origin: usize, meets: Meets) -> SubscriptionJson {
    let mut request = SubscribeRequest {
        origin,
        ..SubscribeRequest::default()
    };
    match meets {
        Meets::Answer(name) => request.answer = script(json!({ "answer": name })),
        Meets::Says(status, body) => {
            request.answer = script(json!({ "status": status, "body": body }));
        }
        Meets::AnotherKey => {
            let other = VapidKey::generate(Name::parse("other").unwrap()).unwrap();
            request.application_server_key = Some(other.public_key_base64url().to_owned());
        }
        Meets::Nobody => {}
    }
    let mut subscription = env.sandbox.subscribe(request).unwrap();
    if let Meets::Nobody = meets {
        let endpoint = &mut subscription.endpoint;
        let end = endpoint.rfind(['%', '?']).unwrap_or(endpoint.len());
        endpoint.insert(end, 'x');
    }
    subscription
}

fn script(json: Value) -> Script {
    Script::try_from(json).unwrap()
}

/// What has become of each event: outcome, reason, requests, push service.
fn reported(env: &TestEnv) -> BTreeMap<String, String> {
    let results = env.results.iter().filter(|result| is_delivery(result));
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
