//! What is cancelled and forgotten, over a real stream: by every daemon, also by those that start later.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::process::Output;
use std::time::Duration;

use jiff::Timestamp;
use pushrider::clock::{Clock, SystemClock};
use pushrider::sandbox;
use serde_json::{Value, json};

use crate::cli_check::{configured, text};
use crate::cli_publish::spawn;
use crate::support::daemon::Daemon;
use crate::support::env::{TestEnv, event, is_delivery};
use crate::support::vhost::Vhost;
use crate::support::{eventually, wanted};

/// Runs a command on a virtual host.
async fn run(vhost: &Vhost, arguments: &[&str]) -> Output {
    let (_folder, file) = configured("");
    let child = spawn(&file, &vhost.url(), arguments);
    child.wait_with_output().await.unwrap()
}

/// Runs a command that succeeds, and returns what it prints.
async fn done(vhost: &Vhost, arguments: &[&str]) -> String {
    let output = run(vhost, arguments).await;
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout).to_owned()
}

/// Waits until a daemon has read so many control messages since it started.
async fn has_read(daemon: &Daemon, kind: &str, count: f64) {
    let label = format!("kind=\"{kind}\"");
    eventually(Duration::from_secs(10), async || {
        let read = daemon
            .metric("pushrider_control_messages_total", &label)
            .await;
        wanted(read, |read| *read == count)
    })
    .await;
}

/// Writes the time of now and a wait.
fn written(wait: Duration) -> String {
    let moment = SystemClock.now().wall + wait;
    format!("{:.3}", Timestamp::try_from(moment).unwrap())
}

/// Makes the members of an event of a campaign that its producer makes now.
fn of_spring() -> Value {
    json!({ "group": "spring", "created_at": written(Duration::ZERO) })
}

fn outcome(result: &Value) -> (String, String) {
    let word = |name: &str| result[name].as_str().unwrap_or_default().to_owned();
    (word("outcome"), word("reason"))
}

fn told(outcome: &str, reason: &str) -> (String, String) {
    (outcome.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn a_daemon_that_starts_later_knows_what_was_cancelled() {
    let mut env = TestEnv::open("").await;
    let alice = env.subscribe(json!({}));
    env.daemon.stop().await;
    env.publish(&event("e1", &alice, json!({}))).await;
    env.publish(&event("e2", &alice, of_spring())).await;
    env.publish(&event("e3", &alice, json!({}))).await;
    let by_id = done(&env.vhost, &["cancel", "--app", "shop", "--id", "e1"]).await;
    assert_eq!(by_id, "cancelled the event e1 (shop.cancel)\n");
    let line = [
        "cancel", "--app", "shop", "--group", "spring", "--reason", "sold out", "--json",
    ];
    let by_group: Value = serde_json::from_str(&done(&env.vhost, &line).await).unwrap();
    assert_eq!(by_group["cancel"]["group"], "spring");

    env.daemon.start().await;
    let first = env.results_of("e1", 1).await;
    assert_eq!(outcome(&first[0]), told("cancelled", "cancelled"));
    let second = env.results_of("e2", 1).await;
    assert_eq!(second[0]["detail"], "its group was cancelled: sold out");
    let third = env.results_of("e3", 1).await;
    assert_eq!(outcome(&third[0]), told("accepted", "accepted"));

    // A campaign of the same name is another one, also for a daemon that starts after it.
    env.daemon.stop().await;
    env.publish(&event("e4", &alice, of_spring())).await;
    env.daemon.start().await;
    let fourth = env.results_of("e4", 1).await;
    assert_eq!(outcome(&fourth[0]), told("accepted", "accepted"));
    env.publish(&event("e1", &alice, json!({ "payload": "again" })))
        .await;
    let again = env.results_of("e1", 2).await;
    assert_eq!(outcome(&again[1]), told("cancelled", "cancelled"));
    env.daemon.stop().await;
}

#[tokio::test]
async fn a_campaign_is_cancelled_amid_its_fan_out_whoever_is_killed() {
    const MOST: usize = 10_000;
    let settings = sandbox::Settings {
        decrypt: false,
        keep: 0,
        latency: Duration::from_millis(100),
        ..Default::default()
    };
    let more = "push.per_origin = 20\npush.in_flight = 20\nlanes.default.due_prefetch = 4";
    let mut env = TestEnv::open_with(settings, more).await;
    let mut other = Daemon::new(&env.vhost.url(), &env.sandbox, more);
    other.start().await;
    let recipients: Vec<_> = (0..MOST)
        .map(|n| json!({ "id": n, "subscription": env.subscribe(json!({})) }))
        .collect();
    let campaign =
        json!({ "id": "c1", "group": "spring", "payload": "x", "recipients": recipients });
    env.publish(&campaign).await;
    env.gather(1000, is_delivery).await;
    other.kill().await;
    done(
        &env.vhost,
        &["cancel", "--app", "shop", "--group", "spring"],
    )
    .await;
    let pushed_before = env.sandbox.stats().statuses[&201];
    other.start().await;

    let ends = eventually(Duration::from_secs(60), async || {
        env.gather(0, |_| false).await;
        wanted(ends_of(&env.results), |ends| ends.len() == MOST)
            .map_err(|ends| format!("{} of {MOST}", ends.len()))
    })
    .await;
    env.settled().await;
    let count = |outcome: &str| ends.values().filter(|it| it.contains(outcome)).count();
    let (accepted, cancelled) = (count("accepted"), count("cancelled"));
    let both = ends.values().filter(|it| it.len() > 1).count();
    let pushed = env.sandbox.stats().statuses[&201];
    println!(
        "{MOST} recipients: {accepted} accepted, {cancelled} cancelled, {both} told as both after \
         the kill; {pushed} pushes, {pushed_before} of them before the confirm of the cancellation"
    );
    assert_eq!(accepted + cancelled - both, MOST);
    let results = env.results.iter().filter(|it| is_delivery(it)).count();
    let repeated = results - MOST;
    assert!(
        both <= repeated && repeated <= 50 * 4,
        "{repeated} were in the hands of the daemon that was killed, {both} told as both"
    );
    assert!(accepted >= 1000, "{accepted} accepted");
    assert!(cancelled > MOST / 4, "{cancelled} cancelled");
    assert!(pushed >= u64::try_from(accepted).unwrap());
    assert!(pushed < pushed_before + 300, "{pushed} pushed");
    other.stop().await;
}

/// Returns the outcomes of each recipient of an event.
fn ends_of(results: &[Value]) -> BTreeMap<u64, BTreeSet<String>> {
    let mut ends: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for result in results.iter().filter(|it| is_delivery(it)) {
        let recipient = result["recipient"]["id"].as_u64().unwrap();
        ends.entry(recipient).or_default().insert(outcome(result).0);
    }
    ends
}

#[tokio::test]
async fn who_is_forgotten_gets_nothing_of_what_is_scheduled_or_of_what_comes() {
    let mut env = TestEnv::open("").await;
    let (alice, bob) = (env.subscribe(json!({})), env.subscribe(json!({})));
    let due = written(Duration::from_secs(5));
    let later = json!({ "recipient_id": "u1", "deliver_at": due });
    env.publish(&event("e1", &alice, later.clone())).await;
    env.publish(&event(
        "e2",
        &bob,
        json!({ "recipient_id": "u2", "deliver_at": due }),
    ))
    .await;
    let app = ["forget", "--app", "shop"];
    done(&env.vhost, &[&app[..], &["--recipient-id", "u1"]].concat()).await;
    let printed = done(
        &env.vhost,
        &[&app[..], &["--endpoint", &bob.endpoint]].concat(),
    )
    .await;
    assert!(!printed.contains(&bob.endpoint), "{printed}");
    has_read(&env.daemon, "forget", 2.0).await;
    env.publish(&event("e3", &bob, json!({}))).await;
    for event in ["e3", "e1", "e2"] {
        let results = env.results_of(event, 1).await;
        assert_eq!(
            outcome(&results[0]),
            told("cancelled", "forgotten"),
            "{event}"
        );
    }
    assert_eq!(env.sandbox.stats().statuses.get(&201), None);
    let changes = env.results.iter().filter(|it| it.get("change").is_some());
    assert_eq!(changes.count(), 0);
    env.publish(&event("e4", &alice, json!({ "recipient_id": "u3" })))
        .await;
    let results = env.results_of("e4", 1).await;
    assert_eq!(
        outcome(&results[0]).0,
        "accepted",
        "another person on the same device"
    );
}

#[tokio::test]
async fn a_control_message_that_cannot_be_read_is_told_and_skipped() {
    let mut env = TestEnv::open("").await;
    let alice = env.subscribe(json!({}));
    let publish = async |key: &str, body: &str| {
        env.vhost
            .publish("webpush.control", key, body.as_bytes())
            .await;
    };
    publish(
        "shop.cancel",
        r#"{ "app": "shop", "cancel": { "id": "e1" } }"#,
    )
    .await;
    publish("pushrider.marker", "").await;
    let right =
        r#"{ "app": "shop", "requested_at": "2026-03-14T09:26:53Z", "cancel": { "id": "e1" } }"#;
    publish("blog.cancel", right).await;
    has_read(&env.daemon, "malformed", 2.0).await;
    let log = env.daemon.log();
    assert!(log.contains("requested_at: is missing"), "{log}");
    assert!(
        log.contains("expected the routing key `shop.cancel`"),
        "{log}"
    );
    env.publish(&event("e1", &alice, json!({}))).await;
    let results = env.results_of("e1", 1).await;
    assert_eq!(outcome(&results[0]).0, "accepted");
    done(&env.vhost, &["cancel", "--app", "shop", "--id", "e2"]).await;
    has_read(&env.daemon, "cancel", 1.0).await;
    assert_eq!(env.daemon.metric("pushrider_control_kept", "").await, 1.0);
}

#[tokio::test]
async fn after_a_lost_connection_it_goes_on_from_where_it_was() {
    let env = TestEnv::open("").await;
    done(&env.vhost, &["cancel", "--app", "shop", "--id", "e1"]).await;
    has_read(&env.daemon, "cancel", 1.0).await;
    env.vhost.delete("webpush.undeliverable").await;
    eventually(Duration::from_secs(20), async || {
        let lost = env
            .daemon
            .metric("pushrider_broker_reconnects_total", "")
            .await;
        let (ready, _) = env.daemon.get("/readyz").await?;
        wanted((lost, ready), |it| *it == (1.0, 200)).map_err(|it| format!("{it:?}"))
    })
    .await;
    done(&env.vhost, &["cancel", "--app", "shop", "--id", "e2"]).await;
    has_read(&env.daemon, "cancel", 2.0).await;
}

/// Writes control messages that cancel events with these numbers, in some hundred bytes each.
fn cancelling(events: Range<usize>) -> impl Iterator<Item = String> {
    let message = |n| {
        json!({ "app": "shop", "reason": "x".repeat(255), "requested_at": written(Duration::ZERO),
                "cancel": { "id": format!("e{n}") } })
    };
    events.map(move |n| message(n).to_string())
}

#[tokio::test]
async fn more_than_a_daemon_remembers_drops_the_oldest_and_is_told() {
    let mut env = TestEnv::open("broker.control_targets = 10").await;
    let all = cancelling(0..12);
    env.vhost
        .publish_all("webpush.control", "shop.cancel", all)
        .await;
    has_read(&env.daemon, "cancel", 12.0).await;
    let kept = async |name: &str| env.daemon.metric(name, "").await;
    assert_eq!(kept("pushrider_control_kept").await, 10.0);
    assert_eq!(kept("pushrider_control_dropped_total").await, 2.0);
    let log = env.daemon.log();
    assert!(log.contains("enlarge broker.control_targets"), "{log}");
    let alice = env.subscribe(json!({}));
    for (n, outcome) in [(1, "accepted"), (2, "cancelled"), (11, "cancelled")] {
        let id = format!("e{n}");
        env.publish(&event(&id, &alice, json!({}))).await;
        assert_eq!(env.results_of(&id, 1).await[0]["outcome"], outcome, "{id}");
    }
}

#[tokio::test]
async fn what_a_full_stream_has_dropped_is_told_to_a_daemon_that_starts_later() {
    const MOST: usize = 6000;
    const PART: usize = 500;
    let mut env = TestEnv::open("broker.control_size = '1MiB'").await;
    let alice = env.subscribe(json!({}));
    // The stream keeps a part until it is read: it is a small share of what the stream holds.
    for end in (PART..=MOST).step_by(PART) {
        let part = cancelling(end - PART..end);
        env.vhost
            .publish_all("webpush.control", "shop.cancel", part)
            .await;
        has_read(&env.daemon, "cancel", end as f64).await;
    }
    env.publish(&event("e0", &alice, json!({}))).await;
    let first = env.results_of("e0", 1).await;
    assert_eq!(first[0]["outcome"], "cancelled", "it was read in time");
    assert!(!env.daemon.log().contains("broker.control_size"));

    env.daemon.stop().await;
    env.daemon.start().await;
    let kept = env.daemon.metric("pushrider_control_kept", "").await;
    assert!(100.0 < kept && kept < MOST as f64 / 1.5, "{kept} kept");
    let log = env.daemon.log();
    assert!(log.contains("enlarge broker.control_size"), "{log}");
    let last = format!("e{}", MOST - 1);
    for (id, outcome) in [("e1", "accepted"), (&last, "cancelled")] {
        env.publish(&event(id, &alice, json!({}))).await;
        assert_eq!(env.results_of(id, 1).await[0]["outcome"], outcome, "{id}");
    }
}

#[tokio::test]
async fn with_control_off_nothing_of_it_is_declared() {
    let mut env = TestEnv::open("broker.control = 'off'").await;
    let alice = env.subscribe(json!({}));
    env.publish(&event("e1", &alice, json!({}))).await;
    assert_eq!(env.results_of("e1", 1).await[0]["outcome"], "accepted");
    let missing = run(&env.vhost, &["cancel", "--app", "shop", "--id", "e1"]).await;
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    assert!(
        text(&missing.stderr).contains("webpush.control"),
        "{missing:?}"
    );
    let off = [
        "cancel",
        "--app",
        "shop",
        "--id",
        "e1",
        "--set",
        "broker.control=off",
    ];
    let off = run(&env.vhost, &off).await;
    assert_eq!(off.status.code(), Some(78), "{off:?}");
    let (_, metrics) = env.daemon.get("/metrics").await.unwrap();
    assert!(
        !metrics.contains("pushrider_control_read"),
        "no alert for what is off"
    );
}

#[tokio::test]
async fn without_the_stream_a_daemon_says_so_and_pushes() {
    let mut env = TestEnv::open("").await;
    env.daemon.stop().await;
    env.vhost.delete("webpush.control.log").await;
    env.daemon.set("broker.declare = 'passive'");
    env.daemon.start().await;
    let alice = env.subscribe(json!({}));
    env.publish(&event("e1", &alice, json!({}))).await;
    assert_eq!(env.results_of("e1", 1).await[0]["outcome"], "accepted");
    let log = env.daemon.log();
    assert!(log.contains("nothing can be cancelled"), "{log}");
    let (_, metrics) = env.daemon.get("/metrics").await.unwrap();
    assert!(metrics.contains("pushrider_control_read 0"), "{metrics}");
}
