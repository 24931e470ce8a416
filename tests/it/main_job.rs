//! The main job, end to end: an event becomes an encrypted push, and its result comes back.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use pushrider::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::support::env::{TestEnv, event, is_delivery};
use crate::support::{eventually, wanted};

#[tokio::test]
async fn an_event_becomes_a_push_that_a_browser_can_read() {
    let mut env = TestEnv::open("").await;
    let alice = env.subscribe(json!({}));
    let more = json!({ "ttl": 60, "urgency": "high", "topic": "news", "metadata": { "order": 7 } });
    env.publish(&event("e1", &alice, more)).await;

    let results = env.results_of("e1", 1).await;
    let result = &results[0];
    for (member, value) in [
        ("outcome", json!("accepted")),
        ("app", json!("shop")),
        ("status", json!(201)),
        ("attempts", json!(1)),
        ("requests", json!(1)),
        ("vapid_key", json!("main")),
        ("metadata", json!({ "order": 7 })),
    ] {
        assert_eq!(result[member], value, "{member} of {result:#}");
    }
    assert_eq!(result["recipient"]["endpoint"], alice.endpoint);
    let message = env.sandbox.messages(Some(&alice.id)).remove(0);
    assert_eq!(message.text.as_deref(), Some("hello"));
    assert_eq!(message.http_version, "HTTP/2");
    let headers = [&message.ttl, &message.urgency, &message.topic];
    assert_eq!(
        headers.map(|it| it.as_deref().unwrap()),
        ["60", "high", "news"]
    );
    assert_eq!(
        message.vapid.as_ref().unwrap().aud,
        env.sandbox.origins()[0]
    );
    env.settled().await;
    env.daemon.stop().await;
}

#[tokio::test]
async fn the_dead_are_told_and_kept_until_somebody_asks() {
    let mut env = TestEnv::open("").await;
    let gone = env.subscribe(json!({ "status": 410 }));
    env.publish(&event("e1", &gone, json!({}))).await;
    let results = env.results_of("e1", 1).await;
    assert_eq!(results[0]["outcome"], "gone");
    let dead = eventually(Duration::from_secs(5), async || {
        env.vhost
            .take("webpush.dead-subscriptions")
            .await
            .ok_or("none")
    })
    .await;
    let dead: Value = serde_json::from_slice(&dead.delivery.data).unwrap();
    assert_eq!(
        (&dead["change"], &dead["event_id"]),
        (&json!("gone"), &json!("e1"))
    );
    assert_eq!(dead["recipient"]["endpoint"], gone.endpoint);
}

#[tokio::test]
async fn as_many_threads_as_asked_for_push_each_event_once() {
    for threads in ["1", "4"] {
        let mut env = TestEnv::open("").await;
        env.daemon.stop().await;
        let alice = env.subscribe(json!({}));
        env.daemon.launch_with(&["--threads", threads], &[]).await;
        for number in 0..100 {
            let id = format!("e{number}");
            env.publish(&event(&id, &alice, json!({}))).await;
        }
        env.gather(100, |it| it["outcome"] == "accepted").await;
        env.settled().await;
        assert_eq!(env.sandbox.messages(None).len(), 100);
        env.daemon.stop().await;
    }
}

#[tokio::test]
async fn what_is_no_event_costs_one_message() {
    let mut env = TestEnv::open("").await;
    let alice = env.subscribe(json!({}));
    let bodies: [&[u8]; 6] = [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        br#"{"id":"e0","tll":1,"payload":"x"}"#,
    ];
    for body in bodies {
        env.publish_bytes(body).await;
    }
    // RabbitMQ 4 takes up to 16 MiB.
    env.publish_bytes(&vec![b' '; 15 << 20]).await;
    env.publish(&event("e1", &alice, json!({}))).await;
    assert_eq!(env.results_of("e1", 1).await[0]["outcome"], "accepted");
    let bad = env
        .gather(7, |result| {
            is_delivery(result) && result["outcome"] == "rejected"
        })
        .await;
    for result in &bad {
        let detail = result["detail"].as_str().unwrap();
        assert!(detail.split(' ').count() > 4, "not a sentence: {detail:?}");
    }
    env.settled().await;
    assert_eq!(env.vhost.depth("webpush.quarantine").await, 7);
}

#[tokio::test]
async fn what_the_broker_gives_up_on_has_its_result_too() {
    let mut env = TestEnv::open("").await;
    let alice = env.subscribe(json!({}));
    env.daemon.stop().await;
    let late = event("e1", &alice, json!({})).to_string();
    let properties = BasicProperties::default().with_expiration("1".into());
    env.vhost
        .publish_with(
            "webpush.events",
            "shop.default",
            late.as_bytes(),
            properties,
        )
        .await;
    eventually(Duration::from_secs(10), async || {
        let depth = env.vhost.depth("webpush.undeliverable").await;
        wanted(depth, |depth| *depth == 1)
    })
    .await;
    env.daemon.start().await;
    let results = env.results_of("e1", 1).await;
    assert_eq!(results[0]["reason"], "producer_expiration");
    env.settled().await;
    assert_eq!(env.vhost.depth("webpush.quarantine").await, 1);
    assert!(env.sandbox.messages(None).is_empty());
}

#[tokio::test]
async fn a_producers_large_headers_do_no_harm() {
    let mut env = TestEnv::open("").await;
    let alice = env.subscribe(json!({}));
    let body = event("e1", &alice, json!({})).to_string();
    let mut headers = FieldTable::default();
    let large = "x".repeat(100_000);
    headers.insert("x-large".into(), AMQPValue::LongString(large.into()));
    let properties = BasicProperties::default().with_headers(headers);
    for body in [body.as_bytes(), b"no event"] {
        env.vhost
            .publish_with("webpush.events", "shop.default", body, properties.clone())
            .await;
    }
    assert_eq!(env.results_of("e1", 1).await[0]["outcome"], "accepted");
    env.settled().await;
    assert_eq!(env.vhost.depth("webpush.quarantine").await, 1);
    let reconnects = env.daemon.metric("pushrider_broker_reconnects_total", "");
    assert_eq!(reconnects.await, 0.0, "{}", env.daemon.log());
}

#[tokio::test]
async fn one_bad_recipient_fails_alone() {
    let mut env = TestEnv::open("").await;
    let (alice, gone) = (
        env.subscribe(json!({})),
        env.subscribe(json!({ "status": 410 })),
    );
    let mut broken = serde_json::to_value(&alice).unwrap();
    broken["keys"]["p256dh"] = json!("AAAA");
    env.publish(
        &json!({ "id": "c1", "payload": { "n": 1.50 }, "recipients": [
            { "id": "broken", "subscription": broken },
            { "id": "gone", "subscription": gone },
            { "id": "private", "subscription": { "endpoint": "https://10.0.0.1/x" } },
            { "id": "alice", "subscription": alice },
        ] }),
    )
    .await;
    let results = env.results_of("c1", 4).await;
    let mut told: Vec<_> = results
        .iter()
        .map(|result| {
            (
                result["recipient"]["id"].as_str().unwrap(),
                result["reason"].as_str().unwrap(),
            )
        })
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("alice", "accepted"),
            ("broken", "invalid_subscription"),
            ("gone", "unsubscribed"),
            ("private", "endpoint_forbidden"),
        ]
    );
    let texts = env.arrived(&alice.id, 1).await;
    assert_eq!(texts, [r#"{"n":1.5}"#]);
}

#[tokio::test]
async fn a_campaign_reaches_every_recipient_once() {
    let mut env = TestEnv::open("").await;
    let all: Vec<_> = (0..120).map(|_| env.subscribe(json!({}))).collect();
    let recipients: Vec<_> = all
        .iter()
        .map(|one| json!({ "subscription": one }))
        .collect();
    env.publish(&json!({ "id": "c1", "payload": "x", "recipients": recipients }))
        .await;
    env.results_of("c1", 120).await;
    env.settled().await;
    let summaries = env.gather(3, |result| result.get("chunk").is_some()).await;
    // A chunk whose recipients wait for room has a summary of each pass.
    let number = |summary: &Value| summary["chunk"]["n"].as_u64().unwrap();
    let chunks: BTreeSet<_> = summaries.iter().map(number).collect();
    assert_eq!(chunks, BTreeSet::from([1, 2, 3]));
    let settled = summaries.iter().map(|it| it["settled"].as_u64().unwrap());
    assert_eq!(settled.sum::<u64>(), 120);
    for one in &all {
        assert_eq!(env.sandbox.messages(Some(&one.id)).len(), 1);
    }
}

#[tokio::test]
async fn what_fails_is_tried_again_from_the_broker() {
    let mut env = TestEnv::open("").await;
    let shaky = env.subscribe(json!([
        { "status": 503 },
        { "status": 429, "headers": { "Retry-After": "1" } },
        { "fault": "cut" },
        { "status": 201 },
    ]));
    env.publish(&event("e1", &shaky, json!({}))).await;
    let results = env.results_of("e1", 1).await;
    assert_eq!(
        (&results[0]["outcome"], &results[0]["attempts"]),
        (&json!("accepted"), &json!(4))
    );
    env.settled().await;
}

#[tokio::test]
async fn a_schedule_is_kept_and_never_early() {
    let mut env = TestEnv::open("").await;
    let alice = env.subscribe(json!({}));
    let at = SystemClock.now().wall + Duration::from_secs(3);
    let deliver_at = jiff::Timestamp::try_from(at).unwrap().to_string();
    env.publish(&event("e1", &alice, json!({ "deliver_at": deliver_at })))
        .await;
    env.results_of("e1", 1).await;
    let received = env.sandbox.messages(Some(&alice.id))[0].received_at;
    let late = received.duration_since(at).expect("never early");
    assert!(late < Duration::from_secs(2), "{late:?} late");
}

#[tokio::test]
async fn hostile_answers_do_no_harm() {
    let mut env = TestEnv::open("push.timeout = '2s'\nretry.max_attempts = 1").await;
    for (answers, outcome, reason) in [
        (
            json!({ "status": 301, "headers": { "Location": "http://127.0.0.1/" } }),
            "rejected",
            "redirected",
        ),
        (
            json!({ "status": 200, "body_bytes": 100_000_000 }),
            "accepted",
            "accepted",
        ),
        (
            json!({ "status": 500, "body_bytes": 100_000_000 }),
            "failed",
            "service_unavailable",
        ),
        (
            json!({ "status": 400, "body": "drip drip drip drip", "trickle": "1s" }),
            "failed",
            "timeout",
        ),
        (json!({ "fault": "hang" }), "failed", "timeout"),
        (
            json!({ "status": 429, "headers": { "Retry-After": "inf" } }),
            "failed",
            "throttled",
        ),
        (
            json!({ "fault": "reset", "reason": "INTERNAL_ERROR" }),
            "failed",
            "network",
        ),
        (
            json!([{ "fault": "goaway_unprocessed" }, { "status": 201 }]),
            "accepted",
            "accepted",
        ),
        (
            json!([{ "fault": "reset", "reason": "REFUSED_STREAM" }, { "status": 201 }]),
            "accepted",
            "accepted",
        ),
        (json!({ "fault": "goaway" }), "accepted", "accepted"),
    ] {
        let one = env.subscribe(answers);
        env.publish(&event(&one.id, &one, json!({}))).await;
        let results = env.results_of(&one.id, 1).await;
        assert_eq!(
            (&results[0]["outcome"], &results[0]["reason"]),
            (&json!(outcome), &json!(reason))
        );
    }
    let rss = env.daemon.peak_kib();
    assert!(rss < 100 * 1024, "{rss} KiB resident");
}

#[tokio::test]
async fn a_name_that_resolves_to_loopback_is_not_connected_to() {
    let settings = pushrider::sandbox::Settings {
        host: Some("localhost".into()),
        ..Default::default()
    };
    let mut env = TestEnv::open_with(settings, "guard.allow = []").await;
    let one = env.subscribe(json!({}));
    env.publish(&event("e1", &one, json!({}))).await;
    assert_eq!(
        env.results_of("e1", 1).await[0]["reason"],
        "endpoint_forbidden"
    );
    assert!(env.sandbox.messages(None).is_empty());
}

#[tokio::test]
async fn a_stalled_service_does_not_slow_another() {
    let settings = pushrider::sandbox::Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap(); 2],
        ..Default::default()
    };
    let mut env = TestEnv::open_with(settings, "push.per_origin = 20\npush.timeout = '15s'").await;
    let stalled = env.subscribe_at(0, json!({ "fault": "hang" }));
    let fine = env.subscribe_at(1, json!({}));
    for n in 0..600 {
        env.publish(&event(&format!("s{n}"), &stalled, json!({ "ttl": 3600 })))
            .await;
    }
    for n in 0..100 {
        env.publish(&event(&format!("f{n}"), &fine, json!({})))
            .await;
    }
    let begun = SystemClock.now().mono;
    env.gather(100, |result| {
        result["event_id"]
            .as_str()
            .is_some_and(|id| id.starts_with('f'))
    })
    .await;
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert!(env.daemon.metric("pushrider_retries_total", "busy").await > 0.0);
}

#[tokio::test]
async fn no_secret_of_the_run_is_logged() {
    let mut env = TestEnv::open("retry.max_attempts = 2").await;
    let fine = env.subscribe(json!({}));
    let gone = env.subscribe(json!({ "status": 410, "body": "SecretBody" }));
    let down = env.subscribe(json!({ "fault": "cut" }));
    let refused = json!({ "endpoint": "https://10.0.0.1/SecretPath", "keys": fine.keys });
    for (n, one) in [&fine, &gone, &down].into_iter().enumerate() {
        env.publish(&event(
            &format!("e{n}"),
            one,
            json!({ "payload": "SecretPayload" }),
        ))
        .await;
    }
    env.publish(&json!({ "id": "e3", "subscription": refused }))
        .await;
    env.publish_bytes(b"{\"SecretMember\":").await;
    env.gather(5, is_delivery).await;
    env.settled().await;
    env.daemon.stop().await;

    let log = env.daemon.log();
    assert!(
        log.matches("\"settled\"").count() >= 5,
        "settled lines are logged:\n{log}"
    );
    let key = env.daemon.private_key();
    let mut secrets: Vec<String> = key
        .lines()
        .filter(|line| !line.starts_with('-'))
        .map(str::to_owned)
        .collect();
    secrets
        .extend(["SecretBody", "SecretPath", "SecretPayload", "SecretMember"].map(str::to_owned));
    secrets.extend(["guest:guest", "vapid t=", "eyJ0eXAi"].map(str::to_owned));
    for one in [&fine, &gone, &down] {
        let token = one.endpoint.rsplit('/').next().unwrap();
        secrets.extend([token, &one.keys.auth, &one.keys.p256dh].map(str::to_owned));
    }
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} in the log:\n{log}");
    }
    assert!(log.contains("\"sub\""), "fingerprints are logged:\n{log}");
}

#[tokio::test]
async fn what_happens_is_seen_from_outside() {
    let mut env = TestEnv::open("").await;
    let fine = env.subscribe(json!({}));
    env.publish(&event("e1", &fine, json!({}))).await;
    env.results_of("e1", 1).await;
    env.settled().await;
    for (name, labels, value) in [
        ("pushrider_deliveries_total", "", 1.0),
        ("pushrider_messages_total", r#"outcome="accepted""#, 1.0),
        ("pushrider_vapid_tokens_signed_total", "", 1.0),
        ("pushrider_publishes_total", r#"result="ack""#, 1.0),
        ("pushrider_broker_connected", "", 2.0),
        ("pushrider_requests_in_flight", "", 0.0),
    ] {
        assert_eq!(
            env.daemon.metric(name, labels).await,
            value,
            "{name}{{{labels}}}"
        );
    }
    assert_eq!(env.daemon.get("/livez").await.unwrap().0, 200);
    let (status, key) = env
        .daemon
        .get("/apps/shop/application-server-key")
        .await
        .unwrap();
    assert_eq!(status, 200);
    assert!(key.contains("\"main\""), "{key}");
    wanted(env.outcomes(), |outcomes| outcomes.len() == 1).unwrap();
}
