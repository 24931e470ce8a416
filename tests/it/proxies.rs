//! The way to push services through a proxy, and faults of their TLS, as results and the log tell them.

use std::fs;

use pushrider::sandbox;
use serde_json::json;

use crate::cli_check::{configured, pushrider, text};
use crate::support::connect_proxy::ConnectProxy;
use crate::support::env::{TestEnv, event};

#[tokio::test]
async fn pushes_go_through_the_proxy_and_arrive_whole() {
    let proxy = ConnectProxy::start(None).await;
    let port = proxy.port();
    let more = format!("push.proxy = \"http://user:tr0ub4dor@127.0.0.1:{port}\"");
    let mut env = TestEnv::open(&more).await;
    let subscription = env.subscribe(json!({}));
    env.publish(&event("one", &subscription, json!({}))).await;
    let result = env.results_of("one", 1).await.remove(0);
    assert_eq!(result["outcome"], "accepted", "{result:#}");
    assert_eq!(env.arrived(&subscription.id, 1).await, ["hello"]);

    let origin = &env.sandbox.origins()[0];
    let target = origin.strip_prefix("https://").unwrap();
    let heads = proxy.heads();
    assert_eq!(heads.len(), 1, "{heads:?}");
    assert!(heads[0].starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")));
    // user:tr0ub4dor
    assert!(
        heads[0].contains("Basic dXNlcjp0cjB1YjRkb3I="),
        "{}",
        heads[0]
    );
    let log = env.daemon.log();
    assert!(
        !log.contains("tr0ub4dor") && !log.contains("dXNlcjp"),
        "{log}"
    );
    env.daemon.stop().await;
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_in_the_result_and_in_the_log() {
    for (refusal, says) in [
        (
            "407 Proxy Authentication Required",
            "does not accept the user and password (407)",
        ),
        ("403 Forbidden", "refuses to connect to the push service"),
    ] {
        let proxy = ConnectProxy::start(Some(refusal)).await;
        let port = proxy.port();
        let more = format!(
            "push.proxy = \"http://user:tr0ub4dor@127.0.0.1:{port}\"\nretry.max_attempts = 2"
        );
        let mut env = TestEnv::open(&more).await;
        let subscription = env.subscribe(json!({}));
        env.publish(&event("one", &subscription, json!({}))).await;
        let result = env.results_of("one", 1).await.remove(0);
        assert_eq!(result["outcome"], "failed", "{result:#}");
        assert_eq!(result["reason"], "network", "{result:#}");
        let sentence = format!("the proxy 127.0.0.1:{port} {says}");
        assert!(
            result["detail"].as_str().unwrap().starts_with(&sentence),
            "{result:#}"
        );
        let log = env.daemon.log();
        let warned = |line: &&str| line.contains("\"WARN\"") && line.contains(&sentence);
        assert_eq!(log.lines().filter(warned).count(), 1, "{log}");
        assert!(!log.contains("tr0ub4dor"), "{log}");
        env.daemon.stop().await;
    }
}

#[tokio::test]
async fn a_proxy_of_the_environment_diverts_no_request_and_is_warned_about() {
    let proxy = ConnectProxy::start(None).await;
    let url = format!("http://user:tr0ub4dor@127.0.0.1:{}", proxy.port());
    let variables = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"].map(|name| (name, &*url));
    let mut env = TestEnv::open("").await;
    env.daemon.stop().await;
    env.daemon.launch_with(&[], &variables).await;
    let subscription = env.subscribe(json!({}));
    env.publish(&event("one", &subscription, json!({}))).await;
    let result = env.results_of("one", 1).await.remove(0);
    assert_eq!(result["outcome"], "accepted", "{result:#}");
    assert_eq!(proxy.heads(), [""; 0]);
    let log = env.daemon.log();
    let warned = |line: &&str| {
        let words = ["WARN", "HTTPS_PROXY, https_proxy, ALL_PROXY", "push.proxy"];
        words.iter().all(|word| line.contains(word))
    };
    assert_eq!(log.lines().filter(warned).count(), 1, "{log}");
    assert!(!log.contains("tr0ub4dor"), "{log}");
    env.daemon.stop().await;
}

#[test]
fn check_warns_of_a_proxy_of_the_environment_and_prints_no_password() {
    let (_folder, file) = configured("");
    let variable = (
        "HTTPS_PROXY",
        "http://user:tr0ub4dor@proxy.example.org:3128",
    );
    let output = pushrider(&["check", "--config", &file], &[variable]);
    assert!(output.status.success(), "{output:?}");
    let warning = text(&output.stderr);
    assert_eq!(warning.lines().count(), 1, "{warning}");
    assert!(warning.starts_with("warning: push.proxy: the proxy of the environment (HTTPS_PROXY)"));
    assert!(!warning.contains("tr0ub4dor"), "{warning}");

    let arguments = ["check", "--print", "--config", &file];
    let output = pushrider(&arguments, &[("PUSHRIDER_PUSH__PROXY", variable.1)]);
    assert_eq!(text(&output.stderr), "");
    let printed = text(&output.stdout);
    assert!(
        printed.contains("\nproxy = \"(hidden)\"  # PUSHRIDER_PUSH__PROXY\n"),
        "{printed}"
    );
    assert!(!printed.contains("tr0ub4dor"), "{printed}");
}

/// The daemon trusts the CA of another sandbox.
#[tokio::test]
async fn a_fault_of_tls_is_in_the_result_of_an_expired_message_and_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let other = sandbox::start(sandbox::Settings::default()).await.unwrap();
    fs::write(&ca, other.ca_pem()).unwrap();
    let mut env = TestEnv::open(&format!("push.ca_file = {ca:?}")).await;
    let subscription = env.subscribe(json!({}));
    let brief = json!({ "ttl": 30 });
    env.publish(&event("one", &subscription, brief)).await;
    let result = env.results_of("one", 1).await.remove(0);
    assert_eq!(result["outcome"], "expired", "{result:#}");
    let sentence = "the issuer of the server's certificate is unknown here";
    let detail = result["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("(tls): {sentence}")), "{result:#}");
    assert!(detail.contains("push.ca_file"), "{result:#}");
    let log = env.daemon.log();
    let warned = |line: &&str| {
        let words = [
            "WARN",
            sentence,
            "push.ca_file",
            "unknown_issuer",
            "invalid peer certificate",
        ];
        words.iter().all(|word| line.contains(word))
    };
    assert_eq!(log.lines().filter(warned).count(), 1, "{log}");
    env.daemon.stop().await;
}
