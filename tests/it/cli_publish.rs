//! `pushrider publish` and `pushrider results`, as an operator runs them.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::cli_check::{configured, text};
use crate::support::broker::Broker;
use crate::support::env::{TestEnv, event};
use crate::support::{eventually, wanted};

/// Starts a command in an empty environment.
pub(crate) fn spawn(file: &str, url: &str, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pushrider"))
        .args(arguments)
        .args(["--config", file])
        .env_clear()
        .env("AMQP_URL", url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn publish(url: &str, event: &Value, arguments: &[&str]) -> Output {
    let (_folder, file) = configured("");
    let mut child = spawn(&file, url, &[&["publish", "-"], arguments].concat());
    let mut input = child.stdin.take().unwrap();
    input.write_all(event.to_string().as_bytes()).await.unwrap();
    drop(input);
    child.wait_with_output().await.unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let lines = text(&output.stdout).lines();
    lines.map(|it| serde_json::from_str(it).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_published_and_its_result_printed() {
    let env = TestEnv::open("").await;
    let subscription = env.subscribe(json!([{"answer": "accepted"}]));
    let event = json!({"subscription": subscription, "payload": "hello"});
    let output = publish(&env.vhost.url(), &event, &["--wait", "--json"]).await;
    assert!(output.status.success(), "{output:?}");
    let results = lines(&output);
    assert_eq!(results.len(), 1);
    assert_eq!(results[0]["outcome"], "accepted");
    assert_eq!(env.arrived(&subscription_id(&env), 1).await, ["hello"]);
}

/// Returns the name of the sandbox's only subscription that got a message.
fn subscription_id(env: &TestEnv) -> String {
    env.sandbox.messages(None)[0].subscription.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_not_accepted_is_status_1() {
    let env = TestEnv::open("").await;
    let dead = env.subscribe(json!([{"answer": "gone"}]));
    let output = publish(
        &env.vhost.url(),
        &event("e1", &dead, json!({})),
        &["--wait"],
    )
    .await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("  gone  "), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_daemon_that_does_not_run_ends() {
    let mut env = TestEnv::open("").await;
    env.daemon.stop().await;
    let live = env.subscribe(json!([{"answer": "accepted"}]));
    let arguments = ["--wait", "--timeout", "1s"];
    let output = publish(&env.vhost.url(), &event("e1", &live, json!({})), &arguments).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("0 of 1 results"),
        "{output:?}"
    );
    assert_eq!(env.vhost.depth("webpush.lane.default").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_not_lost_where_nothing_was_declared() {
    let vhost = Broker::shared().vhost();
    let event = json!({"subscription": {"endpoint": "https://push.example.net/x"}});
    let output = publish(&vhost.url(), &event, &[]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("webpush.events"),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_followed_and_no_queue_is_left() {
    let env = TestEnv::open("").await;
    let (_folder, file) = configured("");
    let arguments = [
        "results",
        "--json",
        "--failures",
        "--group",
        "spring",
        "--count",
        "1",
    ];
    let mut child = spawn(&file, &env.vhost.url(), &arguments);
    let mut shown = BufReader::new(child.stdout.take().unwrap()).lines();
    let (live, dead) = (
        env.subscribe(json!([{"answer": "accepted"}])),
        env.subscribe(json!([{"answer": "gone"}])),
    );
    // Until its queue is bound, it sees nothing.
    let line = eventually(Duration::from_secs(30), async || {
        env.publish(&event("good", &live, json!({"group": "spring"})))
            .await;
        env.publish(&event("other", &dead, json!({"group": "autumn"})))
            .await;
        env.publish(&event("bad", &dead, json!({"group": "spring"})))
            .await;
        let line = timeout(Duration::from_secs(1), shown.next_line()).await;
        line.map(|line| line.unwrap().unwrap())
    })
    .await;
    let result: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&result["event_id"], &result["outcome"]),
        (&json!("bad"), &json!("gone"))
    );
    assert!(child.wait().await.unwrap().success());
    eventually(Duration::from_secs(10), async || {
        let listing = ["list_queues", "-p", env.vhost.name(), "name"];
        let queues = Broker::shared().control(&listing);
        wanted(queues, |it| {
            it.contains("webpush.") && !it.contains("amq.gen")
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_results_and_leaves_no_queue() {
    let env = TestEnv::open("").await;
    let (_folder, file) = configured("");
    let child = spawn(&file, &env.vhost.url(), &["results"]);
    let queues = async |is_followed: bool| {
        let listing = ["list_queues", "-p", env.vhost.name(), "name"];
        let queues = Broker::shared().control(&listing);
        wanted(queues, |it| {
            it.contains("webpush.") && it.contains("amq.gen") == is_followed
        })
    };
    eventually(Duration::from_secs(30), async || queues(true).await).await;
    let pid = child.id().unwrap().to_string();
    let killed = Command::new("kill").args(["-INT", &pid]).status().await;
    assert!(killed.unwrap().success());
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    eventually(Duration::from_secs(30), async || queues(false).await).await;
}

/// `script` of util-linux gives the command a terminal.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_the_results_of_a_group_have_a_progress_bar() {
    let env = TestEnv::open("").await;
    let (_folder, file) = configured("");
    let program = env!("CARGO_BIN_EXE_pushrider");
    let command = format!("{program} results --group spring --failures --config {file}");
    let mut child = Command::new("/usr/bin/script")
        .args(["-qefc", &command, "/dev/null"])
        .env_clear()
        .env("AMQP_URL", env.vhost.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("this test needs script: apt-get install bsdutils");
    let mut shown = child.stdout.take().unwrap();
    let live = env.subscribe(json!([{"answer": "accepted"}]));
    let mut screen = Vec::new();
    // Until its queue is bound, it sees nothing.
    eventually(Duration::from_secs(30), async || {
        env.publish(&event("e", &live, json!({"group": "spring"})))
            .await;
        let reading = timeout(Duration::from_secs(1), shown.read_buf(&mut screen));
        let _nothing = reading.await;
        let text = String::from_utf8_lossy(&screen).into_owned();
        wanted(text, |text| {
            text.contains("\r\u{1b}[Kspring  [") && text.contains("accepted ")
        })
    })
    .await;
    child.kill().await.unwrap();
}
