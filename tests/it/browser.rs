//! The application in examples/browser: its server beside the real broker, daemon and sandbox, and its service worker in
//! Node.js. The test stands in for the page.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pushrider::sandbox::SubscriptionJson;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::readme::python;
use crate::support::env::{TestEnv, event};
use crate::support::{eventually, wanted};

/// The server of the example.
struct Server {
    origin: String,
    /// Has the database.
    directory: TempDir,
    _child: Child,
}

impl Server {
    async fn start(env: &TestEnv) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/browser/server.py");
        let mut child = Command::new(python().await)
            .args([script.to_str().unwrap(), "shop"])
            .current_dir(directory.path())
            .env("AMQP_URL", env.vhost.url())
            .env("APPLICATION_SERVER_KEY", "AAEC-_8")
            .env("PORT", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(Duration::from_secs(30), lines.next_line()).await;
        let origin = line.expect("it starts").unwrap();
        Self {
            origin: origin.expect("it says where it listens"),
            directory,
            _child: child,
        }
    }

    /// Sends a request with these heads and returns the whole answer.
    async fn exchange(&self, request: &str, heads: &[&str], body: &str) -> String {
        let port = self.origin.rsplit(':').next().unwrap();
        let address = format!("127.0.0.1:{port}");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (heads, length) = (heads.join("\r\n"), body.len());
        let text =
            format!("{request} HTTP/1.1\r\n{heads}\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Asks as the page does, and returns status and body.
    async fn ask(&self, request: &str, body: &str) -> (u16, String) {
        let host = format!("Host: {}", self.origin.replace("http://", ""));
        let origin = format!("Origin: {}", self.origin);
        let answer = self.exchange(request, &[&host, &origin], body).await;
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (status(&answer), body)
    }

    /// Asks for what must be done.
    async fn does(&self, request: &str, body: Value) -> Value {
        let (status, answer) = self.ask(request, &body.to_string()).await;
        assert_eq!(status, 200, "{request}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    async fn store(&self, subscription: &SubscriptionJson) {
        let body = json!({ "subscription": subscription });
        self.does("POST /subscriptions", body).await;
    }

    async fn notify(&self, title: &str, declarative: bool) {
        let texts = json!({ "title": title, "body": "<b>Grüße</b>", "navigate": "/x", "declarative": declarative });
        self.does("POST /notifications", texts).await;
    }

    async fn counts(&self) -> Value {
        self.does("GET /counts", json!({})).await
    }

    /// Waits until these are the subscriptions in its database.
    async fn keeps(&self, subscriptions: &[&SubscriptionJson]) {
        let script = "import sqlite3\n\
            for row in sqlite3.connect('browser.db').execute('SELECT endpoint FROM subscriptions'): print(*row)";
        let wanted_endpoints: Vec<_> = subscriptions.iter().map(|it| &*it.endpoint).collect();
        eventually(Duration::from_secs(30), async || {
            let mut command = Command::new(python().await);
            command.args(["-c", script]).current_dir(&self.directory);
            let output = command.output().await.unwrap();
            let endpoints = String::from_utf8(output.stdout).unwrap();
            wanted(endpoints, |it| {
                it.lines().eq(wanted_endpoints.iter().copied())
            })
        })
        .await;
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn its_server_publishes_counts_who_saw_it_and_deletes_what_is_gone() {
    let env = TestEnv::open("").await;
    let server = Server::start(&env).await;
    let (alive, dead) = (
        env.subscribe(json!({})),
        env.subscribe(json!({ "status": 410 })),
    );
    server.store(&alive).await;
    server.store(&alive).await;
    server.store(&dead).await;
    assert_eq!(server.counts().await["subscriptions"], 2);

    server.notify("Shipped", false).await;
    let text = env.arrived(&alive.id, 1).await.remove(0);
    let message: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(message["title"], "Shipped");
    assert_eq!(message["body"], "<b>Grüße</b>");
    assert_eq!(message["navigate"], format!("{}/x", server.origin));
    let receipt = &message["data"]["receipt"];
    for _ in 0..2 {
        server
            .does("POST /receipts", json!({ "receipt": receipt }))
            .await;
    }
    let forged = receipt.as_str().unwrap().replacen('.', ".1", 1);
    let (status, said) = server
        .ask("POST /receipts", &json!({ "receipt": forged }).to_string())
        .await;
    assert_eq!((status, said.contains("signature")), (400, true), "{said}");
    let counted = json!([{ "title": "Shipped", "recipients": 2, "shown": 1 }]);
    assert_eq!(server.counts().await["notifications"], counted);
    server.keeps(&[&alive]).await;

    server.notify("Declared", true).await;
    let text = env.arrived(&alive.id, 2).await.remove(1);
    let message: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(message["web_push"], 8030);
    assert_eq!(message["notification"]["title"], "Declared");
    assert!(message["notification"]["data"]["receipt"].is_string());
}

#[tokio::test]
async fn its_server_keeps_a_subscription_that_was_renewed_after_the_push_was_sent() {
    let mut env = TestEnv::open("").await;
    let server = Server::start(&env).await;
    let renewed = env.subscribe(json!({ "status": 410, "delay": "2s" }));
    let dead = env.subscribe(json!({ "status": 410 }));
    server.store(&renewed).await;
    server.notify("Shipped", false).await;
    env.arrived(&renewed.id, 1).await;
    server.store(&renewed).await;
    server.store(&dead).await;
    env.gather(1, |it| it["change"] == "gone").await;
    // The queue keeps its order: what is deleted for the second event shows that the first one was taken.
    env.publish(&event("second", &dead, json!({}))).await;
    server.keeps(&[&renewed]).await;
    let endpoint = json!({ "endpoint": renewed.endpoint });
    server.does("DELETE /subscriptions", endpoint).await;
    server.keeps(&[]).await;
}

#[tokio::test]
async fn its_server_stores_a_new_subscription_in_place_of_the_previous_one() {
    let env = TestEnv::open("").await;
    let server = Server::start(&env).await;
    let (first, second) = (env.subscribe(json!({})), env.subscribe(json!({})));
    server.store(&first).await;
    let body = json!({ "subscription": second, "previous": first.endpoint });
    server.does("POST /subscriptions", body).await;
    server.notify("Shipped", false).await;
    env.arrived(&second.id, 1).await;
    assert!(env.sandbox.messages(Some(&first.id)).is_empty());
}

#[tokio::test]
async fn its_server_answers_its_own_page_alone() {
    let env = TestEnv::open("").await;
    let server = Server::start(&env).await;
    let host = format!("Host: {}", server.origin.replace("http://", ""));
    let origin = format!("Origin: {}", server.origin);
    let foreign = "Origin: https://evil.example";
    let by_name = host.replace("localhost", "evil.example");
    for (request, heads, expected) in [
        ("GET /", vec![&*host], 200),
        ("GET /?order=1", vec![&host], 200),
        ("GET /worker.js", vec![&host], 200),
        ("GET /key", vec![&host], 200),
        ("GET /key", vec![&by_name], 403),
        ("GET /key", vec!["Accept: */*"], 403),
        ("POST /receipts", vec![&host], 403),
        ("POST /receipts", vec![&host, foreign], 403),
        ("POST /receipts", vec![&host, "Origin: null"], 403),
        ("POST /receipts", vec![&by_name, &origin], 403),
        ("DELETE /subscriptions", vec![&host, foreign], 403),
        ("GET /../server.py", vec![&host], 404),
        ("GET /browser.db", vec![&host], 404),
    ] {
        let answer = server.exchange(request, &heads, "{}").await;
        assert_eq!(status(&answer), expected, "{request} {heads:?}");
        assert!(answer.contains("Content-Security-Policy: default-src 'self'"));
    }
}

#[tokio::test]
async fn its_server_says_what_is_wrong_with_a_request() {
    let env = TestEnv::open("").await;
    let server = Server::start(&env).await;
    let deep = "[".repeat(8000);
    for (request, body, expected) in [
        ("POST /subscriptions", "{", "JSON"),
        ("POST /subscriptions", "[]", "TypeError"),
        ("POST /subscriptions", &deep, "RecursionError"),
        (
            "POST /subscriptions",
            r#"{ "subscription": { "endpoint": 7, "keys": {} } }"#,
            "endpoint: expected a text",
        ),
        (
            "POST /subscriptions",
            r#"{ "subscription": { "endpoint": "https://push.example/1", "keys": { "auth": "" } } }"#,
            "p256dh: expected a text",
        ),
        ("DELETE /subscriptions", "{}", "endpoint: expected a text"),
        ("POST /receipts", r#"{ "receipt": "x" }"#, "ValueError"),
        ("POST /receipts", r#"{ "receipt": "a.b.é" }"#, "signature"),
        (
            "POST /notifications",
            r#"{ "title": "", "body": "", "navigate": "https://evil.example/" }"#,
            "navigate: expected a page of this site",
        ),
        (
            "POST /notifications",
            r#"{ "body": "", "navigate": "/" }"#,
            "title: expected a text",
        ),
    ] {
        let (status, said) = server.ask(request, body).await;
        assert_eq!(status, 400, "{body}: {said}");
        assert!(said.contains(expected), "{body}: {said}");
    }
    assert_eq!(server.counts().await["subscriptions"], 0);
}

#[tokio::test]
async fn its_service_worker_shows_every_push_and_subscribes_again() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/browser/worker.js");
    let mut command = Command::new("node");
    command.arg(script).kill_on_drop(true);
    let ran = timeout(Duration::from_secs(60), command.output());
    let output = ran.await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}
