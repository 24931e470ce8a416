//! Progress messages of several daemons, added up as a consumer does.

use std::collections::BTreeSet;
use std::time::Duration;

use pushrider::sandbox;
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::daemon::Daemon;
use crate::support::env::TestEnv;
use crate::support::proxy::TcpProxy;
use crate::support::{eventually, wanted};
use crate::waiting::publish_all;

const MORE: &str = "retry.base = '500ms'\ngate.failures = 1000";

/// Returns the sums of recipients, waiting and settled, and the daemons that reported.
fn added_up(env: &TestEnv) -> ([i64; 3], BTreeSet<String>) {
    let mut sums = [0; 3];
    let (mut daemons, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let is_progress = |it: &&Value| it.get("sequence").is_some();
    for message in env.results.iter().filter(is_progress) {
        assert_eq!(message["group"], "spring");
        if !seen.insert((message["daemon"].to_string(), message["sequence"].as_u64())) {
            continue;
        }
        for (sum, name) in sums.iter_mut().zip(["recipients", "waiting", "settled"]) {
            *sum += message[name].as_i64().unwrap();
        }
        daemons.insert(message["daemon"].to_string());
    }
    (sums, daemons)
}

#[tokio::test]
async fn the_messages_of_all_daemons_add_up_to_every_recipient_once() {
    const EVENTS: usize = 200;
    const TOTAL: i64 = 300;
    let quick = sandbox::Settings {
        decrypt: false,
        keep: 0,
        ..Default::default()
    };
    let mut env = TestEnv::open_with(quick, MORE).await;
    let mut other = Daemon::new(&env.vhost.url(), &env.sandbox, MORE);
    other.start().await;
    let fine = env.subscribe(json!({}));
    let busy = env.subscribe(json!([{ "status": 503, "times": 20 }, { "status": 201 }]));
    let recipients: Vec<_> = (0..100)
        .map(|_| json!({ "subscription": env.subscribe(json!({})) }))
        .collect();
    let one = |n: usize| {
        let subscription = if n.is_multiple_of(20) { &busy } else { &fine };
        json!({ "id": format!("e{n}"), "group": "spring", "subscription": subscription })
    };
    publish_all(&env, (0..EVENTS).map(one)).await;
    env.publish(&json!({ "id": "many", "group": "spring", "recipients": recipients }))
        .await;
    eventually(Duration::from_secs(60), async || {
        env.gather(0, |_| false).await;
        wanted(added_up(&env).0, |sums| *sums == [TOTAL, 0, TOTAL])
    })
    .await;
    assert_eq!(added_up(&env).1.len(), 2, "both daemons report");
    other.stop().await;
}

#[tokio::test]
async fn a_daemon_that_stops_reports_what_it_has_settled() {
    let mut env = TestEnv::open("").await;
    let person = env.subscribe(json!({}));
    env.publish(&json!({ "id": "e1", "group": "spring", "subscription": person }))
        .await;
    env.results_of("e1", 1).await;
    env.daemon.stop().await;
    eventually(Duration::from_secs(10), async || {
        env.gather(0, |_| false).await;
        wanted(added_up(&env).0, |sums| *sums == [1, 0, 1])
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_reported_without_a_connection_is_reported_with_the_next() {
    let vhost = Broker::shared().vhost();
    let proxy = TcpProxy::to(vhost.port()).await;
    let url = vhost.url_of("guest", proxy.port());
    let mut env = TestEnv::open_at(vhost, &url, sandbox::Settings::default(), "").await;
    let person = env.subscribe(json!({}));
    env.publish(&json!({ "id": "e1", "group": "spring", "subscription": person }))
        .await;
    env.results_of("e1", 1).await;
    proxy.refuse(true);
    proxy.cut();
    // By the fifth time, more than three seconds have passed.
    eventually(Duration::from_secs(60), async || {
        let name = "pushrider_broker_reconnects_total";
        wanted(env.daemon.metric(name, "").await, |count| *count >= 5.0)
    })
    .await;
    proxy.refuse(false);
    eventually(Duration::from_secs(60), async || {
        env.gather(0, |_| false).await;
        wanted(added_up(&env).0, |sums| *sums == [1, 0, 1])
    })
    .await;
}

#[tokio::test]
async fn progress_that_nobody_asked_for_does_not_fill_the_queue_of_unrouted_results() {
    let env = TestEnv::open("").await;
    let person = env.subscribe(json!({}));
    let unbind = env.vhost.unbind("test.results", "webpush.results", "#");
    unbind.await;
    env.publish(&json!({ "id": "e1", "group": "spring", "subscription": person }))
        .await;
    eventually(Duration::from_secs(20), async || {
        let label = "kind=\"progress\",result=\"ack\"";
        let name = "pushrider_publishes_total";
        wanted(env.daemon.metric(name, label).await, |count| *count == 1.0)
    })
    .await;
    let unrouted = env.vhost.take_texts("webpush.unrouted").await;
    assert_eq!(unrouted.len(), 1, "{unrouted:?}");
    assert!(unrouted[0].contains("accepted"), "{unrouted:?}");
}
