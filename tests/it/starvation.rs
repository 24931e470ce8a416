//! One service's trouble is its own: the others' events flow, its own wait and lose nothing.
//!
//! Two origins share a daemon. One is failing, each time in another way, while the other gets a stream
//! of events; then the failing one recovers. A second daemon, with nothing failing, gets the same stream,
//! event by event in turn: whatever else the machine does, it does to both, so what is left of a
//! difference is what the failing one costs. The property over longer times and at greater loads, to
//! the tenth, is tested in virtual time (`gate::tests::starving`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pushrider::clock::{Clock, SystemClock};
use pushrider::sandbox;
use pushrider::sandbox::{Message, Script, SubscriptionJson};
use serde_json::{Value, json};

use crate::support::env::{TestEnv, event, is_delivery};
use crate::support::{eventually, wanted};

const PATIENCE: Duration = Duration::from_secs(60);

/// Events for the one that is well, and for the failing one.
const STREAM: usize = 300;
const BACKLOG: usize = 120;

/// A daemon with few requests at a time, so that a failing service could use up all of them.
const TIGHT: &str = "push.in_flight = 40
    push.per_origin = 20
    push.timeout = '1s'
    push.max_wait = '100ms'
    gate.failures = 5
    gate.open = '500ms'
    gate.open_cap = '1s'
    retry.max_attempts = 20";

/// Expects that the line with a message has this reason.
fn assert_tells_why(log: &str, message: &str, reason: &str) {
    let (message, reason) = (
        format!(r#""message":"{message}""#),
        format!(r#""reason":"{reason}""#),
    );
    let told = |line: &str| line.contains(&message) && line.contains(&reason);
    assert!(log.lines().any(told), "{message}, {reason}: {log}");
}

#[tokio::test]
async fn a_service_that_stalls_keeps_nobody_else_waiting() {
    let mut origins = TwoOrigins::open(json!({ "fault": "hang" })).await;
    origins.suffers().await;
    assert!(origins.turns("open").await > 0.0);
    origins.recovers().await;
}

#[tokio::test]
async fn a_service_that_is_down_keeps_nobody_else_waiting() {
    let mut origins = TwoOrigins::open(json!({ "status": 503 })).await;
    origins.suffers().await;
    assert!(origins.turns("open").await > 0.0);
    origins.recovers().await;
    let log = origins.env.daemon.log();
    let origin = &origins.env.sandbox.origins()[0];
    for what in ["breaker opened", "breaker half-open", "breaker closed"] {
        let told = |line: &str| line.contains(what) && line.contains(origin);
        assert!(log.lines().any(told), "{what}: {log}");
    }
    assert_tells_why(&log, "breaker opened", "service_unavailable");
}

#[tokio::test]
async fn a_service_that_throttles_is_left_alone_for_as_long_as_it_asks() {
    let throttled = json!({ "status": 429, "headers": { "Retry-After": "3" } });
    let mut origins = TwoOrigins::open(throttled).await;
    origins.suffers().await;
    origins.recovers().await;
    assert_eq!(origins.turns("open").await, 0.0, "a throttle is no trouble");
    let log = origins.env.daemon.log();
    assert_tells_why(&log, "paused", "throttled");
}

#[tokio::test]
async fn what_waits_for_a_service_that_is_down_waits_in_the_broker() {
    // Nothing comes back while the test lasts.
    const LONG: &str = "delay.bands = ['10m']
        gate.failures = 5
        gate.open = '10m'
        gate.open_cap = '10m'
        retry.base = '10m'
        log.filter = 'info'";
    let mut env = TestEnv::open_with(sandbox::Settings::default(), LONG).await;
    let down = env.subscribe(json!({ "status": 503 }));
    let payload = json!({ "payload": "x".repeat(3500) });
    let body = |n| event(&format!("e{n:05}"), &down, payload.clone()).to_string();
    let wait = async |count: u32, sum: u32| {
        let (vhost, bodies) = (&env.vhost, (sum - count..sum).map(body));
        vhost
            .publish_all("webpush.events", "shop.default", bodies)
            .await;
        // Those whose wait is over pass through the daemon and go back, some at any time.
        eventually(PATIENCE, async || {
            let fresh = vhost.depth("webpush.lane.default").await;
            let waiting = vhost.depth("webpush.delay.10m").await;
            wanted((fresh, waiting), |&(fresh, waiting)| {
                fresh == 0 && waiting >= sum - sum / 10
            })
        })
        .await;
    };
    // The first ones make the prefetch grow to its full size.
    wait(6000, 6000).await;
    let before = env.daemon.peak_kib();
    wait(12_000, 18_000).await;
    let grown = env.daemon.peak_growth_kib(before);
    let size = 12_000 * body(0).len() as u64 / 1024;
    println!("{size} KiB more wait: {before} KiB before, {grown} KiB more at the peak");
    assert!(grown < size / 8, "{grown} KiB more while {size} KiB wait");
    env.daemon.stop().await;
}

struct TwoOrigins {
    env: TestEnv,
    failing: Vec<SubscriptionJson>,
    healthy: SubscriptionJson,
    /// The same without anything failing.
    control: TestEnv,
    healthy_control: SubscriptionJson,
}

/// How long events took from being published to the push service, sorted.
struct Flow {
    alone: Vec<Duration>,
    beside: Vec<Duration>,
}

impl TwoOrigins {
    async fn open(fault: Value) -> Self {
        let settings = sandbox::Settings {
            listen: vec!["127.0.0.1:0".parse().unwrap(); 2],
            keep: 10_000,
            ..Default::default()
        };
        let control = TestEnv::open_with(settings.clone(), TIGHT).await;
        let env = TestEnv::open_with(settings, TIGHT).await;
        let failing = (0..BACKLOG).map(|_| env.subscribe_at(0, fault.clone()));
        Self {
            failing: failing.collect(),
            healthy: env.subscribe_at(1, json!({})),
            env,
            healthy_control: control.subscribe_at(1, json!({})),
            control,
        }
    }

    /// Sends the stream with and without a failing service, of which it must notice nothing.
    async fn suffers(&mut self) {
        self.stream("first").await;
        self.fill().await;
        let flow = self.stream("beside").await;
        flow.assert_as_fast();
    }

    /// Lets the failing service recover: its events arrive, and few of them have been spent on it.
    async fn recovers(&mut self) {
        let failed = self.refused();
        assert!(
            0 < failed && failed < BACKLOG / 2,
            "{failed} were sent in vain"
        );
        let fine = Script::try_from(json!({})).unwrap();
        for one in &self.failing {
            assert!(self.env.sandbox.play(&one.id, fine.clone()));
        }
        let results = self.all_arrive().await;
        let attempts: u64 = results
            .iter()
            .filter_map(|it| it["attempts"].as_u64())
            .sum();
        let sent = BACKLOG + self.refused();
        assert_eq!(attempts, sent as u64, "waiting uses up no attempt");
        for one in &self.failing {
            assert_eq!(self.taken(one), 1, "{}", one.id);
        }
        self.assert_no_storm();
        let open = self.env.daemon.metric("pushrider_breakers_open", "").await;
        assert_eq!(open, 0.0);
    }

    /// Sends a stream to the services that are healthy, event by event in turn.
    async fn stream(&mut self, prefix: &str) -> Flow {
        let mut published = BTreeMap::new();
        for n in 0..STREAM {
            let id = format!("{prefix}{n}");
            let mut at = [SystemTime::UNIX_EPOCH; 2];
            for turn in [n % 2, 1 - n % 2] {
                at[turn] = SystemClock.now().wall;
                let (env, healthy) = self.streams()[turn];
                let event = event(&id, healthy, json!({ "payload": id }));
                env.publish(&event).await;
            }
            published.insert(id, at);
        }
        for env in [&mut self.control, &mut self.env] {
            env.gather(STREAM, |result| is_of(result, prefix)).await;
        }
        let [alone, beside] = [0, 1].map(|turn| {
            let at = |id: &str| Some(published.get(id)?[turn]);
            self.took(turn, at)
        });
        Flow { alone, beside }
    }

    /// Returns the two streams: the one that is alone, and the one beside the failing service.
    fn streams(&self) -> [(&TestEnv, &SubscriptionJson); 2] {
        [
            (&self.control, &self.healthy_control),
            (&self.env, &self.healthy),
        ]
    }

    /// Returns how long each event took that was published at a known time, sorted.
    fn took(&self, turn: usize, published: impl Fn(&str) -> Option<SystemTime>) -> Vec<Duration> {
        let (env, healthy) = self.streams()[turn];
        let messages = env.sandbox.messages(Some(&healthy.id));
        let since = |it: &Arc<Message>| {
            let at = published(it.text.as_deref()?)?;
            Some(it.received_at.duration_since(at).unwrap_or_default())
        };
        let mut took: Vec<_> = messages.iter().filter_map(since).collect();
        assert_eq!(took.len(), STREAM);
        took.sort_unstable();
        took
    }

    /// Asserts that what waited came spread: no tenth of a second brought three quarters of it.
    ///
    /// Few bands make lumps of what is spread; how few requests are under way at first is tested in
    /// virtual time.
    fn assert_no_storm(&self) {
        let messages = self.env.sandbox.messages(None);
        let of_failing = |it: &&Arc<Message>| *it.subscription != *self.healthy.id;
        let taken = messages
            .iter()
            .filter(of_failing)
            .filter(|it| it.status == Some(201));
        let mut tenths = BTreeMap::<u128, usize>::new();
        for message in taken {
            let at = message.received_at.duration_since(SystemTime::UNIX_EPOCH);
            *tenths.entry(at.unwrap().as_millis() / 100).or_default() += 1;
        }
        println!("by tenths of a second: {:?}", tenths.values());
        assert!(tenths.values().all(|&n| n <= BACKLOG * 3 / 4), "{tenths:?}");
    }

    /// Publishes the events of the failing service and waits until the daemon has met them.
    async fn fill(&mut self) {
        for (n, one) in self.failing.iter().enumerate() {
            let event = event(&format!("failing{n}"), one, json!({ "ttl": 3600 }));
            self.env.publish(&event).await;
        }
        eventually(Duration::from_secs(20), async || {
            let waits = self.env.daemon.metric("pushrider_retries_total", "");
            wanted(waits.await, |waits| *waits >= BACKLOG as f64)
        })
        .await;
    }

    /// Waits for every result of the failing service's events, and checks that each has one.
    async fn all_arrive(&mut self) -> Vec<Value> {
        let results = self.env.gather(BACKLOG, |it| is_of(it, "failing")).await;
        self.env.settled().await;
        let outcomes = self.env.outcomes();
        assert_eq!(outcomes.len(), BACKLOG + 2 * STREAM);
        assert!(outcomes.values().all(|&count| count == 1), "{outcomes:?}");
        for result in &results {
            assert_eq!(result["outcome"], "accepted", "{result:#}");
        }
        results
    }

    /// Counts the requests that the failing service has not taken.
    fn refused(&self) -> usize {
        let requests = |one: &SubscriptionJson| self.env.sandbox.messages(Some(&one.id)).len();
        let all: usize = self.failing.iter().map(requests).sum();
        all - self
            .failing
            .iter()
            .map(|one| self.taken(one))
            .sum::<usize>()
    }

    fn taken(&self, one: &SubscriptionJson) -> usize {
        let messages = self.env.sandbox.messages(Some(&one.id));
        messages.iter().filter(|it| it.status == Some(201)).count()
    }

    async fn turns(&self, to: &str) -> f64 {
        let name = "pushrider_breaker_transitions_total";
        self.env.daemon.metric(name, &format!("to=\"{to}\"")).await
    }
}

fn is_of(result: &Value, prefix: &str) -> bool {
    let id = result["event_id"].as_str();
    is_delivery(result) && id.is_some_and(|id| id.starts_with(prefix))
}

impl Flow {
    /// Asserts that nothing of the stream waited for the failing one: at the median it is within a
    /// tenth, and a millisecond for the clocks.
    ///
    /// A service that took the others' room would cost them its time-outs, of a second for 20
    /// requests at a time, or waits in the broker, of half a second and more. What happens to the
    /// slowest few is the machine's doing: they were as slow alone.
    fn assert_as_fast(&self) {
        let at = |took: &[Duration], percent: usize| took[(took.len() - 1) * percent / 100];
        for (percent, more, besides) in [(50, 1.1, 1), (90, 1.5, 10), (99, 2.0, 100)] {
            let [alone, beside] = [&self.alone, &self.beside].map(|took| at(took, percent));
            println!("p{percent}: {alone:?} alone, {beside:?} beside a failing one");
            let bound = alone.mul_f64(more) + Duration::from_millis(besides);
            assert!(beside <= bound, "p{percent}: {beside:?}, {alone:?} alone");
        }
    }
}
