//! Many daemons on the same queues: they come and are killed under load, and nothing is lost.

use std::time::Duration;

use pushrider::sandbox;
use serde_json::json;

use crate::support::broker::Broker;
use crate::support::daemon::Daemon;
use crate::support::env::{TestEnv, event};
use crate::support::eventually;
use crate::support::proxy::TcpProxy;
use crate::support::wanted;
use crate::waiting::{publish_all, repeats_of, until_depth};

/// How many deliveries one daemon has in hand at most, from both queues of its lane.
const IN_HAND: usize = 60;

const MORE: &str = "delay.bands = ['250ms', '500ms', '1s', '2s', '4s']
    lanes.default.prefetch = 30
    lanes.default.due_prefetch = 30
    gate.failures = 1000
    retry.base = '500ms'";

/// The daemons on the queues of an environment; the first is its own.
struct Herd {
    env: TestEnv,
    others: Vec<Daemon>,
    kills: usize,
}

impl Herd {
    /// Adds a daemon when so many results are there.
    async fn joined_at(&mut self, results: usize) {
        wait_for_results(&self.env, results).await;
        let mut daemon = Daemon::new(&self.env.vhost.url(), &self.env.sandbox, MORE);
        daemon.start().await;
        self.others.push(daemon);
    }

    /// Kills the daemon that joined first when so many results are there.
    async fn killed_at(&mut self, results: usize) {
        wait_for_results(&self.env, results).await;
        self.others.remove(0).kill().await;
        self.kills += 1;
    }

    /// Waits until none of them has anything in hand.
    async fn rest(&self) {
        for daemon in &self.others {
            eventually(Duration::from_secs(30), async || {
                let open = daemon.metric("pushrider_deliveries_in_flight", "").await;
                wanted(open, |open| *open == 0.0)
            })
            .await;
        }
    }
}

/// Waits until so many results are there.
async fn wait_for_results(env: &TestEnv, results: usize) {
    until_depth(env, &["test.results"], |depth| depth >= results).await;
}

#[tokio::test]
async fn daemons_that_come_and_are_killed_under_load_lose_nothing() {
    const EVENTS: usize = 3000;
    let settings = sandbox::Settings {
        decrypt: false,
        keep: 0,
        latency: Duration::from_millis(50),
        ..Default::default()
    };
    let env = TestEnv::open_with(settings, MORE).await;
    let down = json!([{ "status": 503, "times": EVENTS / 10 }, { "status": 201 }]);
    let (shaky, fine) = (env.subscribe(down), env.subscribe(json!({})));
    let events = (0..EVENTS).map(|n| {
        let to = if n % 10 == 0 { &shaky } else { &fine };
        event(&format!("e{n}"), to, json!({}))
    });
    publish_all(&env, events).await;

    let (others, kills) = (Vec::new(), 0);
    let mut herd = Herd { env, others, kills };
    herd.joined_at(100).await;
    herd.joined_at(200).await;
    herd.killed_at(700).await;
    herd.joined_at(1000).await;
    herd.killed_at(1400).await;
    herd.env.daemon.kill().await;
    herd.joined_at(1600).await;
    herd.env.daemon.start().await;
    herd.killed_at(2200).await;
    let kills = herd.kills + 1;
    let repeats = repeats_of(&mut herd.env, EVENTS).await;
    herd.rest().await;

    let stats = herd.env.sandbox.stats();
    let accepted = usize::try_from(stats.statuses[&201]).unwrap();
    println!("{EVENTS} sent, {accepted} accepted, {repeats} results twice, {kills} kills");
    let bound = kills * IN_HAND;
    assert!(repeats <= bound, "{repeats} results came twice");
    let pushes = EVENTS..=EVENTS + bound;
    assert!(pushes.contains(&accepted), "{accepted} pushes accepted");
}

#[tokio::test]
async fn after_kills_and_cuts_at_most_what_was_in_hand_is_pushed_twice() {
    const EVENTS: usize = 3000;
    /// How often a daemon lost what it had in hand: four cuts, two kills, and the broker's end, which
    /// both see.
    const LOSSES: usize = 8;
    let settings = sandbox::Settings {
        decrypt: false,
        keep: 0,
        latency: Duration::from_millis(50),
        ..Default::default()
    };
    let broker = Broker::own();
    let vhost = broker.vhost();
    let vhost_name = vhost.name().to_owned();
    let proxies = [
        TcpProxy::to(vhost.port()).await,
        TcpProxy::to(vhost.port()).await,
    ];
    let [url, other_url] = [&proxies[0], &proxies[1]].map(|it| vhost.url_of("guest", it.port()));
    let mut env = TestEnv::open_at(vhost, &url, settings, MORE).await;
    let mut other = Daemon::new(&other_url, &env.sandbox, MORE);
    other.start().await;
    broker.remembers(&vhost_name, "webpush.delay.4s").await;
    let down = json!([{ "status": 503, "times": EVENTS / 10 }, { "status": 201 }]);
    let (shaky, fine) = (env.subscribe(down), env.subscribe(json!({})));
    let events = (0..EVENTS).map(|n| {
        let to = if n % 10 == 0 { &shaky } else { &fine };
        event(&format!("e{n}"), to, json!({}))
    });
    publish_all(&env, events).await;

    wait_for_results(&env, 300).await;
    proxies[0].cut();
    wait_for_results(&env, 600).await;
    other.kill().await;
    other.start().await;
    wait_for_results(&env, 900).await;
    broker.kill();
    broker.restart();
    env.vhost = env.vhost.again();
    wait_for_results(&env, 1200).await;
    proxies[1].cut();
    wait_for_results(&env, 1500).await;
    env.daemon.kill().await;
    env.daemon.start().await;
    wait_for_results(&env, 1800).await;
    proxies.iter().for_each(TcpProxy::cut);
    let results = repeats_of(&mut env, EVENTS).await;

    let accepted = usize::try_from(env.sandbox.stats().statuses[&201]).unwrap();
    let pushes = accepted - EVENTS;
    let bound = LOSSES * IN_HAND;
    println!(
        "{EVENTS} events, two daemons with {IN_HAND} in hand each, 4 cuts, 2 kills, 1 broker kill: \
         {pushes} pushed twice, {results} results twice; the bound is {bound}"
    );
    assert!(pushes <= bound, "{pushes} were pushed twice");
    assert!(results <= bound, "{results} results came twice");
    other.stop().await;
}
