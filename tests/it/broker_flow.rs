//! What flows through the broker module: nothing lost, nothing acknowledged early, waits that end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use pushrider::broker::{Inbound, Publication, Rounding, Route, Source};
use pushrider::clock::{Clock, SystemClock};
use pushrider::wire::Kind;
use tokio::task::block_in_place;

use crate::support::broker::Broker;
use crate::support::echo::{
    Echo, RESULTS, all_results, publication, result, results, retry, settings,
};
use crate::support::proxy::TcpProxy;
use crate::support::vhost::{Vhost, arguments};
use crate::support::{eventually, wanted};

const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the module and a queue for its results.
async fn start(
    vhost: &Vhost,
    answer: impl Fn(&Inbound) -> Vec<Publication> + Send + 'static,
) -> Echo {
    let echo = Echo::start(settings(vhost.url()), answer);
    echo.consumes().await;
    results(vhost).await;
    echo
}

fn route(inbound: &Inbound, to: Route, kind: Kind) -> Vec<Publication> {
    vec![publication(inbound, to, kind)]
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_events_come_out_once_each_and_are_acknowledged() {
    let vhost = Broker::shared().vhost();
    let echo = start(&vhost, result).await;
    vhost
        .publish_numbered("webpush.events", "shop.default", 5000)
        .await;
    assert_eq!(all_results(&vhost, 5000).await, 0);
    echo.has_acknowledged_all().await;
    assert_eq!(
        echo.metric(r#"pushrider_publishes_total{kind="result",result="ack"}"#),
        5000.0
    );
    echo.stop().await;
    assert_eq!(vhost.depth("webpush.lane.default").await, 0);
}

/// Removes the header by which a quorum queue counts; RabbitMQ 4 leaves it out at first.
fn without_the_queues_own(properties: BasicProperties) -> BasicProperties {
    let headers = properties.headers().as_ref().map(|headers| {
        let ours = headers.inner().clone().into_iter();
        let ours = ours.filter(|(name, _)| name.as_str() != "x-delivery-count");
        FieldTable::from(ours.collect::<BTreeMap<_, _>>())
    });
    properties.with_headers(headers.unwrap_or_default())
}

#[tokio::test]
async fn a_publication_carries_its_properties_and_nothing_dangerous() {
    let vhost = Broker::shared().vhost();
    let echo = start(&vhost, |inbound| {
        let mut headers = FieldTable::default();
        headers.insert("x-pushrider-attempt".into(), AMQPValue::LongInt(3));
        let mut result = publication(
            inbound,
            Route::Results("delivery.shop.gone._".to_owned()),
            Kind::Result,
        );
        result.headers = headers;
        result.correlation_id = pushrider::message::EventId::parse("event-1");
        let parked = publication(inbound, Route::Quarantine, Kind::Quarantine);
        vec![result, parked]
    })
    .await;
    let producer = BasicProperties::default()
        .with_user_id("guest".into())
        .with_content_type("text/plain".into());
    vhost
        .publish_with("webpush.events", "shop.default", b"b", producer)
        .await;
    let taken = eventually(PATIENCE, async || vhost.take(RESULTS).await.ok_or(())).await;
    assert_eq!(taken.delivery.routing_key.as_str(), "delivery.shop.gone._");
    let expected = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_type("webpush.delivery.v1".into())
        .with_delivery_mode(2)
        .with_message_id("b".into())
        .with_correlation_id("event-1".into())
        .with_timestamp(1_700_000_000)
        .with_headers({
            let mut headers = FieldTable::default();
            headers.insert("x-pushrider-attempt".into(), AMQPValue::LongInt(3));
            headers
        });
    assert_eq!(without_the_queues_own(taken.delivery.properties), expected);
    let parked = eventually(PATIENCE, async || {
        vhost.take("webpush.quarantine").await.ok_or(())
    })
    .await;
    assert_eq!(*parked.delivery.properties.content_type(), None);
    assert_eq!(*parked.delivery.properties.expiration(), None);
    assert_eq!(parked.delivery.data, b"b");
    echo.stop().await;
}

#[tokio::test]
async fn what_waits_in_a_band_returns_to_its_own_lane_in_time() {
    let vhost = Broker::shared().vhost();
    let mut two_lanes = settings(vhost.url());
    let mut high = two_lanes.lanes[0].clone();
    high.name = crate::support::echo::name("high");
    two_lanes.lanes.push(high);
    let echo = Echo::start(two_lanes, |inbound| {
        let text = std::str::from_utf8(&inbound.body).unwrap();
        match inbound.source {
            Source::Lane => retry(inbound, Duration::from_millis(text.parse().unwrap())),
            Source::Due | Source::Undeliverable => {
                let key = format!("delivery.{}.accepted._", inbound.lane);
                route(inbound, Route::Results(key), Kind::Result)
            }
        }
    });
    echo.consumes().await;
    results(&vhost).await;
    for (lane, wait) in [("default", 30), ("high", 150), ("high", 390)] {
        let clock = SystemClock.now().mono;
        let body = wait.to_string();
        vhost
            .publish("webpush.events", &format!("shop.{lane}"), body.as_bytes())
            .await;
        let taken = eventually(PATIENCE, async || vhost.take(RESULTS).await.ok_or(())).await;
        let waited = clock.elapsed();
        assert_eq!(taken.delivery.data, body.as_bytes());
        assert_eq!(
            taken.delivery.routing_key.as_str(),
            format!("delivery.{lane}.accepted._")
        );
        assert!(waited >= Duration::from_millis(wait), "{wait}: {waited:?}");
    }
    echo.has_acknowledged_all().await;
    echo.stop().await;
}

#[tokio::test]
async fn a_scheduled_message_comes_back_early_and_is_sent_on() {
    let vhost = Broker::shared().vhost();
    let hops = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&hops);
    let due = Arc::new(OnceLock::new());
    let promised = Arc::clone(&due);
    let echo = start(&vhost, move |inbound| {
        let now = SystemClock.now().mono;
        let due = promised.get_or_init(|| now + Duration::from_secs(1));
        let left = due.saturating_duration_since(now);
        if left.is_zero() {
            return result(inbound);
        }
        counted.fetch_add(1, Ordering::Relaxed);
        let wait = Route::Delay {
            lane: inbound.lane.clone(),
            after: left,
            rounding: Rounding::Down,
        };
        route(inbound, wait, Kind::Retry)
    })
    .await;
    vhost
        .publish("webpush.events", "shop.default", b"later")
        .await;
    all_results(&vhost, 1).await;
    let late = due.get().unwrap().elapsed();
    assert!(late < Duration::from_millis(700), "{late:?} late");
    assert!(hops.load(Ordering::Relaxed) > 1);
    echo.stop().await;
}

#[tokio::test]
async fn a_refused_publication_is_published_again_and_its_event_stays_unacknowledged() {
    let vhost = Broker::shared().vhost();
    let echo = Echo::start(settings(vhost.url()), result);
    echo.consumes().await;
    // A classic queue refuses at its limit, a quorum queue a little later.
    let full = arguments(&[("x-max-length", "1"), ("x-overflow", "reject-publish")]);
    vhost.queue(RESULTS, full).await;
    vhost.bind(RESULTS, "webpush.results", "#").await;
    vhost
        .publish_numbered("webpush.events", "shop.default", 20)
        .await;
    let nacks = r#"pushrider_publishes_total{kind="result",result="nack"}"#;
    eventually(PATIENCE, async || {
        wanted(echo.metric(nacks), |&nacks| nacks >= 22.0)
    })
    .await;
    let open = echo.metric("pushrider_deliveries_in_flight");
    assert!(open >= 17.0, "{open} unacknowledged");
    assert_eq!(echo.metric("pushrider_broker_reconnects_total"), 0.0);
    assert_eq!(all_results(&vhost, 20).await, 0);
    echo.has_acknowledged_all().await;
    echo.stop().await;
}

/// The numbers of the channels with confirms in a virtual host.
fn confirming_channels(vhost: &Vhost) -> BTreeSet<String> {
    let columns = ["--quiet", "list_channels", "vhost", "confirm", "number"];
    let listed = Broker::shared().control(&columns);
    let confirming = format!("{}\ttrue\t", vhost.name());
    let numbers = listed
        .lines()
        .filter_map(|line| line.strip_prefix(&confirming));
    numbers.map(str::to_owned).collect()
}

// A channel that is opened right after a node has died can refuse all that goes to a quorum queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_channel_is_opened_for_what_was_refused() {
    let vhost = Broker::shared().vhost();
    let echo = Echo::start(settings(vhost.url()), result);
    echo.consumes().await;
    let full = arguments(&[("x-max-length", "1"), ("x-overflow", "reject-publish")]);
    vhost.queue(RESULTS, full).await;
    vhost.bind(RESULTS, "webpush.results", "#").await;
    let (exchange, key) = ("webpush.events", "shop.default");
    vhost.publish(exchange, key, b"the first result fits").await;
    echo.has_acknowledged_all().await;
    let before = block_in_place(|| confirming_channels(&vhost));
    vhost.publish_numbered(exchange, key, 5).await;
    eventually(PATIENCE, async || {
        let others = &block_in_place(|| confirming_channels(&vhost)) - &before;
        wanted(others, |others| !others.is_empty())
    })
    .await;
    assert_eq!(all_results(&vhost, 6).await, 0);
    echo.has_acknowledged_all().await;
    echo.stop().await;
}

#[tokio::test]
async fn a_result_queue_that_rejects_does_not_fill_the_one_beside_it() {
    let vhost = Broker::shared().vhost();
    let echo = start(&vhost, |inbound| {
        let app = match inbound.body.starts_with(b"audited") {
            true => "audited",
            false => "other",
        };
        let key = format!("delivery.{app}.accepted._");
        route(inbound, Route::Results(key), Kind::Result)
    })
    .await;
    let full = arguments(&[("x-max-length", "1"), ("x-overflow", "reject-publish")]);
    vhost.queue("audit", full).await;
    vhost
        .bind("audit", "webpush.results", "delivery.audited.#")
        .await;
    let named = |app| (0..100).map(move |n| format!("{app}{n}"));
    let (exchange, key) = ("webpush.events", "shop.default");
    vhost.publish_all(exchange, key, named("audited")).await;
    let waiting = || echo.metric("pushrider_publications_refused");
    eventually(PATIENCE, async || wanted(waiting(), |&n| n > 90.0)).await;
    let refused = waiting();
    // Seven attempts more take six seconds: 0.1 s, 0.2 s, 0.4 s and so on, or half of it.
    let nacks = r#"pushrider_publishes_total{kind="result",result="nack"}"#;
    eventually(PATIENCE, async || {
        wanted(echo.metric(nacks), |&nacks| nacks >= refused + 7.0)
    })
    .await;
    vhost.publish_all(exchange, key, named("other")).await;
    eventually(PATIENCE, async || {
        let accepted = r#"pushrider_publishes_total{kind="result",result="ack"}"#;
        wanted(echo.metric(accepted), |&n| n >= 200.0 - refused)
    })
    .await;
    let copies = vhost.take_texts(RESULTS).await.len();
    assert!(
        (200..220).contains(&copies),
        "{copies} copies of 200 results"
    );
    // What is settled behind one that is not is acknowledged a little later.
    eventually(PATIENCE, async || {
        let open = echo.metric("pushrider_deliveries_in_flight");
        wanted(open, |&open| open <= refused)
    })
    .await;
    assert_eq!(echo.metric("pushrider_broker_reconnects_total"), 0.0);
    // Once there is room, each comes once more, and then no more.
    eventually(PATIENCE, async || {
        vhost.take_texts("audit").await;
        wanted(waiting(), |&waiting| waiting == 0.0)
    })
    .await;
    echo.has_acknowledged_all().await;
    let again = vhost.take_texts(RESULTS).await.len();
    assert!(again < 300, "{again} copies more");
    echo.stop().await;
}

#[tokio::test]
async fn a_copy_for_a_queue_that_is_missing_keeps_its_event_and_only_it() {
    let vhost = Broker::shared().vhost();
    let lost = crate::support::echo::name("lost");
    let echo = start(&vhost, move |inbound| {
        let number: usize = std::str::from_utf8(&inbound.body).unwrap().parse().unwrap();
        match (inbound.source, number % 2) {
            (Source::Lane, 0) => route(inbound, Route::Due(lost.clone()), Kind::Chunk),
            _ => result(inbound),
        }
    })
    .await;
    vhost
        .publish_numbered("webpush.events", "shop.default", 100)
        .await;
    let returned = r#"pushrider_publishes_total{kind="chunk",result="returned"}"#;
    eventually(PATIENCE, async || {
        wanted(echo.metric(returned), |&returned| returned >= 54.0)
    })
    .await;
    assert_eq!(all_results(&vhost, 50).await, 0);
    let taken = r#"pushrider_publishes_total{kind="chunk",result="ack"}"#;
    assert_eq!(echo.metric(taken), 0.0);
    eventually(PATIENCE, async || {
        wanted(echo.metric("pushrider_deliveries_in_flight"), |&n| {
            n == 50.0
        })
    })
    .await;
    vhost
        .queue("webpush.due.lost", arguments(&[("x-queue-type", "quorum")]))
        .await;
    echo.has_acknowledged_all().await;
    assert_eq!(vhost.take_texts("webpush.due.lost").await.len(), 50);
    echo.stop().await;
}

#[tokio::test]
async fn a_stop_settles_what_was_answered_and_returns_the_rest() {
    let vhost = Broker::shared().vhost();
    let echo = start(&vhost, result).await;
    echo.hold(true);
    vhost
        .publish_numbered("webpush.events", "shop.default", 1000)
        .await;
    echo.has_seen(1).await;
    echo.stop().await;
    let done = vhost.take_texts(RESULTS).await;
    assert!(!done.is_empty() && done.len() < 1000, "{}", done.len());
    let rest = eventually(PATIENCE, async || {
        let rest = vhost.depth("webpush.lane.default").await as usize;
        wanted((rest, done.len()), |(rest, done)| rest + done == 1000)
    })
    .await;
    assert!(rest.0 > 0);
}

#[tokio::test]
async fn what_expired_in_a_lane_is_delivered_as_undeliverable() {
    let vhost = Broker::shared().vhost();
    start(&vhost, result).await.stop().await;
    let soon = BasicProperties::default().with_expiration("20".into());
    vhost
        .publish_with("webpush.events", "shop.default", b"too late", soon)
        .await;
    eventually(PATIENCE, async || {
        wanted(vhost.depth("webpush.undeliverable").await, |&n| n == 1)
    })
    .await;
    let echo = Echo::start(settings(vhost.url()), |inbound| match inbound.source {
        Source::Undeliverable => result(inbound),
        Source::Lane | Source::Due => Vec::new(),
    });
    eventually(PATIENCE, async || {
        wanted(vhost.take_texts(RESULTS).await, |all| all == &["too late"])
    })
    .await;
    echo.has_acknowledged_all().await;
    echo.stop().await;
}

#[tokio::test]
async fn a_slow_event_does_not_hold_up_the_acknowledgements_behind_it() {
    let vhost = Broker::shared().vhost();
    let echo = Echo::start(settings(vhost.url()), |inbound| {
        if inbound.body.as_ref() == b"0" && inbound.source == Source::Lane {
            let missing = Route::Due(crate::support::echo::name("missing"));
            return route(inbound, missing, Kind::Chunk);
        }
        result(inbound)
    });
    echo.consumes().await;
    results(&vhost).await;
    vhost
        .publish_numbered("webpush.events", "shop.default", 600)
        .await;
    all_results(&vhost, 599).await;
    eventually(PATIENCE, async || {
        wanted(echo.metric("pushrider_deliveries_in_flight"), |&n| n == 1.0)
    })
    .await;
    echo.stop().await;
    eventually(PATIENCE, async || {
        wanted(vhost.depth("webpush.lane.default").await, |&n| n == 1)
    })
    .await;
}

#[tokio::test]
async fn a_slow_network_loses_nothing() {
    let vhost = Broker::shared().vhost();
    let proxy = TcpProxy::to(vhost.port()).await;
    proxy.delay(Duration::from_millis(20));
    let echo = Echo::start(settings(vhost.url_of("guest", proxy.port())), result);
    echo.consumes().await;
    results(&vhost).await;
    vhost
        .publish_numbered("webpush.events", "shop.default", 500)
        .await;
    assert_eq!(all_results(&vhost, 500).await, 0);
    echo.has_acknowledged_all().await;
    assert_eq!(echo.metric("pushrider_broker_reconnects_total"), 0.0);
    echo.stop().await;
}
