//! `pushrider quarantine`, as an operator runs it.

use std::process::Output;
use std::time::Duration;

use lapin::BasicProperties;
use serde_json::{Value, json};
use tokio::process::Child;

use crate::cli_check::{configured, text};
use crate::cli_publish::spawn;
use crate::support::env::{TestEnv, event};
use crate::support::proxy::TcpProxy;
use crate::support::{eventually, wanted};

const QUEUE: &str = "webpush.quarantine";
const LANE: &str = "webpush.lane.default";

async fn quarantine(url: &str, arguments: &[&str]) -> Output {
    let (_folder, file) = configured("");
    let child = spawn(&file, url, &[&["quarantine"], arguments].concat());
    child.wait_with_output().await.unwrap()
}

async fn depth(env: &TestEnv, queue: &str, count: u32) {
    eventually(Duration::from_secs(30), async || {
        wanted(env.vhost.depth(queue).await, |&it| it == count)
    })
    .await;
}

/// Lists the ids in quarantine, once as many as expected are there.
async fn listed(env: &TestEnv, count: u32) -> Vec<Value> {
    depth(env, QUEUE, count).await;
    let output = quarantine(&env.vhost.url(), &["list", "--json"]).await;
    assert!(output.status.success(), "{output:?}");
    let lines = text(&output.stdout).lines();
    lines.map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// Opens an environment whose quarantine has events that a daemon with a low limit found too large.
async fn with_large(ids: &[&str]) -> TestEnv {
    let mut env = TestEnv::open("").await;
    let live = env.subscribe(json!([{"answer": "accepted"}]));
    env.daemon.stop().await;
    start_with_low_limit(&mut env).await;
    for (n, id) in ids.iter().enumerate() {
        let more = json!({"app": "shop", "payload": "hello".repeat(300)});
        let body = event(id, &live, more).to_string();
        let properties = BasicProperties::default().with_message_id((*id).into());
        let (exchange, key) = ("webpush.events", "shop.default");
        env.vhost
            .publish_with(exchange, key, body.as_bytes(), properties)
            .await;
        depth(&env, QUEUE, u32::try_from(n).unwrap() + 1).await;
    }
    env.daemon.stop().await;
    env
}

async fn start_with_low_limit(env: &mut TestEnv) {
    let arguments = ["--set", "events.max_size=1KiB"];
    env.daemon.launch_with(&arguments, &[]).await;
}

fn interrupt(child: &Child) {
    let pid = child.id().unwrap().to_string();
    let status = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(status.unwrap().success());
}

/// Replays everything through a proxy that loses the broker's confirm, and waits until it is lost.
async fn unconfirmed_replay(env: &TestEnv, proxy: &TcpProxy) -> Child {
    const BASIC: u8 = 60;
    const ACK: u8 = 80;
    proxy.lose(BASIC, ACK);
    let (_folder, file) = configured("");
    let url = env.vhost.url_of("guest", proxy.port());
    let child = spawn(&file, &url, &["quarantine", "replay", "--all"]);
    eventually(Duration::from_secs(30), async || {
        wanted(proxy.has_lost(), |&lost| lost)
    })
    .await;
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_says_why_and_leaves_every_message_in_its_place() {
    let env = with_large(&["e1", "e2", "e3"]).await;
    for reads in 0..3 {
        let rows = listed(&env, 3).await;
        for (row, id) in rows.iter().zip(["e1", "e2", "e3"]) {
            assert_eq!(row["id"], id, "{rows:?}");
            assert_eq!(row["reason"], "event_too_large");
            assert_eq!(row["app"], "shop");
            assert_eq!(row["routing_key"], "shop.default");
            // RabbitMQ 3.10 counts each return.
            assert_eq!(row["reads"], reads, "{row}");
        }
    }
    let url = env.vhost.url();
    let output = quarantine(&url, &["list", "--count", "2"]).await;
    assert_eq!(text(&output.stdout).lines().count(), 3, "{output:?}");
    assert!(text(&output.stderr).starts_with("1 more"), "{output:?}");
    depth(&env, QUEUE, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_shown_without_its_secrets_and_its_body_in_full_where_asked() {
    let env = with_large(&["e1"]).await;
    let url = env.vhost.url();
    let output = quarantine(&url, &["show", "e1"]).await;
    let shown = text(&output.stdout);
    assert!(
        shown.contains("x-pushrider-reason: event_too_large"),
        "{shown}"
    );
    assert!(shown.contains("\"auth\": \"(hidden: text)\""), "{shown}");
    assert!(!shown.contains("hellohello"), "{shown}");
    depth(&env, QUEUE, 1).await;
    let output = quarantine(&url, &["show", "e1", "--body"]).await;
    let body: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(body["payload"], "hello".repeat(300));
    depth(&env, QUEUE, 1).await;
    let output = quarantine(&url, &["show", "e2"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_refused_and_now_is_taken_is_replayed() {
    let mut env = with_large(&["e1", "e2"]).await;
    env.daemon
        .configure("apps.blog.subject = \"mailto:ops@example.org\"");
    env.daemon.start().await;
    let output = quarantine(&env.vhost.url(), &["replay", "--reason", "event_too_large"]).await;
    assert!(output.status.success(), "{output:?}");
    for id in ["e1", "e2"] {
        let results = env.results_of(id, 2).await;
        assert_eq!(results[0]["outcome"], "rejected");
        assert_eq!(results[1]["outcome"], "accepted");
    }
    depth(&env, QUEUE, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_refused_again_is_replayed_once() {
    let mut env = with_large(&["e1"]).await;
    start_with_low_limit(&mut env).await;
    let output = quarantine(&env.vhost.url(), &["replay", "--all"]).await;
    assert!(output.status.success(), "{output:?}");
    env.results_of("e1", 2).await;
    env.daemon.stop().await;
    depth(&env, QUEUE, 1).await;
    assert_eq!(env.results.len(), 2, "{:?}", env.results);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_before_the_acknowledgement_leaves_two() {
    let env = with_large(&["e1"]).await;
    let proxy = TcpProxy::to(env.vhost.port()).await;
    let mut child = unconfirmed_replay(&env, &proxy).await;
    child.kill().await.unwrap();
    depth(&env, LANE, 1).await;
    depth(&env, QUEUE, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_gives_back_what_is_held() {
    let env = with_large(&["e1"]).await;
    let proxy = TcpProxy::to(env.vhost.port()).await;
    let child = unconfirmed_replay(&env, &proxy).await;
    depth(&env, QUEUE, 0).await;
    interrupt(&child);
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("interrupted"), "{output:?}");
    depth(&env, QUEUE, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_removed_one_by_one_or_all_with_a_confirmation() {
    let env = with_large(&["e1", "e2", "e3"]).await;
    let url = env.vhost.url();
    let output = quarantine(&url, &["drop", "e2"]).await;
    assert!(output.status.success(), "{output:?}");
    let ids: Vec<_> = listed(&env, 2).await;
    assert_eq!((&ids[0]["id"], &ids[1]["id"]), (&json!("e1"), &json!("e3")));
    let output = quarantine(&url, &["drop", "--all"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    depth(&env, QUEUE, 2).await;
    let output = quarantine(&url, &["drop", "--all", "--yes"]).await;
    assert!(output.status.success(), "{output:?}");
    depth(&env, QUEUE, 0).await;
}
