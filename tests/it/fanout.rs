//! Events of many recipients: in parts, within bounds, and each recipient by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pushrider::clock::{Clock, SystemClock};
use pushrider::sandbox;
use pushrider::sandbox::SubscriptionJson;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::daemon::Daemon;
use crate::support::env::{TestEnv, event, is_delivery};
use crate::support::{eventually, wanted};

/// The most recipients of one event.
const MOST: usize = 10_000;

/// How many recipients are in one part.
const CHUNK: usize = 50;

/// What the largest event may add to the memory of a daemon, which is not optimised here: the event,
/// its parts on their way out and in again, and a thousand recipients in hand. With all of them in
/// hand it would be twice as much.
const PEAK_KIB: u64 = 40 * 1024;

fn quick() -> sandbox::Settings {
    sandbox::Settings {
        decrypt: false,
        keep: 0,
        ..Default::default()
    }
}

fn campaign(id: &str, recipients: &[Value], more: Value) -> Value {
    let mut event = json!({ "id": id, "recipients": recipients });
    let members = event.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    event
}

fn recipient(subscription: &SubscriptionJson) -> Value {
    json!({ "subscription": subscription })
}

fn is_summary(result: &Value) -> bool {
    result.get("chunk").is_some()
}

/// Waits until the summaries of an event add up to `count` recipients, and returns how many had
/// which outcome. What comes twice after a crash is told by the chunk, the pass and who was in it.
async fn summed_up(env: &mut TestEnv, id: &str, count: u64) -> BTreeMap<String, u64> {
    eventually(Duration::from_secs(120), async || {
        let of_event = |it: &Value| is_summary(it) && it["event_id"] == id;
        let summaries = env.gather(0, of_event).await;
        let mut outcomes = BTreeMap::new();
        for summary in &summaries {
            for (outcome, count) in summary["outcomes"].as_object().unwrap() {
                *outcomes.entry(outcome.clone()).or_default() += count.as_u64().unwrap();
            }
        }
        outcomes.retain(|_, count| *count > 0);
        wanted(outcomes, |it: &BTreeMap<String, u64>| {
            it.values().sum::<u64>() >= count
        })
    })
    .await
}

#[tokio::test]
async fn ten_thousand_recipients_cost_little_memory() {
    let mut env = TestEnv::open_with(quick(), "log.filter = 'info'").await;
    let all: Vec<_> = (0..MOST)
        .map(|_| recipient(&env.subscribe(json!({}))))
        .collect();
    let warm = env.subscribe(json!({}));
    for n in 0..100 {
        env.publish(&event(&format!("w{n}"), &warm, json!({})))
            .await;
    }
    env.gather(100, is_delivery).await;
    let before = env.daemon.peak_kib();

    let more = json!({ "payload": "hello", "results": "failures" });
    let body = campaign("c1", &all, more).to_string();
    env.publish_bytes(body.as_bytes()).await;
    let outcomes = summed_up(&mut env, "c1", MOST as u64).await;
    assert_eq!(
        outcomes,
        BTreeMap::from([("accepted".to_owned(), MOST as u64)])
    );
    assert_eq!(env.sandbox.stats().statuses[&201], (MOST + 100) as u64);
    env.settled().await;

    let grown = env.daemon.peak_growth_kib(before);
    let size = body.len() / 1024;
    println!("an event of {size} KiB: {before} KiB before, {grown} KiB more at the peak");
    assert!(grown < PEAK_KIB, "{grown} KiB more for {size} KiB");
}

#[tokio::test]
async fn killed_amid_a_campaign_it_repeats_at_most_the_chunks_in_flight() {
    const RECIPIENTS: usize = 2000;
    const IN_HAND: usize = 4;
    let settings = sandbox::Settings {
        latency: Duration::from_millis(50),
        ..quick()
    };
    let more = format!("lanes.default.due_prefetch = {IN_HAND}\nlog.filter = 'info'");
    let mut env = TestEnv::open_with(settings, &more).await;
    let all: Vec<_> = (0..RECIPIENTS)
        .map(|_| recipient(&env.subscribe(json!({}))))
        .collect();
    env.publish(&campaign("c1", &all, json!({}))).await;
    let accepted = |env: &TestEnv| {
        let stats = env.sandbox.stats();
        usize::try_from(stats.statuses.get(&201).copied().unwrap_or_default()).unwrap()
    };
    for at in [400, 1200] {
        eventually(Duration::from_secs(60), async || {
            wanted(accepted(&env), |accepted| *accepted >= at)
        })
        .await;
        env.daemon.kill().await;
        env.daemon.start().await;
    }
    let endpoint = |it: &Value| it["recipient"]["endpoint"].as_str().unwrap().to_owned();
    eventually(Duration::from_secs(120), async || {
        let results = env.gather(0, is_delivery).await;
        let told: BTreeSet<_> = results.iter().map(endpoint).collect();
        wanted(told.len(), |told| *told == RECIPIENTS)
    })
    .await;
    env.settled().await;
    let repeats = accepted(&env) - RECIPIENTS;
    println!("{repeats} of {RECIPIENTS} pushed twice");
    assert!(
        repeats <= 2 * IN_HAND * CHUNK,
        "{repeats} were pushed twice"
    );
}

/// Every chunk would have one slow recipient if they were cut as they come.
#[tokio::test]
async fn a_slow_push_service_does_not_hold_up_the_other_recipients() {
    const RECIPIENTS: usize = 800;
    const SLOW: usize = RECIPIENTS / 10;
    let settings = sandbox::Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap(); 2],
        ..quick()
    };
    let more = "events.chunk = 10\nlanes.default.due_prefetch = 20\nlog.filter = 'info'";
    let mut env = TestEnv::open_with(settings, more).await;
    let origin = env.sandbox.origins()[1].clone();
    let is_fast = |it: &Value| {
        let endpoint = it["recipient"]["endpoint"].as_str();
        endpoint.is_some_and(|endpoint| endpoint.starts_with(&origin))
    };
    let mut took = Vec::new();
    for (id, delay) in [("alone", "1ms"), ("beside", "8s")] {
        let subscribe = |n: usize| match n % 10 {
            0 => env.subscribe_at(0, json!({ "status": 201, "delay": delay })),
            _ => env.subscribe_at(1, json!({})),
        };
        let all: Vec<_> = (0..RECIPIENTS).map(|n| recipient(&subscribe(n))).collect();
        let published = SystemClock.now().mono;
        env.publish(&campaign(id, &all, json!({}))).await;
        let of_event = |it: &Value| is_delivery(it) && it["event_id"] == id;
        let fast = |it: &Value| of_event(it) && is_fast(it);
        env.gather(RECIPIENTS - SLOW, fast).await;
        took.push(published.elapsed());
        let results = env.results_of(id, RECIPIENTS).await;
        assert!(results.iter().all(|it| it["outcome"] == "accepted"));
    }
    let [alone, beside] = took[..] else {
        unreachable!("two events");
    };
    println!("the others took {alone:?} alone, {beside:?} beside a slow push service");
    let bound = 2 * alone + Duration::from_secs(4);
    assert!(beside < bound, "{beside:?} instead of {alone:?}");
}

#[tokio::test]
async fn only_who_is_not_done_is_tried_again_and_results_are_narrowed() {
    let mut env = TestEnv::open("gate.failures = 1000").await;
    let fine: Vec<_> = (0..40).map(|_| env.subscribe(json!({}))).collect();
    let again = json!([{ "status": 503 }, { "status": 201 }]);
    let shaky: Vec<_> = (0..40).map(|_| env.subscribe(again.clone())).collect();
    let gone: Vec<_> = (0..40)
        .map(|_| env.subscribe(json!({ "status": 410 })))
        .collect();
    // Mixed, so that each chunk has some of each.
    let mut all = Vec::new();
    for n in 0..40 {
        for (kind, one) in [("fine", &fine[n]), ("shaky", &shaky[n]), ("gone", &gone[n])] {
            let own = json!({ "subscription": one, "payload": format!("{kind} {n}") });
            all.push(own);
        }
    }
    let event = campaign(
        "c1",
        &all,
        json!({ "payload": "for all", "results": "failures" }),
    );
    env.publish(&event).await;

    let outcomes = summed_up(&mut env, "c1", 120).await;
    env.settled().await;
    let expected = [("accepted", 80), ("gone", 40)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(outcomes, BTreeMap::from(expected));
    let summaries = env.gather(0, is_summary).await;
    let chunks: BTreeSet<_> = summaries.iter().map(|it| it["chunk"].to_string()).collect();
    assert_eq!(chunks.len(), 3, "{summaries:#?}");
    let results = env.gather(0, is_delivery).await;
    assert_eq!(results.len(), 40, "failures alone are told");
    assert!(
        results.iter().all(|it| it["outcome"] == "gone"),
        "{results:#?}"
    );

    for (kind, subscriptions, requests) in
        [("fine", fine, 1), ("shaky", shaky, 2), ("gone", gone, 1)]
    {
        for (n, one) in subscriptions.iter().enumerate() {
            let texts = env.arrived(&one.id, requests).await;
            assert_eq!(texts, vec![format!("{kind} {n}"); requests]);
        }
    }
}

#[tokio::test]
async fn a_campaign_goes_out_at_its_pace_whoever_sends_it() {
    const RECIPIENTS: usize = 120;
    const PER_SECOND: usize = 30;
    let mut env = TestEnv::open_with(quick(), "log.filter = 'info'").await;
    let mut second = Daemon::new(&env.vhost.url(), &env.sandbox, "log.filter = 'info'");
    second.start().await;
    let all: Vec<_> = (0..RECIPIENTS)
        .map(|_| recipient(&env.subscribe(json!({}))))
        .collect();
    let mut arrivals = env.sandbox.arrivals();
    let pace = json!({ "max_per_second": PER_SECOND });
    env.publish(&campaign("slow", &all, pace)).await;
    let mut came = Vec::new();
    while came.len() < RECIPIENTS {
        let arrival = timeout(Duration::from_secs(30), arrivals.recv()).await;
        arrival.expect("no push came for half a minute").unwrap();
        came.push(SystemClock.now().mono);
    }
    for (n, at) in came.iter().enumerate() {
        let due = Duration::from_secs((n / PER_SECOND) as u64);
        // The first arrival is later than the split by some milliseconds.
        let tolerated = Duration::from_millis(200);
        assert!(*at - came[0] + tolerated >= due, "{n}: {:?}", *at - came[0]);
    }
    let outcomes = summed_up(&mut env, "slow", RECIPIENTS as u64).await;
    assert_eq!(
        outcomes,
        [("accepted".to_owned(), RECIPIENTS as u64)].into()
    );
}
