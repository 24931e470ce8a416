//! Lanes: what one of them carries never delays another.
//!
//! Urgent events go to two daemons in turn, of which only one has a full bulk lane besides. So the
//! speed of the machine, which both and all their company share, drops out of the comparison.

use std::time::{Duration, SystemTime};

use pushrider::clock::{Clock, SystemClock};
use pushrider::sandbox;
use pushrider::sandbox::SubscriptionJson;
use serde_json::{Value, json};
use tokio::time::interval;

use crate::support::broker::RUNNER;
use crate::support::daemon::Daemon;
use crate::support::env::{TestEnv, event, is_delivery};
use crate::support::eventually;

/// How many urgent events are measured, and how far apart they are published.
const URGENT: usize = 200;
const PACE: Duration = Duration::from_millis(20);

/// How many subscriptions the bulk lane's events are for.
const BACKLOG_OF_BULK: usize = 100;

/// How many recipients the bulk lane's events have: more than the urgent ones leave time for.
const BULK: u64 = 3000;

/// Twenty places for requests that take a tenth of a second are 200 a second: in one line, those of
/// the bulk lane that a daemon has in hand would keep an urgent event waiting for 2.5 s at the
/// least. The waits are long enough to see that.
const NARROW: &str = "push.per_origin = 20
    push.max_wait = '10s'
    shutdown.grace = '40s'
    lanes.bulk.prefetch = 500
    lanes.bulk.due_prefetch = 10
    lanes.high.prefetch = 100
    log.filter = 'info'";

/// An urgent event waits for the first of twenty places to become free, and finds a broker and a
/// daemon at work.
const SLACK: Duration = Duration::from_millis(150);

/// A daemon with two lanes, and the backlog of its bulk lane.
struct Road {
    env: TestEnv,
    backlog: Vec<SubscriptionJson>,
}

impl Road {
    async fn open() -> Self {
        let settings = sandbox::Settings {
            decrypt: false,
            keep: 20_000,
            ..Default::default()
        };
        let env = TestEnv::open_with(settings, NARROW).await;
        // Each takes another time to answer, or all places would become free at once.
        let slow = |n| json!({ "status": 201, "delay": format!("{}ms", 50 + n) });
        let backlog = (0..BACKLOG_OF_BULK)
            .map(|n| env.subscribe(slow(n)))
            .collect();
        Self { env, backlog }
    }

    /// Publishes to the bulk lane without waiting for the confirm of one before the next.
    async fn fill(&self, events: impl Iterator<Item = Value>) {
        let bodies = events.map(|event| event.to_string());
        let vhost = &self.env.vhost;
        vhost
            .publish_all("webpush.events", "shop.bulk", bodies)
            .await;
    }

    /// Publishes an urgent event; returns for whom, and when that was.
    async fn send(&self, id: &str) -> (SubscriptionJson, SystemTime) {
        let one = self.env.subscribe(json!({}));
        let body = event(id, &one, json!({})).to_string();
        let at = SystemClock.now().wall;
        let vhost = &self.env.vhost;
        vhost
            .publish("webpush.events", "shop.high", body.as_bytes())
            .await;
        (one, at)
    }

    /// Waits until the push service has a message for `one`, and returns since when.
    async fn arrival(&self, one: &SubscriptionJson) -> SystemTime {
        eventually(Duration::from_secs(30), async || {
            let messages = self.env.sandbox.messages(Some(&one.id));
            messages.first().map(|it| it.received_at).ok_or("not there")
        })
        .await
    }
}

/// Sends urgent events to both in turn and returns how long 99 of 100 took at most to arrive.
async fn p99(roads: [&Road; 2], name: &str) -> [Duration; 2] {
    let mut sent = [Vec::new(), Vec::new()];
    let mut rounding = interval(PACE);
    for n in 0..URGENT {
        rounding.tick().await;
        for (road, sent) in roads.iter().zip(&mut sent) {
            sent.push(road.send(&format!("{name}{n}")).await);
        }
    }
    let mut worst = [Duration::ZERO; 2];
    for ((road, sent), worst) in roads.iter().zip(sent).zip(&mut worst) {
        let mut took = Vec::new();
        for (one, at) in sent {
            took.push(road.arrival(&one).await.duration_since(at).unwrap());
        }
        took.sort();
        let percentile = |p: usize| took[(took.len() - 1) * p / 100];
        let [p50, p99, max] = [50, 99, 100].map(percentile);
        println!("{name}: p50 {p50:?}, p99 {p99:?}, max {max:?}");
        *worst = p99;
    }
    worst
}

/// Fills the bulk lane of one of two daemons and compares their urgent lanes.
async fn compare(busy: &Road, quiet: &Road, bulk: impl Iterator<Item = Value>) {
    let [idle, _] = p99([busy, quiet], "idle").await;
    busy.fill(bulk).await;
    let before = busy.env.sandbox.stats().requests;
    let [beside, alone] = p99([busy, quiet], "under load").await;
    let bulk = busy.env.sandbox.stats().requests - before - URGENT as u64;
    println!("{bulk} of the bulk lane meanwhile");
    assert!(
        (100..BULK).contains(&bulk),
        "{bulk} of the bulk lane meanwhile: not busy to the end"
    );
    let bound = idle.max(alone) * 2 + SLACK;
    assert!(
        beside < bound,
        "{beside:?} under load; {idle:?} before, {alone:?} at the other daemon"
    );
}

#[tokio::test]
async fn a_full_bulk_lane_of_events_does_not_delay_the_urgent_one() {
    let (busy, quiet) = (Road::open().await, Road::open().await);
    let backlog = busy.backlog.iter().cycle().zip(0..BULK);
    let bulk = backlog.map(|(one, n)| event(&format!("b{n}"), one, json!({})));
    compare(&busy, &quiet, bulk).await;
}

#[tokio::test]
async fn campaigns_in_the_bulk_lane_do_not_delay_the_urgent_one() {
    let (busy, quiet) = (Road::open().await, Road::open().await);
    let recipients: Vec<_> = busy
        .backlog
        .iter()
        .map(|it| json!({ "subscription": it }))
        .collect();
    let campaigns = 0..BULK / BACKLOG_OF_BULK as u64;
    let bulk = campaigns.map(|n| json!({ "id": format!("c{n}"), "recipients": recipients }));
    compare(&busy, &quiet, bulk).await;
}

#[tokio::test]
async fn one_lane_is_spread_over_several_queues_by_its_producers() {
    const EVENTS: usize = 400;
    let shards = ["bulk-1", "bulk-2", "bulk-3", "bulk-4"];
    let sections = shards.map(|shard| format!("lanes.{shard} = {{}}"));
    let more = format!("delay.bands = ['50ms', '1s']\n{}", sections.join("\n"));
    let mut env = TestEnv::open(&more).await;
    env.daemon.stop().await;
    let fine = env.subscribe(json!({}));
    let again = json!([{ "status": 503, "times": 5 }, { "status": 201 }]);
    let shaky = env.subscribe(again);
    for n in 0..EVENTS {
        let to = if n < 40 { &shaky } else { &fine };
        let key = format!("shop.{}", shards[n % shards.len()]);
        let body = event(&format!("e{n}"), to, json!({})).to_string();
        let vhost = &env.vhost;
        vhost.publish("webpush.events", &key, body.as_bytes()).await;
    }
    for shard in shards {
        let depth = env.vhost.depth(&format!("webpush.lane.{shard}")).await;
        assert_eq!(depth, 100, "{shard}");
    }
    assert_eq!(env.vhost.depth("webpush.lane.default").await, 0);

    // The permissions of a user who declares nothing need no change for new lanes.
    let url = env.vhost.url_of(RUNNER, env.vhost.port());
    let passive = format!("{more}\nbroker.declare = 'passive'");
    env.daemon = Daemon::new(&url, &env.sandbox, &passive);
    env.daemon.start().await;
    let results = env.gather(EVENTS, is_delivery).await;
    assert!(results.iter().all(|it| it["outcome"] == "accepted"));
    env.settled().await;
    assert_eq!(env.outcomes().len(), EVENTS);
    assert_eq!(env.results.len(), EVENTS, "each once");
}
