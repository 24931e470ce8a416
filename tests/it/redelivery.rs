//! What is delivered again to a daemon that lives: each recipient is pushed to once.

use std::time::Duration;

use lapin::options::BasicGetOptions;
use pushrider::sandbox;
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::cable::{Cable, Way};
use crate::support::house::{House, event, is_delivery};
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

/// Opens a house whose daemon reaches the broker through a cable.
async fn behind_a_cable(settings: sandbox::Settings, more: &str) -> (House, Cable) {
    let vhost = Broker::shared().vhost();
    let cable = Cable::to(vhost.port()).await;
    let url = vhost.url_of("guest", cable.port());
    let house = House::open_at(vhost, &url, settings, more).await;
    (house, cable)
}

fn accepted(house: &House) -> usize {
    let stats = house.sandbox.stats();
    usize::try_from(stats.statuses.get(&201).copied().unwrap_or_default()).unwrap()
}

async fn until_accepted(house: &House, count: usize) {
    eventually(PATIENCE, async || {
        wanted(accepted(house), |seen| *seen >= count)
    })
    .await;
}

async fn metric(house: &House, name: &str) -> f64 {
    house.daemon.metric(name, "").await
}

/// Waits until nothing moves any more: the same at two looks, with nothing in hand or in a queue.
async fn at_rest(house: &House) {
    let mut last = None;
    eventually(Duration::from_secs(120), async || {
        let mut ready = 0;
        for queue in ["lane.default", "due.default", "delay.1s", "delay.4s"] {
            ready += house.vhost.depth(&format!("webpush.{queue}")).await;
        }
        let open = metric(house, "pushrider_deliveries_in_flight").await;
        let taken = metric(house, "pushrider_deliveries_total").await;
        let seen = (ready, open, taken);
        let before = last.replace(seen);
        wanted((seen, accepted(house)), |_| {
            (ready, open) == (0, 0.0) && before == Some(seen)
        })
    })
    .await;
}

fn campaign(house: &House, recipients: usize, more: Value) -> String {
    let recipients: Vec<_> = (0..recipients)
        .map(|_| json!({ "subscription": house.subscribe(json!({})) }))
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
    let (house, cable) = behind_a_cable(quick(), "log.filter = 'info'").await;
    let body = campaign(&house, RECIPIENTS, json!({ "results": "none" }));
    let before = cable.bytes(Way::Up);
    cable.delay(Duration::from_millis(20));
    house.publish_bytes(body.as_bytes()).await;
    let half = u64::try_from(body.len() / 2).unwrap();
    eventually(PATIENCE, async || {
        wanted(cable.bytes(Way::Up), |&bytes| bytes > before + half)
    })
    .await;
    cable.cut();
    cable.delay(Duration::ZERO);
    until_accepted(&house, RECIPIENTS).await;
    at_rest(&house).await;
    assert!(metric(&house, "pushrider_broker_reconnects_total").await >= 1.0);
    assert_eq!(accepted(&house), RECIPIENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_amid_chunks_it_pushes_to_nobody_twice() {
    const RECIPIENTS: usize = 6000;
    let settings = sandbox::Settings {
        latency: Duration::from_millis(50),
        ..quick()
    };
    let (house, cable) = behind_a_cable(settings, "log.filter = 'info'").await;
    // Results of several MiB together.
    let pad = json!({ "metadata": { "pad": "m".repeat(1500) } });
    let body = campaign(&house, RECIPIENTS, pad);
    house.publish_bytes(body.as_bytes()).await;
    eventually(PATIENCE, async || {
        let taken = metric(&house, "pushrider_deliveries_total").await;
        wanted(taken, |&taken| taken > 60.0)
    })
    .await;
    // Nothing is confirmed or acknowledged while the pushes under way end.
    cable.freeze(Way::Up, true);
    let mut last = None;
    eventually(PATIENCE, async || {
        let under_way = metric(&house, "pushrider_requests_in_flight").await;
        let seen = (under_way, accepted(&house));
        let before = last.replace(seen);
        wanted(seen, |seen| under_way == 0.0 && before == Some(*seen))
    })
    .await;
    cable.cut();
    cable.freeze(Way::Up, false);
    until_accepted(&house, RECIPIENTS).await;
    at_rest(&house).await;
    assert_eq!(accepted(&house), RECIPIENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_amid_retry_copies_under_load_it_pushes_to_nobody_twice() {
    const EVENTS: usize = 3000;
    let more = "log.filter = 'info'\ngate.failures = 1000\nretry.base = '1s'";
    let (house, cable) = behind_a_cable(quick(), more).await;
    let events: Vec<_> = (0..EVENTS)
        .map(|n| {
            let fails_first = json!([{ "status": 503, "times": 1 }, { "status": 201 }]);
            let answers = if n % 2 == 0 { fails_first } else { json!({}) };
            event(&format!("e{n}"), &house.subscribe(answers), json!({}))
        })
        .collect();
    cable.delay(Duration::from_millis(10));
    publish_all(&house, events.into_iter()).await;
    for part in 1..=4 {
        until_accepted(&house, part * EVENTS / 8).await;
        cable.cut();
    }
    cable.delay(Duration::ZERO);
    until_accepted(&house, EVENTS).await;
    at_rest(&house).await;
    assert!(metric(&house, "pushrider_broker_reconnects_total").await >= 3.0);
    assert_eq!(accepted(&house), EVENTS);
}

#[tokio::test]
async fn an_equal_event_that_another_consumer_returned_is_pushed_too() {
    let (mut house, cable) = behind_a_cable(sandbox::Settings::default(), "").await;
    let fine = house.subscribe(json!({}));
    let body = json!({ "subscription": fine, "payload": "tick" });
    house.publish(&body).await;
    house.gather(1, is_delivery).await;
    house.settled().await;
    cable.refuse(true);
    cable.cut();
    house.publish(&body).await;
    let (connection, channel) = open(&house.vhost.url()).await;
    let options = BasicGetOptions { no_ack: false };
    eventually(PATIENCE, async || {
        let taken = channel.basic_get("webpush.lane.default".into(), options);
        taken.await.unwrap().ok_or("the event is not there")
    })
    .await;
    connection.close(200, "".into()).await.unwrap();
    cable.refuse(false);
    house.gather(2, is_delivery).await;
    house.settled().await;
    let redelivered = r#"redelivered="true""#;
    let again = house
        .daemon
        .metric("pushrider_deliveries_total", redelivered);
    assert!(again.await >= 1.0);
    assert_eq!(house.sandbox.messages(Some(&fine.id)).len(), 2);
}

/// The daemon subscribes again while its prefetch grows, and RabbitMQ marks what was on its way to
/// the old subscription as redelivered.
#[tokio::test]
async fn equal_events_with_an_id_that_arrive_while_the_prefetch_grows_are_all_pushed() {
    const EVENTS: usize = 3000;
    let mut house = House::open_with(quick(), "").await;
    let fine = house.subscribe(json!({}));
    let payload = json!({ "payload": "x".repeat(3500) });
    let body = event("same", &fine, payload).to_string();
    let bodies = vec![&body; EVENTS];
    house
        .vhost
        .publish_all("webpush.events", "shop.default", bodies)
        .await;
    house.gather(EVENTS, is_delivery).await;
    assert_eq!(accepted(&house), EVENTS);
    house.daemon.stop().await;
}

#[tokio::test]
async fn what_the_broker_gives_up_on_while_it_is_pushed_ends_as_the_push_does() {
    let (mut house, cable) = behind_a_cable(
        sandbox::Settings::default(),
        "broker.delivery_limit = 2\nlog.filter = 'info'",
    )
    .await;
    let slow = house.subscribe(json!({ "status": 201, "delay": "12s" }));
    house.publish(&event("e1", &slow, json!({}))).await;
    house.arrived(&slow.id, 1).await;
    for taken in 1..=3 {
        eventually(PATIENCE, async || {
            let seen = metric(&house, "pushrider_deliveries_total").await;
            let open = metric(&house, "pushrider_deliveries_in_flight").await;
            wanted((seen, open), |it| *it == (f64::from(taken), 1.0))
        })
        .await;
        cable.cut();
    }
    let results = house.results_of("e1", 1).await;
    assert_eq!(results[0]["outcome"], "accepted", "{results:#?}");
    house.settled().await;
    assert_eq!(house.vhost.depth("webpush.quarantine").await, 0);
    assert_eq!(house.sandbox.messages(Some(&slow.id)).len(), 1);
    house.gather(0, is_delivery).await;
    assert_eq!(house.outcomes().values().collect::<Vec<_>>(), [&1]);
}
