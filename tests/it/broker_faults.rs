//! What breaks, and that nothing is lost by it.

use std::time::Duration;

use pushrider::broker::{Declare, Settings, Source};
use pushrider::clock::{Clock, SystemClock};
use pushrider::wire::Kind;

use crate::support::broker::Broker;
use crate::support::echo::{Echo, RESULTS, all_results, publication, result, results, settings};
use crate::support::proxy::{TcpProxy, Way};
use crate::support::vhost::arguments;
use crate::support::{eventually, wanted};

const PATIENCE: Duration = Duration::from_secs(60);

const RECONNECTS: &str = "pushrider_broker_reconnects_total";

async fn reconnected(echo: &Echo, times: f64) {
    eventually(PATIENCE, async || {
        wanted(echo.metric(RECONNECTS), |&n| n >= times)
    })
    .await;
}

#[tokio::test]
async fn a_cut_before_the_confirm_repeats_and_loses_nothing() {
    let vhost = Broker::shared().vhost();
    let proxy = TcpProxy::to(vhost.port()).await;
    let echo = Echo::start(settings(vhost.url_of("guest", proxy.port())), result);
    echo.consumes().await;
    results(&vhost).await;
    echo.hold(true);
    vhost
        .publish_numbered("webpush.events", "shop.default", 50)
        .await;
    eventually(PATIENCE, async || {
        let taken = echo.metric(r#"pushrider_deliveries_total{redelivered="false"}"#);
        wanted(taken, |&taken| taken == 50.0)
    })
    .await;
    proxy.freeze(Way::Down, true);
    echo.hold(false);
    eventually(PATIENCE, async || {
        wanted(vhost.depth(RESULTS).await, |&depth| depth == 50)
    })
    .await;
    proxy.cut();
    proxy.freeze(Way::Down, false);
    // None was acknowledged, so each comes once more, and no more than that.
    eventually(PATIENCE, async || {
        wanted(vhost.depth(RESULTS).await, |&depth| depth == 100)
    })
    .await;
    assert_eq!(all_results(&vhost, 50).await, 50);
    echo.has_acknowledged_all().await;
    assert_eq!(echo.metric(RECONNECTS), 1.0);
    echo.stop().await;
    assert_eq!(vhost.depth("webpush.lane.default").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_in_the_middle_of_the_flow_lose_nothing() {
    let vhost = Broker::shared().vhost();
    let proxy = TcpProxy::to(vhost.port()).await;
    let echo = Echo::start(settings(vhost.url_of("guest", proxy.port())), result);
    echo.consumes().await;
    results(&vhost).await;
    for cut in 1..=3 {
        echo.hold(true);
        for number in 0..100 {
            let body = format!("{cut}-{number}");
            vhost
                .publish("webpush.events", "shop.default", body.as_bytes())
                .await;
        }
        let before = proxy.bytes(Way::Up);
        echo.hold(false);
        eventually(PATIENCE, async || {
            wanted(proxy.bytes(Way::Up), |&bytes| bytes > before + 1000)
        })
        .await;
        proxy.cut();
        reconnected(&echo, f64::from(cut)).await;
    }
    all_results(&vhost, 300).await;
    echo.has_acknowledged_all().await;
    echo.stop().await;
    assert_eq!(vhost.depth("webpush.undeliverable").await, 0);
}

#[tokio::test]
async fn a_consumer_that_the_broker_cancels_is_a_reason_to_begin_again() {
    let vhost = Broker::shared().vhost();
    let echo = Echo::start(settings(vhost.url()), result);
    echo.consumes().await;
    results(&vhost).await;
    vhost.delete("webpush.lane.default").await;
    reconnected(&echo, 1.0).await;
    echo.consumes().await;
    vhost
        .publish("webpush.events", "shop.default", b"after")
        .await;
    all_results(&vhost, 1).await;
    echo.stop().await;
}

#[tokio::test]
async fn after_the_first_success_a_missing_queue_is_waited_for() {
    let vhost = Broker::shared().vhost();
    let echo = Echo::start(settings(vhost.url()), result);
    echo.consumes().await;
    echo.stop().await;
    let passive = Settings {
        declare: Declare::Passive,
        ..settings(vhost.url())
    };
    let echo = Echo::start(passive, result);
    echo.consumes().await;
    vhost.delete("webpush.due.default").await;
    echo.is(|state| {
        state
            .problem
            .as_deref()
            .is_some_and(|problem| problem.contains("cannot declare queue webpush.due.default"))
    })
    .await;
    vhost
        .queue(
            "webpush.due.default",
            arguments(&[("x-queue-type", "quorum")]),
        )
        .await;
    echo.consumes().await;
    echo.stop().await;
}

#[tokio::test]
async fn a_message_that_breaks_connections_ends_in_quarantine_alone() {
    let vhost = Broker::shared().vhost();
    let proxy = TcpProxy::to(vhost.port()).await;
    let low_limit = Settings {
        delivery_limit: 3,
        ..settings(vhost.url_of("guest", proxy.port()))
    };
    let echo = Echo::start(low_limit, result);
    echo.consumes().await;
    results(&vhost).await;
    proxy.cut_at(b"poison");
    for number in 0..200 {
        let body = match number {
            100 => "poison".to_owned(),
            number => number.to_string(),
        };
        vhost
            .publish("webpush.events", "shop.default", body.as_bytes())
            .await;
    }
    all_results(&vhost, 199).await;
    eventually(PATIENCE, async || {
        wanted(vhost.depth("webpush.quarantine").await, |&depth| depth == 1)
    })
    .await;
    vhost
        .publish("webpush.events", "shop.default", b"after")
        .await;
    eventually(PATIENCE, async || {
        wanted(vhost.take_texts(RESULTS).await, |all| {
            all.contains(&"after".to_owned())
        })
    })
    .await;
    assert_eq!(
        vhost.depth("webpush.quarantine").await,
        1,
        "no innocent went along"
    );
    echo.stop().await;
}

#[tokio::test]
async fn a_broker_that_stops_in_good_order_is_waited_for() {
    let broker = Broker::own();
    let vhost = broker.vhost();
    let echo = Echo::start(settings(vhost.url()), result);
    echo.consumes().await;
    broker.stop();
    echo.is(|state| !state.connected && state.problem.is_some())
        .await;
    broker.restart();
    echo.consumes().await;
    let vhost = vhost.again();
    results(&vhost).await;
    vhost
        .publish("webpush.events", "shop.default", b"after")
        .await;
    all_results(&vhost, 1).await;
    echo.stop().await;
}

#[tokio::test]
async fn a_frozen_broker_is_noticed_by_its_heartbeat() {
    let broker = Broker::own();
    let vhost = broker.vhost();
    let fast = Settings {
        heartbeat: Duration::from_secs(1),
        ..settings(vhost.url())
    };
    let echo = Echo::start(fast, result);
    echo.consumes().await;
    results(&vhost).await;
    broker.freeze();
    echo.is(|state| !state.connected).await;
    broker.thaw();
    echo.consumes().await;
    let vhost = vhost.again();
    vhost
        .publish("webpush.events", "shop.default", b"after")
        .await;
    all_results(&vhost, 1).await;
    echo.stop().await;
}

#[tokio::test]
async fn a_blocked_broker_shows_and_goes_on_when_it_may() {
    let broker = Broker::own();
    let vhost = broker.vhost();
    let impatient = Settings {
        confirm_timeout: Duration::from_secs(2),
        // `rabbitmqctl` takes the CPU from the broker for a while.
        heartbeat: Duration::from_secs(20),
        ..settings(vhost.url())
    };
    let echo = Echo::start(impatient, result);
    echo.consumes().await;
    results(&vhost).await;
    vhost
        .publish_numbered("webpush.events", "shop.default", 300)
        .await;
    all_results(&vhost, 300).await;
    echo.hold(true);
    vhost
        .publish_numbered("webpush.events", "shop.default", 200)
        .await;
    echo.has_seen(301).await;
    broker.block();
    echo.hold(false);
    echo.is(|state| state.blocked && state.connected).await;
    // Longer than the confirm time-out: a block excuses what is not confirmed.
    let vhost = vhost.again();
    let since = SystemClock.now().mono;
    eventually(PATIENCE, async || {
        wanted(since.elapsed(), |blocked| {
            *blocked >= Duration::from_secs(4)
        })
    })
    .await;
    assert_eq!(vhost.depth(RESULTS).await, 0);
    broker.unblock();
    echo.is(|state| !state.blocked).await;
    all_results(&vhost, 200).await;
    echo.has_acknowledged_all().await;
    assert_eq!(echo.metric(RECONNECTS), 0.0, "{:?}", echo.problems());
    echo.stop().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_broker_that_blocks() {
    let broker = Broker::own();
    let vhost = broker.vhost();
    let echo = Echo::start(settings(vhost.url()), result);
    echo.consumes().await;
    results(&vhost).await;
    vhost.publish("webpush.events", "shop.default", b"0").await;
    all_results(&vhost, 1).await;
    echo.hold(true);
    vhost
        .publish_numbered("webpush.events", "shop.default", 100)
        .await;
    echo.has_seen(2).await;
    broker.block();
    echo.hold(false);
    echo.is(|state| state.blocked).await;
    let since = SystemClock.now().mono;
    echo.stop().await;
    assert!(since.elapsed() < Duration::from_secs(8), "{since:?}");
}

#[tokio::test]
async fn an_answer_for_an_older_generation_is_dropped() {
    let vhost = Broker::shared().vhost();
    let proxy = TcpProxy::to(vhost.port()).await;
    let url = vhost.url_of("guest", proxy.port());
    let echo = Echo::start(settings(url), |inbound| match inbound.source {
        Source::Lane if inbound.redelivered => result(inbound),
        Source::Lane | Source::Due | Source::Undeliverable => {
            let key = "delivery.test.failed._".to_owned();
            vec![publication(
                inbound,
                pushrider::broker::Route::Results(key),
                Kind::Result,
            )]
        }
    });
    echo.consumes().await;
    results(&vhost).await;
    echo.hold(true);
    vhost
        .publish("webpush.events", "shop.default", b"one")
        .await;
    echo.has_seen(1).await;
    proxy.cut();
    reconnected(&echo, 1.0).await;
    echo.consumes().await;
    echo.hold(false);
    let taken = eventually(PATIENCE, async || vhost.take(RESULTS).await.ok_or(())).await;
    assert_eq!(
        taken.delivery.routing_key.as_str(),
        "delivery.test.accepted._"
    );
    echo.has_acknowledged_all().await;
    assert!(vhost.take(RESULTS).await.is_none());
    echo.stop().await;
}
