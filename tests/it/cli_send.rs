//! `pushrider send`, as an operator runs it, against the sandbox.

use std::fs;
use std::process::{Output, Stdio};

use pushrider::sandbox;
use pushrider::sandbox::{Running, Script, SubscribeRequest};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use url::Url;

use crate::cli_check::{configured, text};

/// A sandbox, and a configuration that reaches it and names a broker that does not exist.
struct Scene {
    sandbox: Running,
    _folder: TempDir,
    file: String,
}

impl Scene {
    async fn open() -> Self {
        let sandbox = sandbox::start(sandbox::Settings::default()).await.unwrap();
        let origin = Url::parse(&sandbox.origins()[0]).unwrap();
        let port = origin.port_or_known_default().unwrap();
        let (folder, file) = configured(&format!(
            "[push]\nca_file = \"ca.pem\"\n[guard]\nallow = [\"127.0.0.0/8\"]\nports = [{port}]\n"
        ));
        fs::write(folder.path().join("ca.pem"), sandbox.ca_pem()).unwrap();
        Self {
            sandbox,
            _folder: folder,
            file,
        }
    }

    fn subscribe(&self, answers: Value) -> Value {
        let answer = Script::try_from(answers).unwrap();
        let request = SubscribeRequest {
            answer,
            ..SubscribeRequest::default()
        };
        serde_json::to_value(self.sandbox.subscribe(request).unwrap()).unwrap()
    }

    async fn send(&self, subscription: &str, arguments: &[&str]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pushrider"))
            .args(["send", "-", "--config", &self.file])
            .args(arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(subscription.as_bytes()).await.unwrap();
        drop(input);
        child.wait_with_output().await.unwrap()
    }

    fn arrived(&self) -> Vec<Option<String>> {
        let messages = self.sandbox.messages(None);
        messages.iter().map(|it| it.text.clone()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_without_a_broker() {
    let scene = Scene::open().await;
    let subscription = scene.subscribe(json!([{"answer": "accepted"}]));
    let arguments = ["--payload", "hello", "--ttl", "60", "--urgency", "high"];
    let output = scene.send(&subscription.to_string(), &arguments).await;
    assert!(output.status.success(), "{output:?}");
    let shown = text(&output.stdout);
    for part in ["outcome      accepted", "status       201", "message URL"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert_eq!(scene.arrived(), [Some("hello".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_another_library_is_sent_to() {
    let scene = Scene::open().await;
    let subscription = scene.subscribe(json!([{"answer": "accepted"}]));
    let row = json!({
        "endpoint": subscription["endpoint"],
        "public_key": subscription["keys"]["p256dh"],
        "auth_token": subscription["keys"]["auth"],
    });
    let output = scene.send(&row.to_string(), &["--json"]).await;
    assert!(output.status.success(), "{output:?}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["outcome"], "accepted");
    assert_eq!(scene.arrived(), [None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_accepted_is_told_with_status_1_and_not_tried_again() {
    let scene = Scene::open().await;
    for (answer, outcome, reason) in [
        (json!([{"status": 503}]), "failed", "service_unavailable"),
        (json!([{"answer": "gone"}]), "gone", "unsubscribed"),
    ] {
        let subscription = scene.subscribe(answer);
        let output = scene.send(&subscription.to_string(), &["--json"]).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&result["outcome"], &result["reason"]),
            (&json!(outcome), &json!(reason))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_not_json_is_told_to_the_person_and_not_quoted() {
    let scene = Scene::open().await;
    let output = scene.send("{\"endpoint\": secret", &[]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = text(&output.stderr);
    assert!(
        told.contains("standard input") && !told.contains("secret"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_the_request_and_sends_and_tells_no_secret() {
    let scene = Scene::open().await;
    let subscription = scene.subscribe(json!([{"answer": "accepted"}]));
    let endpoint = Url::parse(subscription["endpoint"].as_str().unwrap()).unwrap();
    let arguments = ["--payload", "hello", "--topic", "news", "--dry-run"];
    let output = scene.send(&subscription.to_string(), &arguments).await;
    assert!(output.status.success(), "{output:?}");
    let shown = text(&output.stdout);
    for part in [
        format!("POST {}/…", scene.sandbox.origins()[0]),
        "authorization: (hidden)".to_owned(),
        "content-encoding: aes128gcm".to_owned(),
        "topic: news".to_owned(),
        "ttl: 86400".to_owned(),
    ] {
        assert!(shown.contains(&part), "{part}\n{shown}");
    }
    assert!(
        !shown.contains(endpoint.path()) && !shown.contains("vapid t="),
        "{shown}"
    );
    assert_eq!(scene.arrived(), []);
}
