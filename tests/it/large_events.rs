//! The largest events that a producer may send: each recipient ends once, and memory stays bounded.

use std::collections::BTreeMap;
use std::time::Duration;

use pushrider::sandbox;
use serde_json::{Value, json};

use crate::support::env::{TestEnv, is_delivery};
use crate::support::{eventually, wanted};

/// The most bytes and recipients that an event may have.
const EVENT_LIMIT: usize = 4 << 20;
const RECIPIENT_LIMIT: usize = 10_000;

/// The most memory that a daemon may use, not optimised, for any one event.
const PEAK_KIB: u64 = 100 * 1024;

/// How long an event of so many recipients may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

#[tokio::test]
async fn a_payload_that_is_too_large_for_anybody_is_not_copied_into_each_chunk() {
    let more = json!({ "payload": "x".repeat(3_700_000) });
    let env = end_of_three_thousand(more, "payload_too_large").await;
    assert_eq!(env.vhost.depth("webpush.quarantine").await, 0);
}

#[tokio::test]
async fn a_topic_of_megabytes_is_not_copied_into_each_chunk() {
    let more = json!({ "topic": "x".repeat(3_700_000) });
    end_of_three_thousand(more, "malformed_event").await;
}

#[tokio::test]
async fn white_space_is_not_copied_into_each_chunk() {
    const RECIPIENTS: usize = 3000;
    let env = env().await;
    let recipients: Vec<_> = (0..RECIPIENTS)
        .map(|n| json!({ "id": n, "subscription": env.subscribe(json!({})) }).to_string())
        .collect();
    let list = recipients.join(",");
    let space = " ".repeat(EVENT_LIMIT - list.len() - 100);
    let event = format!(r#"{{"id":"e","recipients":[{list}]{space},"payload":"hello"}}"#);
    publish(&env, &event).await;
    let reasons = reasons_of(&env, RECIPIENTS).await;
    assert_eq!(
        reasons,
        BTreeMap::from([("accepted".to_owned(), RECIPIENTS)])
    );
    assert_within_bounds(&env);
}

#[tokio::test]
async fn results_of_a_whole_event_do_not_take_their_sum_in_memory() {
    let recipients = (0..RECIPIENT_LIMIT).map(|n| json!({ "id": n, "subscription": {} }));
    let event = json!({
        "id": "e", "app": "nobody", "recipients": recipients.collect::<Vec<_>>(),
        "metadata": { "pad": "m".repeat(4000) },
    });
    let env = env().await;
    publish(&env, &event.to_string()).await;
    let reasons = reasons_of(&env, RECIPIENT_LIMIT).await;
    let unknown = BTreeMap::from([("unknown_app".to_owned(), RECIPIENT_LIMIT)]);
    assert_eq!(reasons, unknown);
    assert_within_bounds(&env);
}

#[tokio::test]
async fn ten_thousand_dead_subscriptions_do_not_take_the_sum_of_their_events_in_memory() {
    let env = env().await;
    let row =
        |n| json!({ "id": n, "subscription": { "endpoint": format!("https://x.invalid/{n}") } });
    let event = json!({
        "id": "e", "recipients": (0..RECIPIENT_LIMIT).map(row).collect::<Vec<_>>(),
        "metadata": { "pad": "m".repeat(4000) },
    });
    publish(&env, &event.to_string()).await;
    let reasons = reasons_of(&env, RECIPIENT_LIMIT).await;
    let gone = BTreeMap::from([("removed_by_browser".to_owned(), RECIPIENT_LIMIT)]);
    assert_eq!(reasons, gone);
    eventually(PATIENCE, async || {
        let told = env.vhost.depth("webpush.dead-subscriptions").await;
        wanted(told as usize, |told| *told == RECIPIENT_LIMIT)
    })
    .await;
    assert_within_bounds(&env);
}

#[tokio::test]
async fn one_endpoint_ten_thousand_times_does_not_take_the_sum_of_its_results_in_memory() {
    let env = env().await;
    let subscription = env.subscribe(json!({}));
    let row = |n| json!({ "id": n, "subscription": &subscription });
    let event = json!({
        "id": "e", "recipients": (0..RECIPIENT_LIMIT).map(row).collect::<Vec<_>>(),
        "metadata": { "pad": "m".repeat(4000) }, "payload": "hello",
    });
    publish(&env, &event.to_string()).await;
    let reasons = reasons_of(&env, RECIPIENT_LIMIT).await;
    assert_eq!(reasons["accepted"], 1, "{reasons:?}");
    assert_eq!(reasons["duplicate_recipient"], 9999, "{reasons:?}");
    assert_eq!(env.sandbox.stats().statuses[&201], 1);
    assert_within_bounds(&env);
}

/// The largest event there is: as many bytes, recipients, payload and metadata as are allowed.
#[tokio::test]
async fn four_mebibytes_of_ten_thousand_recipients_are_pushed_within_bounds() {
    let env = env().await;
    let rows: Vec<_> = (0..RECIPIENT_LIMIT)
        .map(|n| json!({ "id": n, "subscription": env.subscribe(json!({})) }))
        .collect();
    let whole = |pad: usize| {
        let own = json!({ "pad": "r".repeat(pad) });
        let rows = rows.iter().map(|row| {
            let mut row = row.clone();
            row["metadata"] = own.clone();
            row
        });
        let recipients: Vec<_> = rows.collect();
        json!({
            "id": "e", "recipients": recipients, "payload": "\u{1}".repeat(3900),
            "metadata": { "pad": "m".repeat(4000) },
        })
        .to_string()
    };
    let left = EVENT_LIMIT - whole(0).len();
    let event = whole(left / RECIPIENT_LIMIT);
    assert!((EVENT_LIMIT - RECIPIENT_LIMIT..=EVENT_LIMIT).contains(&event.len()));
    publish(&env, &event).await;
    let reasons = reasons_of(&env, RECIPIENT_LIMIT).await;
    assert_eq!(
        reasons,
        BTreeMap::from([("accepted".to_owned(), RECIPIENT_LIMIT)])
    );
    assert_eq!(env.sandbox.stats().statuses[&201], RECIPIENT_LIMIT as u64);
    assert_within_bounds(&env);
}

async fn env() -> TestEnv {
    let quick = sandbox::Settings {
        decrypt: false,
        keep: 0,
        ..Default::default()
    };
    TestEnv::open_with(quick, "log.filter = 'info'").await
}

async fn publish(env: &TestEnv, event: &str) {
    assert!(event.len() <= EVENT_LIMIT, "{}", event.len());
    env.publish_bytes(event.as_bytes()).await;
}

/// Publishes an event all of whose recipients end for one reason, without a request.
async fn end_of_three_thousand(more: Value, reason: &str) -> TestEnv {
    const RECIPIENTS: usize = 3000;
    let env = env().await;
    let origin = &env.sandbox.origins()[0];
    let recipient =
        |n| json!({ "id": n, "subscription": { "endpoint": format!("{origin}/nobody/{n}") } });
    let recipients: Vec<_> = (0..RECIPIENTS).map(recipient).collect();
    let mut event = json!({ "id": "e", "recipients": recipients });
    let members = event.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    publish(&env, &event.to_string()).await;
    let reasons = reasons_of(&env, RECIPIENTS).await;
    assert_eq!(reasons, BTreeMap::from([(reason.to_owned(), RECIPIENTS)]));
    assert_eq!(env.sandbox.stats().statuses, BTreeMap::new());
    assert_within_bounds(&env);
    env
}

/// Waits until each of `count` recipients has its result, and returns how many had which reason.
async fn reasons_of(env: &TestEnv, count: usize) -> BTreeMap<String, usize> {
    let mut ended = BTreeMap::new();
    eventually(PATIENCE, async || {
        for body in env.vhost.take_all("test.results").await {
            let result: Value = serde_json::from_slice(&body).unwrap();
            if is_delivery(&result) {
                let reason = result["reason"].as_str().unwrap().to_owned();
                let id = result["recipient"]["id"].to_string();
                assert_eq!(ended.insert(id.clone(), reason), None, "{id} ended twice");
            }
        }
        wanted(ended.len(), |ended| *ended == count)
    })
    .await;
    let mut reasons = BTreeMap::new();
    for reason in ended.into_values() {
        *reasons.entry(reason).or_default() += 1;
    }
    reasons
}

fn assert_within_bounds(env: &TestEnv) {
    let peak = env.daemon.peak_kib();
    println!("{peak} KiB at the peak");
    assert!(peak <= PEAK_KIB, "{peak} KiB at the peak");
}
