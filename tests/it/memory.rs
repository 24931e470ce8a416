//! Large events take little memory, and time from nobody else.

use std::time::Duration;

use pushrider::clock::{Clock, SystemClock};
use pushrider::sandbox;
use serde_json::{Value, json};

use crate::support::env::{TestEnv, event, is_delivery};
use crate::support::{eventually, wanted};

/// What a daemon may take at its peak.
const MOST_KIB: u64 = 100 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn many_large_events_take_little_memory() {
    const EVENTS: usize = 60;
    let env = TestEnv::open_with(sandbox::Settings::default(), "log.filter = 'info'").await;
    let pad = "m".repeat(350);
    let recipients: Vec<_> = (0..10_000)
        .map(|n| json!({ "subscription": { "endpoint": format!("https://a.example/{pad}/{n}") } }))
        .collect();
    let event = json!({
        "id": "large", "recipients": recipients, "payload": "x",
        "results": "none", "expires_at": "2020-01-01T00:00:00Z",
    });
    let body = event.to_string();
    let before = env.daemon.peak_kib();
    let since = SystemClock.now().mono;
    let bodies = vec![&body; EVENTS];
    env.vhost
        .publish_all("webpush.events", "shop.default", bodies)
        .await;
    eventually(Duration::from_secs(600), async || {
        let depth = env.vhost.depth("webpush.lane.default").await;
        wanted(depth, |&depth| depth == 0)
    })
    .await;
    env.settled().await;
    let (took, peak, size) = (since.elapsed(), env.daemon.peak_kib(), body.len() / 1024);
    println!("{EVENTS} events of {size} KiB in {took:?}: {before} KiB before, {peak} at the peak");
    assert!(
        peak <= MOST_KIB,
        "{peak} KiB for {EVENTS} events of {size} KiB"
    );
}

/// The lane `bulk` holds as many bytes as it may for seconds, because its push service hangs;
/// meanwhile the events of another lane come and go, and no connection is taken for lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_full_of_large_events_holds_up_no_other() {
    const LARGE: usize = 8;
    const SMALL: usize = 50;
    const FIRST: usize = 600;
    let settings = sandbox::Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap(); 2],
        keep: 10_000,
        ..Default::default()
    };
    let more = "broker.heartbeat = '1s'
        push.timeout = '6s'
        retry.max_attempts = 1
        gate.failures = 1000
        lanes.bulk.prefetch = 500";
    let mut env = TestEnv::open_with(settings, more).await;
    let fine = env.subscribe_at(1, json!({}));
    let hanging = env.subscribe_at(0, json!({ "fault": "hang" }));
    // Small events let the prefetch grow, so that the broker sends all large ones at once.
    let first = (0..FIRST).map(|n| event(&format!("first{n}"), &fine, json!({})).to_string());
    // What browsers may add to a subscription is read over.
    let mut large = event("large", &hanging, json!({}));
    large["subscription"]["more"] = "x".repeat(1 << 20).into();
    let bodies = first.chain(vec![large.to_string(); LARGE]);
    env.vhost
        .publish_all("webpush.events", "shop.bulk", bodies)
        .await;
    env.arrived(&fine.id, FIRST).await;
    env.arrived(&hanging.id, 1).await;
    let since = SystemClock.now().mono;
    for n in 0..SMALL {
        let id = format!("small{n}");
        env.publish(&event(&id, &fine, json!({}))).await;
    }
    let is_small = |result: &Value| {
        let id = result["event_id"].as_str();
        is_delivery(result) && id.is_some_and(|id| id.starts_with("small"))
    };
    env.gather(SMALL, is_small).await;
    let took = since.elapsed();
    let in_flight = "pushrider_deliveries_in_flight";
    let in_hand = env.daemon.metric(in_flight, "").await;
    let sent = env.vhost.depth("webpush.lane.bulk").await;
    println!("{SMALL} events took {took:?}, beside {in_hand} large ones in hand and {sent} ready");
    // What waited for a large event would wait for its push to time out.
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(
        in_hand < LARGE as f64 / 2.0,
        "{in_hand} large events in hand"
    );

    let is_large = |result: &Value| is_delivery(result) && result["event_id"] == "large";
    let results = env.gather(LARGE, is_large).await;
    assert_eq!(results.len(), LARGE, "each settled once");
    let reconnects = "pushrider_broker_reconnects_total";
    let reconnects = env.daemon.metric(reconnects, "").await;
    assert_eq!(reconnects, 0.0, "{}", env.daemon.log());
}
