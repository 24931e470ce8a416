//! What ends the process or the connection costs itself its attempts, and the messages beside it
//! neither theirs nor much time.

use std::time::Duration;

use pushrider::clock::{Clock, SystemClock};
use pushrider::sandbox;
use pushrider::sandbox::SubscriptionJson;
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::env::{TestEnv, event, is_delivery};
use crate::support::proxy::TcpProxy;
use crate::support::{eventually, wanted};

const PATIENCE: Duration = Duration::from_secs(60);

/// The process is killed so long after the request for the marked message: by then the messages
/// beside it that are quick are done, and those that are slow are not.
const KILLED_AFTER: Duration = Duration::from_millis(700);

fn two_origins() -> sandbox::Settings {
    sandbox::Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap(); 2],
        keep: 10_000,
        ..Default::default()
    }
}

fn of_event(id: &str) -> impl Fn(&Value) -> bool {
    move |result| is_delivery(result) && result["event_id"] == id
}

#[tokio::test]
async fn what_kills_the_process_is_given_up_alone() {
    const QUICK: usize = 300;
    const SLOW: usize = 5;
    let mut env = TestEnv::open_with(two_origins(), "broker.delivery_limit = 10").await;
    let marked = env.subscribe_at(0, json!({ "fault": "hang" }));
    let slow = env.subscribe_at(1, json!({ "status": 201, "delay": "3s" }));
    let quick = env.subscribe_at(1, json!({ "status": 201, "delay": "200ms" }));
    env.daemon.kill().await;
    for n in 0..QUICK {
        if n == QUICK / 2 {
            env.publish(&event("marked", &marked, json!({}))).await;
        }
        if n % (QUICK / SLOW) == 0 {
            let id = format!("slow{n}");
            env.publish(&event(&id, &slow, json!({}))).await;
        }
        let id = format!("quick{n}");
        env.publish(&event(&id, &quick, json!({}))).await;
    }

    let crashes = crash_on(&mut env, &marked).await;
    println!("{crashes} crashes");
    // Some events may have two results, for the process was killed between two settlements.
    eventually(PATIENCE, async || {
        env.gather(0, is_delivery).await;
        wanted(env.outcomes().len(), |&events| events == QUICK + SLOW + 1)
    })
    .await;
    env.settled().await;
    let poisoned: Vec<_> = env
        .results
        .iter()
        .filter(|result| result["reason"] == "poison")
        .map(|result| result["event_id"].as_str().unwrap())
        .collect();
    assert_eq!(poisoned, ["marked"]);
    assert_eq!(env.vhost.depth("webpush.quarantine").await, 1);
}

/// Starts the daemon and kills it for each request for a subscription, until its message is given
/// up; returns how often.
async fn crash_on(env: &mut TestEnv, marked: &SubscriptionJson) -> usize {
    for crashes in 0.. {
        env.daemon.launch().await;
        let is_given_up = eventually(PATIENCE, async || {
            let requests = env.sandbox.messages(Some(&marked.id)).len();
            let results = env.gather(0, of_event("marked")).await;
            wanted(
                (requests > crashes, !results.is_empty()),
                |(again, given_up)| *again || *given_up,
            )
        })
        .await
        .1;
        if is_given_up {
            return crashes;
        }
        let since = SystemClock.now().mono;
        eventually(PATIENCE, async || {
            wanted(since.elapsed(), |it| *it >= KILLED_AFTER)
        })
        .await;
        env.daemon.kill().await;
    }
    unreachable!("it is given up")
}

#[tokio::test]
async fn after_a_cut_a_service_that_hangs_holds_up_no_other() {
    let mut took = Vec::new();
    for fault in [json!({}), json!({ "fault": "hang" })] {
        let vhost = Broker::shared().vhost();
        let proxy = TcpProxy::to(vhost.port()).await;
        let url = vhost.url_of("guest", proxy.port());
        let mut env = TestEnv::open_at(vhost, &url, two_origins(), "").await;
        let hanging = env.subscribe_at(0, fault);
        let fine = env.subscribe_at(1, json!({}));
        for n in 0..5 {
            let id = format!("hanging{n}");
            env.publish(&event(&id, &hanging, json!({}))).await;
        }
        env.arrived(&hanging.id, 5).await;
        proxy.cut();
        let since = SystemClock.now().mono;
        for n in 0..50 {
            let id = format!("fine{n}");
            env.publish(&event(&id, &fine, json!({}))).await;
        }
        let is_fine = |result: &Value| {
            let id = result["event_id"].as_str();
            is_delivery(result) && id.is_some_and(|id| id.starts_with("fine"))
        };
        env.gather(50, is_fine).await;
        took.push(since.elapsed());
    }
    println!(
        "50 events after a cut: {:?} alone, {:?} beside five that hang",
        took[0], took[1]
    );
    let most = took[0] + Duration::from_millis(1500);
    assert!(took[1] < most, "{took:?}");
}
