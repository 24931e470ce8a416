//! Messages that a broker takes from any producer and that a client library cannot read.

use std::time::Duration;

use pushrider::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::support::env::{TestEnv, event, is_delivery};
use crate::support::producer::{HEADERS, PROPERTIES, Producer, long, short};
use crate::support::{eventually, wanted};

const RECONNECTS: &str = "pushrider_broker_reconnects_total";

/// The headers `x`, a table in a table and so on, or arrays, so many levels in all.
fn nested(kind: u8, levels: usize) -> Vec<u8> {
    let mut inside = Vec::new();
    for _ in 1..levels {
        let name: &[u8] = if kind == b'F' { b"\x01k" } else { b"" };
        inside = [name, &[kind], &long(&inside)].concat();
    }
    let first: &[u8] = if kind == b'F' { b"" } else { b"\x01k" };
    long(&[first, &inside].concat())
}

/// Takes the reason, the detail and the message id of every quarantined original.
async fn quarantined(env: &TestEnv, count: u32) -> Vec<[String; 2]> {
    eventually(Duration::from_secs(60), async || {
        wanted(env.vhost.depth("webpush.quarantine").await, |&it| {
            it == count
        })
    })
    .await;
    let mut originals = Vec::new();
    while let Some(message) = env.vhost.take("webpush.quarantine").await {
        let headers = message.delivery.properties.headers().clone().unwrap();
        let text = |name: &str| {
            let value = headers.inner().get(name).and_then(|it| it.as_long_string());
            value.map(ToString::to_string).unwrap_or_default()
        };
        originals.push([text("x-pushrider-reason"), text("x-pushrider-detail")]);
    }
    originals
}

/// Waits for the result of an event, and for nothing else of it.
async fn refusal(env: &mut TestEnv, id: &str) -> Value {
    let result = env.results_of(id, 1).await.remove(0);
    assert_eq!(result["outcome"], "rejected", "{result}");
    assert_eq!(result["reason"], "malformed_event", "{result}");
    result
}

#[tokio::test]
async fn each_place_that_is_not_utf_8_costs_its_message_alone_and_is_named() {
    let mut env = TestEnv::open("").await;
    let subscription = env.subscribe(json!({}));
    let mut producer = Producer::connect(&env.vhost).await;
    // RabbitMQ itself refuses an expiration that is no number and a user_id that is not the user's.
    let mut cases: Vec<(&str, u16, Vec<u8>)> = PROPERTIES
        .into_iter()
        .map(|(name, flag)| (name, flag, short(b"bestellung-\xfc")))
        .collect();
    cases.pop();
    cases.push(("headers, a name", HEADERS, long(b"\x02k\xfcV")));
    let in_array = [
        b"\x01kA",
        &long(&[b"F", &long(b"\x01\xffV")[..]].concat())[..],
    ]
    .concat();
    cases.push(("headers, a name", HEADERS, long(&in_array)));
    for (n, (_, flag, property)) in cases.iter().enumerate() {
        let body = event(&format!("e{n}"), &subscription, json!({})).to_string();
        producer
            .publish(b"shop.default", *flag, property, body.as_bytes())
            .await;
    }
    let body = event("key", &subscription, json!({})).to_string();
    producer
        .publish(b"shop.\xfc", 0, b"", body.as_bytes())
        .await;
    for (n, (name, ..)) in cases.iter().enumerate() {
        let result = refusal(&mut env, &format!("e{n}")).await;
        let detail = result["detail"].as_str().unwrap();
        assert!(
            detail.starts_with(&format!("AMQP {name}: expected UTF-8")),
            "{detail}"
        );
    }
    let result = refusal(&mut env, "key").await;
    assert!(
        result["detail"]
            .as_str()
            .unwrap()
            .starts_with("AMQP routing_key: ")
    );
    let count = cases.len() + 1;
    let originals = quarantined(&env, count.try_into().unwrap()).await;
    for [reason, detail] in &originals {
        assert_eq!(reason, "malformed_event");
        assert!(detail.contains("expected UTF-8"), "{detail}");
    }
    assert_eq!(env.daemon.metric(RECONNECTS, "").await, 0.0);
    env.settled().await;
    assert_eq!(env.results.len(), count, "one result each");
    assert!(env.sandbox.messages(None).is_empty());
}

#[tokio::test]
async fn headers_as_deep_as_a_frame_can_be_do_not_end_the_process() {
    let mut env = TestEnv::open("").await;
    let subscription = env.subscribe(json!({}));
    let mut producer = Producer::connect(&env.vhost).await;
    let deep = [(b'F', 33), (b'F', 4000), (b'F', 18_000), (b'A', 26_000)];
    for (n, (kind, levels)) in deep.into_iter().enumerate() {
        let body = event(&format!("deep{n}"), &subscription, json!({})).to_string();
        let table = nested(kind, levels);
        producer
            .publish(b"shop.default", HEADERS, &table, body.as_bytes())
            .await;
    }
    for kind in [b'F', b'A'] {
        let body = event(&format!("fine{kind}"), &subscription, json!({})).to_string();
        let table = nested(kind, 32);
        producer
            .publish(b"shop.default", HEADERS, &table, body.as_bytes())
            .await;
    }
    for n in 0..deep.len() {
        let result = refusal(&mut env, &format!("deep{n}")).await;
        let detail = result["detail"].as_str().unwrap();
        assert_eq!(
            detail,
            "AMQP headers: expected at most 32 levels of tables and arrays"
        );
    }
    for kind in [b'F', b'A'] {
        let result = env.results_of(&format!("fine{kind}"), 1).await.remove(0);
        assert_eq!(result["outcome"], "accepted", "{result}");
    }
    let originals = quarantined(&env, deep.len().try_into().unwrap()).await;
    assert!(
        originals
            .iter()
            .all(|[reason, _]| reason == "malformed_event")
    );
    assert_eq!(env.daemon.metric(RECONNECTS, "").await, 0.0);
    env.daemon.stop().await;
}

#[tokio::test]
async fn twenty_that_cannot_be_read_delay_none_of_six_hundred() {
    let mut env = TestEnv::open("").await;
    let subscription = env.subscribe(json!({}));
    let mut producer = Producer::connect(&env.vhost).await;
    let begun = SystemClock.now().mono;
    for part in 0..20 {
        let good = (part * 30..part * 30 + 30)
            .map(|n| event(&format!("good{n}"), &subscription, json!({})).to_string());
        env.vhost
            .publish_all("webpush.events", "shop.default", good)
            .await;
        let body = event(&format!("bad{part}"), &subscription, json!({})).to_string();
        let uuid = short(b"\x9f\x86\xd0\x81\x88\x4c\x4d\x65\x8a\x2f\xea\xa0\xc5\x5a\xd0\x15");
        let (flag, property) = match part % 2 {
            0 => (PROPERTIES[4].1, uuid),
            _ => (HEADERS, nested(b'F', 4000)),
        };
        producer
            .publish(b"shop.default", flag, &property, body.as_bytes())
            .await;
    }
    let published = begun.elapsed();
    let outcome = |it: &Value, outcome| is_delivery(it) && it["outcome"] == outcome;
    env.gather(600, |it| outcome(it, "accepted")).await;
    let after = begun.elapsed() - published;
    env.gather(20, |it| outcome(it, "rejected")).await;
    // Without the twenty it takes a second or two, by how busy the machine is.
    assert!(
        after < Duration::from_secs(10),
        "the last result came {after:?} after the last event"
    );
    env.settled().await;
    assert_eq!(env.results.len(), 620, "one result each");
    assert_eq!(quarantined(&env, 20).await.len(), 20);
    assert_eq!(env.daemon.metric(RECONNECTS, "").await, 0.0);
}

#[tokio::test]
async fn headers_that_fill_a_frame_and_grow_in_the_broker_do_not_stop_the_daemon() {
    let mut env = TestEnv::open("").await;
    let subscription = env.subscribe(json!({}));
    env.daemon.stop().await;
    let mut producer = Producer::connect(&env.vhost).await;
    // All of a frame but what else a content header has; RabbitMQ adds `x-death` when it expires.
    let size = 128 * 1024 - 60;
    let entry = [b"\x01xS", &long(&vec![b'x'; size])[..]].concat();
    let expiration = 1 << 8;
    let properties = [long(&entry), short(b"1")].concat();
    let body = event("large", &subscription, json!({})).to_string();
    producer
        .publish(
            b"shop.default",
            HEADERS | expiration,
            &properties,
            body.as_bytes(),
        )
        .await;
    eventually(Duration::from_secs(60), async || {
        wanted(env.vhost.depth("webpush.undeliverable").await, |&it| {
            it == 1
        })
    })
    .await;
    env.daemon.start().await;
    let result = refusal(&mut env, "large").await;
    let detail = result["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("AMQP headers: expected headers that fit a frame"),
        "{detail}"
    );
    assert_eq!(env.daemon.metric(RECONNECTS, "").await, 0.0);
}
