//! Probes of the delay bands: whether what waits comes back.

use std::time::Duration;

use pushrider::sandbox;

use crate::support::broker::Broker;
use crate::support::daemon::Daemon;
use crate::support::env::TestEnv;
use crate::support::vhost::arguments;
use crate::support::{eventually, wanted};

const PATIENCE: Duration = Duration::from_secs(20);

const RETURNED: &str = "pushrider_delay_probes_returned_total";
const LOST: &str = "pushrider_delay_probes_lost_total";
const AGE: &str = "pushrider_delay_probe_age_seconds";

/// Probes that are overdue after a little more than a second.
const MORE: &str = "delay.probe = true\ndelay.probe_interval = '100ms'";

/// Waits until a metric of a band is at least so high.
async fn reaches(daemon: &Daemon, name: &str, band: &str, least: f64) {
    let label = format!("band={band:?}");
    eventually(PATIENCE, async || {
        wanted(daemon.metric(name, &label).await, |seen| *seen >= least)
    })
    .await;
}

#[tokio::test]
async fn probes_come_back_and_reach_neither_the_pipeline_nor_the_results() {
    let more = format!("delay.bands = ['50ms', '400ms']\n{MORE}");
    let mut env = TestEnv::open(&more).await;
    reaches(&env.daemon, RETURNED, "50ms", 5.0).await;
    reaches(&env.daemon, RETURNED, "400ms", 2.0).await;
    assert_eq!(env.daemon.metric(LOST, "").await, 0.0);
    assert_eq!(
        env.daemon.metric("pushrider_delay_band_seconds", "").await,
        0.45
    );
    assert_eq!(env.daemon.metric("pushrider_messages_total", "").await, 0.0);
    env.daemon.stop().await;
    for queue in ["test.results", "webpush.quarantine", "webpush.lane.default"] {
        assert_eq!(env.vhost.depth(queue).await, 0, "{queue}");
    }
    let left = env.vhost.depth("webpush.due.default").await;
    assert!(left <= 2, "{left} probes are left");
}

#[tokio::test]
async fn probes_that_do_not_come_back_grow_old_and_are_counted_as_lost() {
    let vhost = Broker::shared().vhost();
    // What expires in it goes nowhere.
    let leaking = arguments(&[("x-queue-type", "quorum"), ("x-message-ttl", "50")]);
    vhost.queue("webpush.delay.50ms", leaking).await;
    let more = format!("delay.bands = ['50ms', '100ms', '200ms']\n{MORE}");
    let url = vhost.url();
    let mut env = TestEnv::open_at(vhost, &url, sandbox::Settings::default(), &more).await;
    // RabbitMQ 4 may end a connection on which something is published to a queue that is being deleted.
    env.daemon.stop().await;
    env.vhost.delete("webpush.delay.200ms").await;
    env.daemon.set("broker.declare = 'none'");
    env.daemon.start().await;
    for band in ["50ms", "200ms"] {
        reaches(&env.daemon, LOST, band, 2.0).await;
        reaches(&env.daemon, AGE, band, 2.0).await;
    }
    reaches(&env.daemon, RETURNED, "100ms", 5.0).await;
    let well = env.daemon.metric(LOST, "band=\"100ms\"").await;
    assert_eq!(well, 0.0);
    assert!(env.daemon.metric(AGE, "band=\"100ms\"").await < 2.0);
    let log = env.daemon.log();
    for said in [
        "no queue takes it",
        "the probe of a delay band did not come back",
    ] {
        assert!(log.contains(said), "{said}");
    }
    let reconnects = env.daemon.metric("pushrider_broker_reconnects_total", "");
    assert_eq!(reconnects.await, 0.0);
}

#[tokio::test]
async fn a_probe_that_is_not_confirmed_grows_old_and_holds_up_no_other() {
    let broker = Broker::own();
    let vhost = broker.vhost();
    let (url, name) = (vhost.url(), vhost.name().to_owned());
    let more = format!("delay.bands = ['50ms', '100ms']\nbroker.confirm_timeout = '500ms'\n{MORE}");
    let env = TestEnv::open_at(vhost, &url, sandbox::Settings::default(), &more).await;
    reaches(&env.daemon, RETURNED, "50ms", 2.0).await;
    // A queue that answers nothing, as one whose majority is away.
    let queue = |does: &str| {
        let call = format!("sys:{does}('{name}_webpush.delay.50ms').");
        broker.control(&["eval", &call])
    };
    queue("suspend");
    reaches(&env.daemon, AGE, "50ms", 3.0).await;
    let others = env.daemon.metric(RETURNED, "band=\"100ms\"").await;
    reaches(&env.daemon, RETURNED, "100ms", others + 2.0).await;
    let log = env.daemon.log();
    assert!(log.contains("not confirmed within 500ms"), "{log}");
    let reconnects = env.daemon.metric("pushrider_broker_reconnects_total", "");
    assert_eq!(reconnects.await, 0.0);
    queue("resume");
    eventually(PATIENCE, async || {
        let age = env.daemon.metric(AGE, "band=\"50ms\"").await;
        wanted(age, |age| *age < 1.0)
    })
    .await;
}

#[tokio::test]
async fn a_probe_that_comes_back_to_another_daemon_is_not_taken_for_lost() {
    let more = format!("delay.bands = ['50ms']\n{MORE}");
    let env = TestEnv::open(&more).await;
    let mut second = Daemon::new(&env.vhost.url(), &env.sandbox, &more);
    second.start().await;
    for daemon in [&env.daemon, &second] {
        let now = daemon.metric(RETURNED, "").await;
        reaches(daemon, RETURNED, "50ms", now + 20.0).await;
    }
    for daemon in [&env.daemon, &second] {
        assert_eq!(daemon.metric(LOST, "").await, 0.0);
        assert!(daemon.metric(AGE, "").await < 2.0);
    }
}
