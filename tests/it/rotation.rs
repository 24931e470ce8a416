//! Keys that are rotated, lost and mistaken for each other, end to end.

use std::collections::BTreeMap;
use std::time::Duration;

use pushrider::message::Name;
use pushrider::origin::Service;
use pushrider::sandbox;
use pushrider::sandbox::{Script, SubscribeRequest, SubscriptionJson};
use pushrider::vapid::VapidKey;
use serde_json::{Value, json};

use crate::support::env::{TestEnv, event, is_delivery};
use crate::support::eventually;

/// What autopush says to a key that a subscription was not made with.
fn mismatch() -> Value {
    json!({ "status": 401, "body": json!({
        "code": 401, "errno": 109, "error": "Unauthorized",
        "message": "VAPID public key mismatch",
        "more_info": "http://autopush.readthedocs.io/en/latest/http.html#error-codes",
    }).to_string() })
}

/// Makes a subscription whose endpoint looks like autopush's.
fn subscribe(env: &TestEnv, answers: Value) -> SubscriptionJson {
    subscribe_as(env, "v2", answers)
}

/// The same for a version of the endpoint: `v2` takes the subscription's own key, `v1` any.
fn subscribe_as(env: &TestEnv, version: &str, answers: Value) -> SubscriptionJson {
    let request = SubscribeRequest {
        answer: Script::try_from(answers).unwrap(),
        path: Some(format!("/wpush/{version}/{{token}}")),
        ..SubscribeRequest::default()
    };
    env.sandbox.subscribe(request).unwrap()
}

fn key_pem() -> String {
    let key = VapidKey::generate(Name::parse("any").unwrap()).unwrap();
    key.to_pkcs8_pem().unwrap().expose().clone()
}

fn campaign(id: &str, subscriptions: &[SubscriptionJson]) -> Value {
    let recipients: Vec<_> = subscriptions
        .iter()
        .map(|one| json!({ "id": one.id, "subscription": one }))
        .collect();
    json!({ "id": id, "payload": "hello", "recipients": recipients })
}

/// Counts results by outcome, key and number of requests.
fn counted(results: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for result in results {
        let word = |member: &str| result[member].as_str().unwrap_or("-").to_owned();
        let (outcome, key) = (word("outcome"), word("vapid_key"));
        let told = format!("{outcome} by {key} in {}", result["requests"]);
        *counts.entry(told).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_subscription_that_takes_any_key_proves_none() {
    let mut env = TestEnv::open("").await;
    for (version, ends) in [
        ("v1", ("expired", "ttl_elapsed")),
        ("v2", ("rejected", "key_mismatch")),
    ] {
        let (taken, of_another) = (format!("taken-{version}"), format!("another-{version}"));
        let takes = subscribe_as(&env, version, json!({}));
        env.publish(&event(&taken, &takes, json!({}))).await;
        let result = env.results_of(&taken, 1).await.remove(0);
        assert_eq!(result["outcome"], "accepted");
        let other = subscribe(&env, mismatch());
        let short = json!({ "ttl": 4 });
        env.publish(&event(&of_another, &other, short)).await;
        let result = env.results_of(&of_another, 1).await.remove(0);
        let told = (&result["outcome"], &result["reason"]);
        assert_eq!(told, (&json!(ends.0), &json!(ends.1)), "{version}");
        let detail = result["detail"].as_str().unwrap_or_default();
        let waited_for_key = detail.contains("key_mismatch");
        assert_eq!(waited_for_key, ends.0 == "expired", "{detail}");
    }
}

#[tokio::test]
async fn a_rotation_costs_each_subscription_one_request_and_none_after_a_restart() {
    const SUBSCRIPTIONS: usize = 1000;
    let settings = sandbox::Settings {
        decrypt: false,
        keep: 4000,
        ..Default::default()
    };
    let mut env = TestEnv::open_with(settings, "").await;
    env.daemon.stop().await;
    env.daemon.write("new.pem", &key_pem());
    env.daemon.configure(
        "keys.new.private_key_file = 'new.pem'
        apps.shop.primary = 'new'
        apps.shop.keys = ['main']
        push.state_dir = '.'",
    );
    env.daemon.start().await;
    let answers = json!([mismatch(), { "status": 201 }]);
    let subscriptions: Vec<_> = (0..SUBSCRIPTIONS)
        .map(|_| subscribe(&env, answers.clone()))
        .collect();
    env.publish(&campaign("first", &subscriptions)).await;
    let first = env.results_of("first", SUBSCRIPTIONS).await;
    let found = BTreeMap::from([("accepted by main in 2".to_owned(), SUBSCRIPTIONS)]);
    assert_eq!(counted(&first), found);

    env.settled().await;
    env.daemon.stop().await;
    env.daemon.start().await;
    env.publish(&campaign("second", &subscriptions)).await;
    let second = env.results_of("second", SUBSCRIPTIONS).await;
    let known = BTreeMap::from([("accepted by main in 1".to_owned(), SUBSCRIPTIONS)]);
    assert_eq!(counted(&second), known);
    let requests = usize::try_from(env.sandbox.stats().requests).unwrap();
    assert_eq!(requests, 3 * SUBSCRIPTIONS);

    let keys = |id: &str| -> Vec<_> {
        let messages = env.sandbox.messages(Some(id));
        messages.iter().map(|it| it.key.clone().unwrap()).collect()
    };
    let keys = keys(&subscriptions[0].id);
    assert!(keys[0] != keys[1] && keys[1] == keys[2], "new, old, old");
}

#[tokio::test]
async fn a_wrong_key_loses_nothing_and_calls_no_subscription_a_mismatch() {
    const SUBSCRIPTIONS: usize = 60;
    // An answer of an unlisted host would raise no alarm.
    let named = sandbox::Settings {
        services: vec![Service::Mozilla],
        ..sandbox::Settings::default()
    };
    let mut env = TestEnv::open_with(named, "").await;
    env.daemon.stop().await;
    let right = env.daemon.private_key();
    env.daemon.write("vapid.pem", &key_pem());
    env.daemon.start().await;
    let subscriptions: Vec<_> = (0..SUBSCRIPTIONS)
        .map(|_| subscribe(&env, mismatch()))
        .collect();
    for (n, one) in subscriptions.iter().enumerate() {
        env.publish(&event(&format!("e{n}"), one, json!({}))).await;
    }
    let alarm = r#"cause="mismatch",push_service="mozilla""#;
    eventually(Duration::from_secs(20), async || {
        let alarms = env.daemon.metric("pushrider_key_alarms_total", alarm).await;
        if alarms > 0.0 { Ok(()) } else { Err(alarms) }
    })
    .await;
    env.settled().await;
    assert!(env.daemon.log().contains("it is taken for wrong"));
    let requests = env.sandbox.stats().requests;
    env.daemon.stop().await;
    assert!(
        env.gather(0, |_| true).await.is_empty(),
        "nothing is published"
    );
    println!("{requests} requests with the wrong key for {SUBSCRIPTIONS} subscriptions");

    env.daemon.write("vapid.pem", &right);
    for one in &subscriptions {
        let accept = Script::try_from(json!({ "status": 201 })).unwrap();
        assert!(env.sandbox.play(&one.id, accept));
    }
    env.daemon.start().await;
    let results = env.gather(SUBSCRIPTIONS, is_delivery).await;
    env.settled().await;
    for result in &results {
        assert_eq!(result["outcome"], "accepted", "{result:#}");
        assert_eq!(result["attempts"], 1, "waiting uses up no attempt");
    }
    let all = env.gather(SUBSCRIPTIONS, |_| true).await;
    assert_eq!(
        all.len(),
        SUBSCRIPTIONS,
        "one result each and no subscription event"
    );
    assert_eq!(env.vhost.depth("webpush.resubscribe").await, 0);
}

#[tokio::test]
async fn a_subscription_of_a_lost_key_is_told_once_the_key_is_proved() {
    let mut env = TestEnv::open("").await;
    let lost = subscribe(&env, mismatch());
    let fine = subscribe(&env, json!({ "status": 201 }));
    env.publish(&event("lost", &lost, json!({}))).await;
    eventually(Duration::from_secs(10), async || {
        let waiting = r#"reason="key_mismatch""#;
        let waits = env.daemon.metric("pushrider_retries_total", waiting).await;
        if waits > 0.0 { Ok(()) } else { Err(waits) }
    })
    .await;
    env.publish(&event("fine", &fine, json!({}))).await;
    assert_eq!(env.results_of("fine", 1).await[0]["outcome"], "accepted");
    let told = env.results_of("lost", 1).await.remove(0);
    assert_eq!(
        (&told["outcome"], &told["reason"]),
        (&json!("rejected"), &json!("key_mismatch"))
    );
    let change = eventually(Duration::from_secs(5), async || {
        env.vhost.take("webpush.resubscribe").await.ok_or("none")
    })
    .await;
    let change: Value = serde_json::from_slice(&change.delivery.data).unwrap();
    assert_eq!(change["change"], "key_mismatch");
    assert_eq!(change["recipient"]["endpoint"], lost.endpoint);
}
