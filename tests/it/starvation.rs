//! One service's trouble is its own: the others' events flow, its own wait and lose nothing.
//!
//! Two origins share a daemon. One is sick, each time in another way, while the other gets a stream
//! of events; then the sick one recovers. How fast the stream flows is compared with the same
//! stream through the same daemon before anything was sick, so that the speed of the machine drops
//! out of the comparison.

use std::time::Duration;

use pushrider::clock::{Clock, SystemClock};
use pushrider::sandbox;
use pushrider::sandbox::{Script, SubscriptionJson};
use serde_json::{Value, json};

use crate::support::house::{House, event, is_delivery};
use crate::support::{eventually, wanted};

/// Events for the one that is well, and for the sick one.
const STREAM: usize = 300;
const BACKLOG: usize = 120;

/// A daemon whose requests are few, so that a sick service could take the room of all.
const TIGHT: &str = "push.in_flight = 40
    push.per_origin = 20
    push.timeout = '1s'
    push.max_wait = '100ms'
    gate.failures = 5
    gate.open = '500ms'
    gate.open_cap = '1s'
    retry.max_attempts = 20";

#[tokio::test]
async fn a_service_that_stalls_keeps_nobody_else_waiting() {
    let mut street = Street::open(json!({ "fault": "hang" })).await;
    street.suffers().await;
    assert!(street.turns("open").await > 0.0);
    street.recovers().await;
}

#[tokio::test]
async fn a_service_that_is_down_keeps_nobody_else_waiting() {
    let mut street = Street::open(json!({ "status": 503 })).await;
    street.suffers().await;
    assert!(street.turns("open").await > 0.0);
    street.recovers().await;
    let log = street.house.daemon.log();
    let origin = &street.house.sandbox.origins()[0];
    for what in ["breaker opened", "breaker half-open", "breaker closed"] {
        let told = |line: &str| line.contains(what) && line.contains(origin);
        assert!(log.lines().any(told), "{what}: {log}");
    }
}

#[tokio::test]
async fn a_service_that_throttles_is_left_alone_for_as_long_as_it_asks() {
    let throttled = json!({ "status": 429, "headers": { "Retry-After": "3" } });
    let mut street = Street::open(throttled).await;
    street.suffers().await;
    street.recovers().await;
    assert_eq!(street.turns("open").await, 0.0, "a throttle is no trouble");
    let log = street.house.daemon.log();
    assert!(log.contains("\"paused\""), "{log}");
}

struct Street {
    house: House,
    sick: Vec<SubscriptionJson>,
    well: SubscriptionJson,
}

impl Street {
    async fn open(sickness: Value) -> Self {
        let settings = sandbox::Settings {
            listen: vec!["127.0.0.1:0".parse().unwrap(); 2],
            keep: 10_000,
            ..Default::default()
        };
        let house = House::open_with(settings, TIGHT).await;
        let sick = (0..BACKLOG).map(|_| house.subscribe_at(0, sickness.clone()));
        Self {
            sick: sick.collect(),
            well: house.subscribe_at(1, json!({})),
            house,
        }
    }

    /// Sends the stream alone, then beside a sick service, of which it must notice nothing.
    async fn suffers(&mut self) {
        self.stream("first").await;
        let alone = self.stream("alone").await;
        self.fill().await;
        let beside = self.stream("beside").await;
        assert_as_fast(alone, beside);
    }

    /// Lets the sick service recover: its events arrive, and few of them have been spent on it.
    async fn recovers(&mut self) {
        let failed = self.refused();
        assert!(
            0 < failed && failed < BACKLOG / 2,
            "{failed} were sent in vain"
        );
        let fine = Script::from_json(json!({})).unwrap();
        for one in &self.sick {
            assert!(self.house.sandbox.play(&one.id, fine.clone()));
        }
        let results = self.all_arrive().await;
        let attempts: u64 = results
            .iter()
            .filter_map(|it| it["attempts"].as_u64())
            .sum();
        let sent = BACKLOG + self.refused();
        assert_eq!(attempts, sent as u64, "waiting uses up no attempt");
        for one in &self.sick {
            assert_eq!(self.taken(one), 1, "{}", one.id);
        }
        let open = self
            .house
            .daemon
            .metric("pushrider_breakers_open", "")
            .await;
        assert_eq!(open, 0.0);
    }

    /// Sends a stream to the service that is well and returns how long it took.
    async fn stream(&mut self, prefix: &str) -> Duration {
        let begun = SystemClock.now().mono;
        for n in 0..STREAM {
            let event = event(&format!("{prefix}{n}"), &self.well, json!({}));
            self.house.publish(&event).await;
        }
        self.house
            .gather(STREAM, |result| is_of(result, prefix))
            .await;
        begun.elapsed()
    }

    /// Publishes the events of the sick service and waits until the daemon has met them.
    async fn fill(&mut self) {
        for (n, one) in self.sick.iter().enumerate() {
            let event = event(&format!("sick{n}"), one, json!({ "ttl": 3600 }));
            self.house.publish(&event).await;
        }
        eventually(Duration::from_secs(20), async || {
            let waits = self.house.daemon.metric("pushrider_retries_total", "");
            wanted(waits.await, |waits| *waits >= BACKLOG as f64)
        })
        .await;
    }

    /// Waits for every result of the sick service's events, and checks that each has one.
    async fn all_arrive(&mut self) -> Vec<Value> {
        let results = self.house.gather(BACKLOG, |it| is_of(it, "sick")).await;
        self.house.settled().await;
        let outcomes = self.house.outcomes();
        assert_eq!(outcomes.len(), BACKLOG + 3 * STREAM);
        assert!(outcomes.values().all(|&count| count == 1), "{outcomes:?}");
        for result in &results {
            assert_eq!(result["outcome"], "accepted", "{result:#}");
        }
        results
    }

    /// Counts the requests that the sick service has not taken.
    fn refused(&self) -> usize {
        let requests = |one: &SubscriptionJson| self.house.sandbox.messages(Some(&one.id)).len();
        let all: usize = self.sick.iter().map(requests).sum();
        all - self.sick.iter().map(|one| self.taken(one)).sum::<usize>()
    }

    fn taken(&self, one: &SubscriptionJson) -> usize {
        let messages = self.house.sandbox.messages(Some(&one.id));
        messages.iter().filter(|it| it.status == Some(201)).count()
    }

    async fn turns(&self, to: &str) -> f64 {
        let name = "pushrider_breaker_transitions_total";
        self.house
            .daemon
            .metric(name, &format!("to=\"{to}\""))
            .await
    }
}

fn is_of(result: &Value, prefix: &str) -> bool {
    let id = result["event_id"].as_str();
    is_delivery(result) && id.is_some_and(|id| id.starts_with(prefix))
}

/// Asserts that a stream was not slowed beyond what two runs of a noisy machine differ by.
///
/// The copies that wait for the sick one come back each second here, and share two cores with the
/// stream, the broker and the sandbox; so a tenth cannot be told from noise. A service that took the
/// others' room would cost them its time-outs, of a second for 20 requests at a time, or the waits of
/// the broker: many times the stream's own time.
fn assert_as_fast(alone: Duration, beside: Duration) {
    let bound = alone.mul_f64(2.0) + Duration::from_secs(1);
    println!("{alone:?} alone, {beside:?} beside a sick one");
    assert!(
        beside < bound,
        "{beside:?} beside a sick one, {alone:?} alone"
    );
}
