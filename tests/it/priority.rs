//! The priority of a producer's message, which outlasts every wait.

use std::time::Duration;

use jiff::Timestamp;
use lapin::BasicProperties;
use pushrider::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::env::{TestEnv, event};
use crate::support::{eventually, wanted};

async fn publish(env: &TestEnv, priority: Option<u8>, event: &Value) {
    let properties = BasicProperties::default();
    let properties = match priority {
        Some(priority) => properties.with_priority(priority),
        None => properties,
    };
    let body = event.to_string();
    env.vhost
        .publish_with(
            "webpush.events",
            "shop.default",
            body.as_bytes(),
            properties,
        )
        .await;
}

/// One delay band, in which whatever waits is found; chunks of one recipient.
const MORE: &str = "delay.bands = ['1h']\nevents.chunk = 1\ngate.failures = 1000";

const WAITING: &str = "webpush.delay.1h";

/// Waits for a message that waits and returns its priority.
async fn next_waiting(env: &TestEnv) -> Option<u8> {
    let message = eventually(Duration::from_secs(30), async || {
        env.vhost.take(WAITING).await.ok_or("no message")
    });
    *message.await.properties.priority()
}

#[tokio::test]
async fn copies_that_wait_keep_the_priority_of_the_producer() {
    let env = TestEnv::open(MORE).await;
    let down = env.subscribe(json!({ "status": 503 }));
    let later = SystemClock.now().wall + Duration::from_secs(90);
    let later = Timestamp::try_from(later).unwrap().to_string();
    let recipients = json!([{ "subscription": down }, { "subscription": down, "payload": "x" }]);
    for priority in [None, Some(0), Some(9), Some(255)] {
        for (event, copies) in [
            (event("scheduled", &down, json!({ "deliver_at": later })), 1),
            (event("retried", &down, json!({})), 1),
            // Retries of chunks.
            (json!({ "id": "many", "recipients": recipients }), 2),
        ] {
            publish(&env, priority, &event).await;
            for _ in 0..copies {
                assert_eq!(next_waiting(&env).await, priority, "{event}");
            }
        }
    }
}

/// RabbitMQ 4 delivers messages of a quorum queue with a priority above 4 first.
#[tokio::test]
async fn what_is_urgent_comes_back_first_where_the_broker_honours_priorities() {
    const OTHERS: usize = 50;
    let mut env = TestEnv::open("lanes.default.due_prefetch = 1").await;
    let person = env.subscribe(json!({}));
    let due = SystemClock.now().wall + Duration::from_secs(4);
    let due = Timestamp::try_from(due).unwrap().to_string();
    let scheduled = |id: &str| event(id, &person, json!({ "deliver_at": due, "payload": id }));
    for n in 0..OTHERS {
        publish(&env, None, &scheduled(&format!("e{n}"))).await;
    }
    publish(&env, Some(9), &scheduled("urgent")).await;
    env.settled().await;
    env.daemon.kill().await;
    eventually(Duration::from_secs(30), async || {
        let ready = env.vhost.depth("webpush.due.default").await as usize;
        wanted(ready, |ready| *ready == OTHERS + 1)
    })
    .await;
    env.daemon.start().await;
    let arrived = env.arrived(&person.id, OTHERS + 1).await;
    let place = arrived.iter().position(|text| text == "urgent").unwrap();
    let version = Broker::shared().control(&["version"]);
    let honours = !version.starts_with("3.");
    assert!(
        place < OTHERS / 2 || !honours,
        "at place {place} on RabbitMQ {version}"
    );
}
