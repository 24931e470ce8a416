//! What requests are like, as applications and recipients ask: the coding of before the RFCs, padding,
//! payloads that are too long for some, declarative messages.

use std::sync::Arc;

use pushrider::sandbox::Message;
use serde_json::{Value, json};

use crate::support::env::{TestEnv, event};

/// Publishes an event for a new subscription; returns its one result and what arrived.
async fn pushed(env: &mut TestEnv, id: &str, more: Value) -> (Value, Vec<Arc<Message>>) {
    let subscription = env.subscribe(json!({}));
    env.publish(&event(id, &subscription, more)).await;
    let result = env.results_of(id, 1).await.remove(0);
    (result, env.sandbox.messages(Some(&subscription.id)))
}

fn warnings(result: &Value) -> Vec<&str> {
    let sentences = result["warnings"].as_array().unwrap().iter();
    let texts = sentences.filter_map(Value::as_str);
    texts.filter_map(|text| text.split(':').next()).collect()
}

#[tokio::test]
async fn a_legacy_push_arrives_where_the_application_allows_it() {
    let mut env = TestEnv::open("apps.shop.aesgcm = true\napps.shop.padding = \"256B\"").await;
    for (id, asked, sent) in [
        ("old", json!({ "content_encoding": "aesgcm" }), "aesgcm"),
        (
            "new",
            json!({ "content_encoding": "aes128gcm" }),
            "aes128gcm",
        ),
        ("silent", json!({}), "aes128gcm"),
    ] {
        let (result, messages) = pushed(&mut env, id, asked).await;
        assert_eq!(result["outcome"], "accepted", "{result:#}");
        assert_eq!(result["warnings"], json!([]));
        let message = &messages[0];
        assert_eq!(message.error, None, "{id}");
        assert_eq!(message.content_encoding.as_deref(), Some(sent), "{id}");
        assert_eq!(message.text.as_deref(), Some("hello"), "{id}");
        let vapid = message.vapid.as_ref().unwrap();
        assert_eq!(vapid.aud, env.sandbox.origins()[0]);
        let overhead = if sent == "aesgcm" { 18 } else { 103 };
        assert_eq!(message.body_length, Some(256 + overhead), "{id}");
    }
    // One token serves both forms of VAPID.
    assert_eq!(env.sandbox.stats().vapid_tokens, 1);
    env.daemon.stop().await;
}

#[tokio::test]
async fn rows_that_say_aesgcm_are_sent_what_every_browser_reads() {
    let mut env = TestEnv::open("").await;
    let asked = json!({ "content_encoding": "aesgcm" });
    let (result, messages) = pushed(&mut env, "old", asked).await;
    assert_eq!(result["outcome"], "accepted", "{result:#}");
    assert_eq!(warnings(&result), ["aes128gcm_used"]);
    let message = &messages[0];
    assert_eq!(message.content_encoding.as_deref(), Some("aes128gcm"));
    assert_eq!(message.text.as_deref(), Some("hello"));
    env.daemon.stop().await;
}

#[tokio::test]
async fn a_payload_that_some_devices_refuse_is_not_sent_and_none_is_padded_beyond_it() {
    let limits =
        "apps.shop.payload_limits = { other = \"2744B\" }\napps.shop.padding = \"ceiling\"";
    let mut env = TestEnv::open(limits).await;
    let sized = |length| json!({ "payload": "x".repeat(length) });
    for length in [0, 2744] {
        let id = format!("fits-{length}");
        let (result, messages) = pushed(&mut env, &id, sized(length)).await;
        assert_eq!(result["outcome"], "accepted", "{result:#}");
        assert_eq!(messages[0].body_length, Some(2744 + 103));
        assert_eq!(messages[0].plaintext.as_ref().unwrap().len(), length);
    }
    let (result, messages) = pushed(&mut env, "long", sized(2745)).await;
    assert_eq!(result["reason"], "payload_too_large");
    let detail = result["detail"].as_str().unwrap();
    assert!(detail.contains("allows 2744 at most for other"), "{detail}");
    assert!(messages.is_empty() && result["requests"] == 0);
    env.daemon.stop().await;
}

#[tokio::test]
async fn a_notification_arrives_as_a_declarative_message() {
    let mut env = TestEnv::open("").await;
    let shown = |title: &str| json!({ "title": title, "navigate": "https://shop.example/42" });
    let written = |title: &str| {
        format!(
            "{{\"web_push\":8030,\"notification\":{{\"title\":\"{title}\",\
             \"navigate\":\"https://shop.example/42\"}}"
        )
    };
    let mut one = shown("one");
    one["app_badge"] = json!(3);
    let more = json!({ "payload": null, "notification": one });
    let (result, messages) = pushed(&mut env, "one", more).await;
    assert_eq!(result["outcome"], "accepted", "{result:#}");
    assert_eq!(warnings(&result), [""; 0]);
    let text = messages[0].text.as_deref();
    assert_eq!(
        text,
        Some(&*format!("{},\"app_badge\":3}}", written("one")))
    );

    let [own, shared] = [(); 2].map(|()| env.subscribe(json!({})));
    let many = json!({
        "id": "many", "notification": shown("all"), "recipients": [
            { "subscription": own, "notification": shown("own") }, { "subscription": shared },
        ],
    });
    env.publish(&many).await;
    env.results_of("many", 2).await;
    for (subscription, title) in [(own, "own"), (shared, "all")] {
        let message = env.sandbox.messages(Some(&subscription.id)).remove(0);
        assert_eq!(
            message.text.as_deref(),
            Some(&*format!("{}}}", written(title)))
        );
    }

    let more = json!({ "payload": null, "notification": { "title": "t", "navigate": "/42" } });
    let (result, messages) = pushed(&mut env, "wrong", more).await;
    assert_eq!(result["reason"], "malformed_event", "{result:#}");
    assert!(messages.is_empty());
    env.daemon.stop().await;
}

#[tokio::test]
async fn a_declarative_message_that_browsers_would_not_take_is_told() {
    let mut env = TestEnv::open("").await;
    let message = |notification: Value| json!({ "payload": { "web_push": 8030, "notification": notification } });
    for (id, notification, expected) in [
        (
            "good",
            json!({ "title": "t", "navigate": "https://shop.example/" }),
            None,
        ),
        ("bad", json!({ "title": "t" }), Some("declarative_invalid")),
        (
            "odd",
            json!({ "title": "t", "navigate": "/", "dir": "up" }),
            Some("declarative_ignored"),
        ),
    ] {
        let (result, messages) = pushed(&mut env, id, message(notification)).await;
        assert_eq!(result["outcome"], "accepted", "{result:#}");
        assert_eq!(warnings(&result), Vec::from_iter(expected));
        let text = messages[0].text.as_deref().unwrap();
        assert!(text.starts_with("{\"notification\":"), "{text}");
    }
    env.daemon.stop().await;
}
