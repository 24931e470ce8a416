//! The programs in examples/clients publish, take what comes back, and connect again.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::readme::python;
use crate::support::env::TestEnv;
use crate::support::proxy::TcpProxy;

/// Runs a client with one subscription that is gone, waits until it has told of that, cuts its connection,
/// and waits until it tells of the result of another event.
async fn runs(interpreter: &str, script: &str) {
    let mut env = TestEnv::open("").await;
    let proxy = TcpProxy::to(env.vhost.port()).await;
    let dead = env.subscribe(json!({ "status": 410 }));
    let modules = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("interop/node_modules");
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clients");
    let mut child = Command::new(interpreter)
        .args([clients.join(script).to_str().unwrap(), "shop"])
        .env("AMQP_URL", env.vhost.url_of("guest", proxy.port()))
        .env("NODE_PATH", modules)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{interpreter}: {error}; run tests/run.sh"));
    let mut input = child.stdin.take().unwrap();
    let subscription = serde_json::to_vec(&dead).unwrap();
    input.write_all(&subscription).await.unwrap();
    drop(input);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = async || {
        let line = timeout(Duration::from_secs(60), lines.next_line());
        let line = line.await.expect("it tells of a message").unwrap();
        line.expect("it goes on running")
    };
    let mut first = [told().await, told().await];
    first.sort();
    let [gone, result] = first;
    assert!(
        gone.starts_with(&format!("gone {} 20", dead.endpoint)),
        "{gone}"
    );
    assert!(result.ends_with("-1 gone unsubscribed"), "{result}");
    assert_eq!(
        env.gather(1, |it| it["reason"] == "unsubscribed")
            .await
            .len(),
        2
    );

    proxy.cut();
    let alive = env.subscribe(json!({}));
    let event = json!({ "id": "again", "subscription": alive, "payload": "hello" });
    env.publish(&event).await;
    assert_eq!(told().await, "result again accepted accepted");
}

#[tokio::test]
async fn the_client_in_python_publishes_consumes_and_connects_again() {
    runs(python().await, "client.py").await;
}

#[tokio::test]
async fn the_client_in_javascript_publishes_consumes_and_connects_again() {
    runs("node", "client.js").await;
}

#[tokio::test]
async fn the_client_in_php_publishes_consumes_and_connects_again() {
    runs("php", "client.php").await;
}

#[tokio::test]
async fn the_client_in_ruby_publishes_consumes_and_connects_again() {
    runs("ruby", "client.rb").await;
}
