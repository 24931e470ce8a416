//! What is delivered again to a daemon that lives: each recipient is pushed to once.

use std::time::Duration;

use lapin::options::BasicGetOptions;
use pushrider::sandbox;
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::env::{TestEnv, event, is_delivery};
use crate::support::proxy::{TcpProxy, Way};
use crate::support::vhost::open;
use crate::support::{eventually, wanted};
use crate::waiting::publish_all;

const PATIENCE: Duration = Duration::from_secs(60);

fn quick() -> sandbox::Settings {
    sandbox::Settings {
        decrypt: false,
        keep: 0,
        ..Default::default()
    }
}

/// Opens an environment whose daemon reaches the broker through a proxy.
async fn behind_a_proxy(settings: sandbox::Settings, more: &str) -> (TestEnv, TcpProxy) {
    let vhost = Broker::shared().vhost();
    let proxy = TcpProxy::to(vhost.port()).await;
    let url = vhost.url_of("guest", proxy.port());
    let env = TestEnv::open_at(vhost, &url, settings, more).await;
    (env, proxy)
}

fn accepted(env: &TestEnv) -> usize {
    let stats = env.sandbox.stats();
    usize::try_from(stats.statuses.get(&201).copied().unwrap_or_default()).unwrap()
}

async fn until_accepted(env: &TestEnv, count: usize) {
    eventually(PATIENCE, async || {
        wanted(accepted(env), |seen| *seen >= count)
    })
    .await;
}

async fn metric(env: &TestEnv, name: &str) -> f64 {
    env.daemon.metric(name, "").await
}

/// Waits until nothing moves any more: the same at two looks, with nothing in hand or in a queue.
async fn at_rest(env: &TestEnv) {
    let mut last = None;
    eventually(Duration::from_secs(120), async || {
        let mut ready = 0;
        for queue in ["lane.default", "due.default", "delay.1s", "delay.4s"] {
            ready += env.vhost.depth(&format!("webpush.{queue}")).await;
        }
        let open = metric(env, "pushrider_deliveries_in_flight").await;
        let taken = metric(env, "pushrider_deliveries_total").await;
        let seen = (ready, open, taken);
        let before = last.replace(seen);
        wanted((seen, accepted(env)), |_| {
            (ready, open) == (0, 0.0) && before == Some(seen)
        })
    })
    .await;
}

fn campaign(env: &TestEnv, recipients: usize, more: Value) -> String {
    let recipients: Vec<_> = (0..recipients)
        .map(|_| json!({ "subscription": env.subscribe(json!({})) }))
        .collect();
    let mut event = json!({ "id": "c1", "recipients": recipients, "payload": "x" });
    event
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    event.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_amid_a_split_it_pushes_to_nobody_twice() {
    const RECIPIENTS: usize = 4000;
    let (env, proxy) = behind_a_proxy(quick(), "log.filter = 'info'").await;
    let body = campaign(&env, RECIPIENTS, json!({ "results": "none" }));
    let before = proxy.bytes(Way::Up);
    proxy.delay(Duration::from_millis(20));
    env.publish_bytes(body.as_bytes()).await;
    let half = u64::try_from(body.len() / 2).unwrap();
    eventually(PATIENCE, async || {
        wanted(proxy.bytes(Way::Up), |&bytes| bytes > before + half)
    })
    .await;
    proxy.cut();
    proxy.delay(Duration::ZERO);
    until_accepted(&env, RECIPIENTS).await;
    at_rest(&env).await;
    assert!(metric(&env, "pushrider_broker_reconnects_total").await >= 1.0);
    assert_eq!(accepted(&env), RECIPIENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_amid_chunks_it_pushes_to_nobody_twice() {
    const RECIPIENTS: usize = 6000;
    let settings = sandbox::Settings {
        latency: Duration::from_millis(50),
        ..quick()
    };
    let (env, proxy) = behind_a_proxy(settings, "log.filter = 'info'").await;
    // Results of several MiB together.
    let pad = json!({ "metadata": { "pad": "m".repeat(1500) } });
    let body = campaign(&env, RECIPIENTS, pad);
    env.publish_bytes(body.as_bytes()).await;
    eventually(PATIENCE, async || {
        let taken = metric(&env, "pushrider_deliveries_total").await;
        wanted(taken, |&taken| taken > 60.0)
    })
    .await;
    // Nothing is confirmed or acknowledged while the pushes under way end.
    proxy.freeze(Way::Up, true);
    let mut last = None;
    eventually(PATIENCE, async || {
        let under_way = metric(&env, "pushrider_requests_in_flight").await;
        let seen = (under_way, accepted(&env));
        let before = last.replace(seen);
        wanted(seen, |seen| under_way == 0.0 && before == Some(*seen))
    })
    .await;
    proxy.cut();
    proxy.freeze(Way::Up, false);
    until_accepted(&env, RECIPIENTS).await;
    at_rest(&env).await;
    assert_eq!(accepted(&env), RECIPIENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_amid_retry_copies_under_load_it_pushes_to_nobody_twice() {
    const EVENTS: usize = 3000;
    let more = "log.filter = 'info'\ngate.failures = 1000\nretry.base = '1s'";
    let (env, proxy) = behind_a_proxy(quick(), more).await;
    let events: Vec<_> = (0..EVENTS)
        .map(|n| {
            let fails_first = json!([{ "status": 503, "times": 1 }, { "status": 201 }]);
            let answers = if n % 2 == 0 { fails_first } else { json!({}) };
            event(&format!("e{n}"), &env.subscribe(answers), json!({}))
        })
        .collect();
    proxy.delay(Duration::from_millis(10));
    publish_all(&env, events.into_iter()).await;
    for part in 1..=4 {
        until_accepted(&env, part * EVENTS / 8).await;
        proxy.cut();
    }
    proxy.delay(Duration::ZERO);
    until_accepted(&env, EVENTS).await;
    at_rest(&env).await;
    assert!(metric(&env, "pushrider_broker_reconnects_total").await >= 3.0);
    assert_eq!(accepted(&env), EVENTS);
}

#[tokio::test]
async fn an_equal_event_that_another_consumer_returned_is_pushed_too() {
    let (mut env, proxy) = behind_a_proxy(sandbox::Settings::default(), "").await;
    let fine = env.subscribe(json!({}));
    let body = json!({ "subscription": fine, "payload": "tick" });
    env.publish(&body).await;
    env.gather(1, is_delivery).await;
    env.settled().await;
    proxy.refuse(true);
    proxy.cut();
    env.publish(&body).await;
    let (connection, channel) = open(&env.vhost.url()).await;
    let options = BasicGetOptions { no_ack: false };
    eventually(PATIENCE, async || {
        let taken = channel.basic_get("webpush.lane.default".into(), options);
        taken.await.unwrap().ok_or("the event is not there")
    })
    .await;
    connection.close(200, "".into()).await.unwrap();
    proxy.refuse(false);
    env.gather(2, is_delivery).await;
    env.settled().await;
    let redelivered = r#"redelivered="true""#;
    let again = env.daemon.metric("pushrider_deliveries_total", redelivered);
    assert!(again.await >= 1.0);
    assert_eq!(env.sandbox.messages(Some(&fine.id)).len(), 2);
}

/// The daemon subscribes again while its prefetch grows, and RabbitMQ marks what was on its way to
/// the old subscription as redelivered.
#[tokio::test]
async fn equal_events_with_an_id_that_arrive_while_the_prefetch_grows_are_all_pushed() {
    const EVENTS: usize = 3000;
    let mut env = TestEnv::open_with(quick(), "").await;
    let fine = env.subscribe(json!({}));
    let payload = json!({ "payload": "x".repeat(3500) });
    let body = event("same", &fine, payload).to_string();
    let bodies = vec![&body; EVENTS];
    env.vhost
        .publish_all("webpush.events", "shop.default", bodies)
        .await;
    env.gather(EVENTS, is_delivery).await;
    assert_eq!(accepted(&env), EVENTS);
    env.daemon.stop().await;
}

#[tokio::test]
async fn what_the_broker_gives_up_on_while_it_is_pushed_ends_as_the_push_does() {
    let (mut env, proxy) = behind_a_proxy(
        sandbox::Settings::default(),
        "broker.delivery_limit = 2\nlog.filter = 'info'",
    )
    .await;
    let slow = env.subscribe(json!({ "status": 201, "delay": "12s" }));
    env.publish(&event("e1", &slow, json!({}))).await;
    env.arrived(&slow.id, 1).await;
    for taken in 1..=3 {
        eventually(PATIENCE, async || {
            let seen = metric(&env, "pushrider_deliveries_total").await;
            let open = metric(&env, "pushrider_deliveries_in_flight").await;
            wanted((seen, open), |it| *it == (f64::from(taken), 1.0))
        })
        .await;
        proxy.cut();
    }
    let results = env.results_of("e1", 1).await;
    assert_eq!(results[0]["outcome"], "accepted", "{results:#?}");
    env.settled().await;
    assert_eq!(env.vhost.depth("webpush.quarantine").await, 0);
    assert_eq!(env.sandbox.messages(Some(&slow.id)).len(), 1);
    env.gather(0, is_delivery).await;
    assert_eq!(env.outcomes().values().collect::<Vec<_>>(), [&1]);
}
