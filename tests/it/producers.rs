//! Messages as the libraries of producers write them, from a real broker to a push service.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::support::env::{TestEnv, event};
use crate::support::eventually;

async fn publish(env: &TestEnv, properties: BasicProperties, body: &[u8]) {
    env.vhost
        .publish_with("webpush.events", "shop.default", body, properties)
        .await;
}

#[tokio::test]
async fn rows_and_wrappings_of_other_libraries_are_pushed() {
    let mut env = TestEnv::open("").await;
    let subscription = env.subscribe(json!({}));
    let browser = serde_json::to_value(&subscription).unwrap();
    let (endpoint, keys) = (&browser["endpoint"], &browser["keys"]);
    let row = |id: &str, subscription: Value| json!({ "id": id, "subscription": subscription, "payload": id });
    let laravel = json!({
        "id": 7, "endpoint": endpoint, "public_key": keys["p256dh"], "auth_token": keys["auth"],
        "content_encoding": "aesgcm", "created_at": "2026-01-01 00:00:00",
    });
    let dot_net = json!({
        "Endpoint": endpoint, "Keys": { "P256dh": keys["p256dh"], "Auth": keys["auth"] },
    });
    env.publish(&row("laravel", laravel)).await;
    env.publish(&row("dot-net", dot_net)).await;
    let marked = format!("\u{feff}{}", row("marked", browser.clone()));
    env.publish_bytes(marked.as_bytes()).await;
    let plain = BasicProperties::default;
    let typed = row("typed", browser.clone()).to_string();
    publish(
        &env,
        plain().with_type("Shop.Messages.PushRequested".into()),
        typed.as_bytes(),
    )
    .await;
    let cloud_event = json!({
        "specversion": "1.0", "id": "cloud", "source": "/shop", "type": "push",
        "data": { "subscription": browser, "payload": "cloud" },
    });
    publish(
        &env,
        plain().with_content_type("application/cloudevents+json".into()),
        cloud_event.to_string().as_bytes(),
    )
    .await;
    for id in ["laravel", "dot-net", "marked", "typed", "cloud"] {
        let result = env.results_of(id, 1).await.remove(0);
        assert_eq!(result["outcome"], "accepted", "{result}");
        let warnings = result["warnings"].to_string();
        assert_eq!(warnings.contains("foreign_type"), id == "typed");
    }
    let mut arrived = env.arrived(&subscription.id, 5).await;
    arrived.sort_unstable();
    assert_eq!(arrived, ["cloud", "dot-net", "laravel", "marked", "typed"]);
    env.daemon.stop().await;
}

#[tokio::test]
async fn a_task_of_celery_is_named_and_kept_with_its_headers() {
    let mut env = TestEnv::open("").await;
    let mut headers = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    headers.insert("task".into(), text("shop.push"));
    headers.insert("CC".into(), AMQPValue::FieldArray(Vec::new().into()));
    let properties = BasicProperties::default()
        .with_message_id("celery".into())
        .with_content_encoding("utf-8".into())
        .with_headers(headers);
    publish(&env, properties, b"[[], {\"payload\": \"x\"}, {}]").await;
    let result = env.results_of("celery", 1).await.remove(0);
    assert_eq!(result["reason"], "malformed_event", "{result}");
    let detail = result["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("the body is a task of Celery; "),
        "{detail}"
    );
    let original = eventually(Duration::from_secs(60), async || {
        env.vhost.take("webpush.quarantine").await.ok_or(())
    })
    .await;
    let headers = original.delivery.properties.headers().clone().unwrap();
    let header = |name: &str| headers.inner().get(name);
    assert_eq!(header("task"), Some(&text("shop.push")));
    assert_eq!(header("x-pushrider-content-encoding"), Some(&text("utf-8")));
    assert_eq!(header("CC"), None);
    env.daemon.stop().await;
}

#[tokio::test]
async fn two_accounts_on_one_browser_get_a_message_each() {
    let mut env = TestEnv::open("").await;
    let subscription = env.subscribe(json!({}));
    let to = |id: &str, payload: &str| json!({ "id": id, "subscription": subscription, "payload": payload });
    let mut campaign = event("shared", &subscription, json!({}));
    let members = campaign.as_object_mut().unwrap();
    members.remove("subscription");
    let recipients = [
        to("anna", "a parcel"),
        to("ben", "an invoice"),
        to("ann", "a parcel"),
    ];
    members.insert("recipients".into(), json!(recipients));
    env.publish(&campaign).await;
    let results = env.results_of("shared", 3).await;
    let reason_of = |id: &str| {
        let found = results.iter().find(|it| it["recipient"]["id"] == id);
        found.unwrap()["reason"].as_str().unwrap().to_owned()
    };
    let reasons = ["anna", "ben", "ann"].map(reason_of);
    assert_eq!(reasons, ["accepted", "accepted", "duplicate_recipient"]);
    let mut arrived = env.arrived(&subscription.id, 2).await;
    arrived.sort_unstable();
    assert_eq!(arrived, ["a parcel", "an invoice"]);
    env.daemon.stop().await;
}
