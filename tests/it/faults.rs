//! The whole daemon when things break: afterwards every recipient of every event has its outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pushrider::sandbox;
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::daemon::Daemon;
use crate::support::env::{TestEnv, event, is_delivery};
use crate::support::proxy::TcpProxy;
use crate::support::vhost::arguments;
use crate::support::{eventually, wanted};

/// Waits until every event from `first` on has its outcome, and nothing but these events.
async fn every_outcome(env: &mut TestEnv, events: usize) {
    let named = |result: &Value| result["event_id"].as_str().unwrap().to_owned();
    let expected: BTreeSet<_> = (0..events).map(|n| format!("e{n}")).collect();
    eventually(Duration::from_secs(90), async || {
        let found = env.gather(0, is_delivery).await;
        let found: BTreeSet<_> = found.iter().map(named).collect();
        let missing: Vec<_> = expected.difference(&found).cloned().collect();
        wanted(missing, Vec::is_empty)
    })
    .await;
    assert_eq!(
        env.outcomes().len(),
        events,
        "outcomes of events nobody published"
    );
}

#[tokio::test]
async fn killed_with_events_in_flight_it_loses_none() {
    let settings = sandbox::Settings {
        latency: Duration::from_millis(20),
        ..Default::default()
    };
    let mut env = TestEnv::open_with(settings, "").await;
    let shaky = env.subscribe(json!([{ "status": 503 }, { "status": 201 }, { "status": 201 }]));
    let fine = env.subscribe(json!({}));
    for n in 0..400 {
        let to = if n % 10 == 0 { &shaky } else { &fine };
        env.publish(&event(&format!("e{n}"), to, json!({}))).await;
        if n % 150 == 149 {
            env.daemon.kill().await;
            env.daemon.start().await;
        }
    }
    every_outcome(&mut env, 400).await;
    let repeats = env.results.len() - 400;
    assert!(repeats <= 100, "{repeats} results came twice");
    env.settled().await;
}

#[tokio::test]
async fn killed_while_pushing_it_sends_a_copy_that_replaces_the_first() {
    let mut env = TestEnv::open("push.replace_duplicates = true").await;
    let slow = env.subscribe(json!({ "status": 201, "delay": "2s" }));
    for n in 0..2 {
        env.publish(&event(&format!("e{n}"), &slow, json!({})))
            .await;
    }
    env.arrived(&slow.id, 2).await;
    env.daemon.kill().await;
    env.daemon.start().await;
    every_outcome(&mut env, 2).await;
    let mut copies: BTreeMap<_, usize> = BTreeMap::new();
    for message in env.sandbox.messages(Some(&slow.id)) {
        *copies.entry(message.topic.clone().unwrap()).or_default() += 1;
    }
    assert_eq!(copies.into_values().collect::<Vec<_>>(), [2, 2]);
}

#[tokio::test]
async fn asked_to_stop_it_finishes_what_is_in_flight() {
    let settings = sandbox::Settings {
        latency: Duration::from_secs(1),
        ..Default::default()
    };
    let mut env = TestEnv::open_with(settings, "").await;
    let fine = env.subscribe(json!({}));
    for n in 0..100 {
        env.publish(&event(&format!("e{n}"), &fine, json!({})))
            .await;
    }
    env.arrived(&fine.id, 100).await;
    env.daemon.stop().await;
    every_outcome(&mut env, 100).await;
    assert_eq!(env.results.len(), 100, "each result once");
    assert_eq!(env.vhost.depth("webpush.lane.default").await, 0);
    assert_eq!(env.sandbox.messages(None).len(), 100, "each push once");
}

#[tokio::test]
async fn asked_to_stop_it_returns_what_does_not_finish() {
    let more = "shutdown.grace = '3s'\npush.timeout = '1500ms'\npush.max_wait = '500ms'";
    let mut env = TestEnv::open(more).await;
    let hanging = env.subscribe(json!({ "fault": "hang" }));
    for n in 0..20 {
        env.publish(&event(&format!("e{n}"), &hanging, json!({})))
            .await;
    }
    env.arrived(&hanging.id, 20).await;
    env.daemon.stop().await;
    let kept = eventually(Duration::from_secs(5), async || {
        let mut kept = 0;
        for queue in [
            "lane.default",
            "due.default",
            "delay.50ms",
            "delay.150ms",
            "delay.400ms",
        ] {
            kept += env.vhost.depth(&format!("webpush.{queue}")).await;
        }
        wanted(kept, |kept| *kept == 20)
    })
    .await;
    assert_eq!(kept, 20, "the broker has them all");
}

#[tokio::test]
async fn cut_off_while_pushing_it_answers_the_redelivery_from_memory() {
    let vhost = Broker::shared().vhost();
    let proxy = TcpProxy::to(vhost.port()).await;
    let url = vhost.url_of("guest", proxy.port());
    let settings = sandbox::Settings {
        latency: Duration::from_secs(1),
        ..Default::default()
    };
    let mut env = TestEnv::open_at(vhost, &url, settings, "").await;
    let fine = env.subscribe(json!({}));
    for n in 0..50 {
        env.publish(&event(&format!("e{n}"), &fine, json!({})))
            .await;
    }
    env.arrived(&fine.id, 50).await;
    proxy.cut();
    every_outcome(&mut env, 50).await;
    env.settled().await;
    assert_eq!(env.sandbox.messages(None).len(), 50, "each was pushed once");
    assert!(
        env.daemon
            .metric("pushrider_deliveries_total", r#"redelivered="true""#)
            .await
            >= 50.0
    );
}

#[tokio::test]
async fn a_broker_that_is_killed_loses_nothing() {
    let broker = Broker::own();
    let vhost = broker.vhost();
    let (name, url) = (vhost.name().to_owned(), vhost.url());
    let settings = sandbox::Settings {
        latency: Duration::from_millis(20),
        ..Default::default()
    };
    let more = "delay.bands = ['1s', '4s']\ngate.failures = 1000";
    let mut env = TestEnv::open_at(vhost, &url, settings, more).await;
    broker.remembers(&name, "webpush.delay.4s").await;
    let shaky = env.subscribe(json!([{ "status": 503, "times": 50 }, { "status": 201 }]));
    let fine = env.subscribe(json!({}));
    for n in 0..300 {
        let to = if n < 50 { &shaky } else { &fine };
        env.publish(&event(&format!("e{n}"), to, json!({}))).await;
    }
    eventually(Duration::from_secs(20), async || {
        wanted(env.sandbox.messages(None).len(), |count| *count > 100)
    })
    .await;
    broker.kill();
    eventually(Duration::from_secs(20), async || {
        let (status, _) = env.daemon.get("/readyz").await?;
        wanted(status, |status| *status == 503).map_err(|status| status.to_string())
    })
    .await;
    broker.restart();
    env.vhost = env.vhost.again();
    every_outcome(&mut env, 300).await;
}

#[tokio::test]
async fn a_broker_that_is_away_at_the_start_is_waited_for() {
    let vhost = Broker::shared().vhost();
    let proxy = TcpProxy::to(vhost.port()).await;
    proxy.refuse(true);
    let url = vhost.url_of("guest", proxy.port());
    let sandbox = sandbox::start(sandbox::Settings::default()).await.unwrap();
    let mut daemon = Daemon::new(&url, &sandbox, "");
    daemon.launch().await;
    let ready = async |expected: u16| {
        eventually(Duration::from_secs(20), async || {
            let (status, body) = daemon.get("/readyz").await?;
            wanted(status, |status| *status == expected).map_err(|_| body)
        })
        .await;
    };
    ready(503).await;
    assert_eq!(daemon.get("/livez").await.unwrap().0, 200);
    proxy.refuse(false);
    ready(200).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_broker_that_blocks_makes_it_unready_and_nothing_is_lost() {
    let broker = Broker::own();
    let vhost = broker.vhost();
    let url = vhost.url();
    let mut env = TestEnv::open_at(vhost, &url, sandbox::Settings::default(), "").await;
    let slow = env.subscribe(json!({ "status": 201, "delay": "2s" }));
    let ready = async |env: &TestEnv, expected: u16| {
        eventually(Duration::from_secs(30), async || {
            let (status, body) = env.daemon.get("/readyz").await?;
            wanted(status, |status| *status == expected).map_err(|_| body)
        })
        .await;
    };
    for n in 0..20 {
        env.publish(&event(&format!("e{n}"), &slow, json!({})))
            .await;
    }
    env.arrived(&slow.id, 20).await;
    broker.block();
    ready(&env, 503).await;
    broker.unblock();
    ready(&env, 200).await;
    every_outcome(&mut env, 20).await;
    assert_eq!(env.sandbox.messages(None).len(), 20, "each was pushed once");
}

#[tokio::test]
async fn what_only_an_operator_can_mend_ends_it_with_78() {
    let vhost = Broker::shared().vhost();
    let sandbox = sandbox::start(sandbox::Settings::default()).await.unwrap();
    let wrong_password = vhost.url().replace("guest:guest", "guest:wrong");
    let wrong_vhost = vhost.url().replace(vhost.name(), "nowhere");
    for (url, more, says) in [
        (wrong_password.as_str(), "", "password"),
        (wrong_vhost.as_str(), "", "nowhere"),
        (
            vhost.url().as_str(),
            "broker.declare = 'passive'",
            "broker.declare",
        ),
    ] {
        let mut daemon = Daemon::new(url, &sandbox, more);
        daemon.launch().await;
        let status = daemon.ended().await;
        let log = daemon.log();
        assert_eq!(status.code(), Some(78), "{log}");
        assert!(log.contains(says), "{says} is not in\n{log}");
        assert!(!log.contains("guest:"), "{log}");
    }
}

#[tokio::test]
async fn a_result_that_is_refused_beyond_the_consumer_timeout_is_published_and_not_pushed_again() {
    let broker = Broker::own();
    broker.control(&[
        "eval",
        "application:set_env(rabbit, consumer_timeout, 3000), \
         application:set_env(rabbit, channel_tick_interval, 1000).",
    ]);
    let vhost = broker.vhost();
    let url = vhost.url();
    let mut env = TestEnv::open_at(vhost, &url, sandbox::Settings::default(), "").await;
    let full = arguments(&[("x-max-length", "1"), ("x-overflow", "reject-publish")]);
    env.vhost.queue("audit", full).await;
    env.vhost.bind("audit", "webpush.results", "#").await;
    env.vhost.publish("", "audit", b"the first").await;
    let fine = env.subscribe(json!({}));
    env.publish(&event("e0", &fine, json!({}))).await;
    eventually(Duration::from_secs(60), async || {
        let reconnects = env.daemon.metric("pushrider_broker_reconnects_total", "");
        wanted(reconnects.await, |&reconnects| reconnects >= 1.0)
    })
    .await;
    let log = env.daemon.log();
    assert!(log.contains("PRECONDITION_FAILED"), "{log}");
    assert_eq!(env.vhost.take_texts("audit").await, ["the first"]);
    eventually(Duration::from_secs(60), async || {
        wanted(env.vhost.depth("audit").await, |&depth| depth == 1)
    })
    .await;
    env.settled().await;
    every_outcome(&mut env, 1).await;
    assert_eq!(env.sandbox.messages(Some(&fine.id)).len(), 1);
}
