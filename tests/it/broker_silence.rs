//! What the broker does not say, on connections that are otherwise well.

use std::time::Duration;

use lapin::{Connection, ConnectionProperties};
use pushrider::broker::Settings;

use crate::support::broker::Broker;
use crate::support::echo::{Echo, all_results, result, results, settings};
use crate::support::proxy::{TcpProxy, Way};
use crate::support::{eventually, wanted};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_confirm_that_never_comes_ends_the_generation() {
    let vhost = Broker::shared().vhost();
    let proxy = TcpProxy::to(vhost.port()).await;
    let impatient = Settings {
        confirm_timeout: Duration::from_secs(1),
        heartbeat: Duration::from_secs(60),
        ..settings(vhost.url_of("guest", proxy.port()))
    };
    let echo = Echo::start(impatient, result);
    echo.consumes().await;
    results(&vhost).await;
    echo.hold(true);
    vhost
        .publish("webpush.events", "shop.default", b"one")
        .await;
    echo.has_seen(1).await;
    proxy.freeze(Way::Down, true);
    echo.hold(false);
    echo.is(|state| {
        let problem = state.problem.as_deref();
        problem.is_some_and(|problem| problem.contains("not confirmed within 1s"))
    })
    .await;
    proxy.cut();
    proxy.freeze(Way::Down, false);
    all_results(&vhost, 1).await;
    echo.has_acknowledged_all().await;
    echo.stop().await;
}

#[tokio::test]
async fn a_channel_that_is_never_opened_ends_the_generation() {
    let vhost = Broker::shared().vhost();
    let proxy = TcpProxy::to(vhost.port()).await;
    let url = vhost.url_of("guest", proxy.port());
    proxy.delay(Duration::from_millis(100));
    let connection = Connection::connect(&url, ConnectionProperties::default());
    let connection = connection.await.unwrap();
    let handshake = proxy.bytes(Way::Down);
    let patient = Settings {
        heartbeat: Duration::from_secs(60),
        ..settings(url)
    };
    let echo = Echo::start(patient, result);
    // All its connections are there, one for each queue and one to publish, and the first answer on
    // a channel is on its way.
    eventually(PATIENCE, async || {
        wanted(proxy.bytes(Way::Down), |&bytes| bytes >= 5 * handshake)
    })
    .await;
    proxy.freeze(Way::Down, true);
    echo.is(|state| {
        let problem = state.problem.as_deref();
        problem.is_some_and(|problem| problem.contains("no answer to channel.open within 10s"))
    })
    .await;
    proxy.delay(Duration::ZERO);
    proxy.freeze(Way::Down, false);
    echo.consumes().await;
    echo.stop().await;
    connection.close(200, "done".into()).await.unwrap();
}

/// Starts on a healthy connection that loses one answer, and waits until it consumes all the same.
async fn one_lost_answer(name: &str, class: u8, method: u8) {
    let vhost = Broker::shared().vhost();
    let proxy = TcpProxy::to(vhost.port()).await;
    proxy.lose(class, method);
    let echo = Echo::start(settings(vhost.url_of("guest", proxy.port())), result);
    // Only a consumer that has something to do is subscribed again.
    eventually(PATIENCE, async || {
        wanted(
            proxy.has_lost() || echo.state.borrow().lanes > 0,
            |&started| started,
        )
    })
    .await;
    if !proxy.has_lost() {
        results(&vhost).await;
        vhost
            .publish_numbered("webpush.events", "shop.default", 20)
            .await;
    }
    let problem = format!("no answer to {name} within 10s");
    eventually(PATIENCE, async || {
        wanted(echo.problems(), |all| {
            all.iter().any(|it| it.contains(&problem))
        })
    })
    .await;
    assert!(proxy.has_lost());
    echo.consumes().await;
    echo.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_lost_on_a_healthy_connection_ends_the_generation() {
    futures_util::join!(
        one_lost_answer("channel.open", 20, 11),
        one_lost_answer("confirm.select", 85, 11),
        one_lost_answer("exchange.declare", 40, 11),
        one_lost_answer("queue.declare", 50, 11),
        one_lost_answer("queue.bind", 50, 21),
        one_lost_answer("basic.qos", 60, 11),
        one_lost_answer("basic.consume", 60, 21),
        one_lost_answer("basic.cancel", 60, 31),
    );
}
