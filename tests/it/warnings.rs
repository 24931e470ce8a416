//! The first failure of each kind is a warning with what mends it; the next ones are not.

use std::time::Duration;

use rcgen::CertificateParams;
use serde_json::{Value, json};

use crate::support::env::TestEnv;
use crate::support::listeners::Listener;
use crate::support::node::free_ports;
use crate::support::{eventually, wanted};

/// Returns the warnings that say this.
fn warnings(env: &TestEnv, what: &str) -> Vec<String> {
    let log = env.daemon.log();
    let told = |line: &&str| line.contains(r#""level":"WARN""#) && line.contains(what);
    log.lines().filter(told).map(str::to_owned).collect()
}

/// Publishes an event for a subscription at a port.
async fn push_to(env: &TestEnv, port: u16, app: Option<&str>) {
    let mut subscription = serde_json::to_value(env.subscribe(json!({}))).unwrap();
    subscription["endpoint"] = Value::from(format!("https://127.0.0.1:{port}/push"));
    let event = json!({ "app": app, "subscription": subscription, "payload": "hello", "ttl": 600 });
    env.publish(&event).await;
}

#[tokio::test]
async fn the_first_failure_of_each_kind_is_a_warning_that_says_what_to_set() {
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let (stranger, _) = Listener::tls(certificate).await;
    let [nobody, forbidden] = free_ports();
    let ports = format!("guard.ports = [{}, {nobody}]", stranger.port);
    let env = TestEnv::open(&ports).await;
    for _ in 0..2 {
        push_to(&env, nobody, None).await;
        push_to(&env, stranger.port, None).await;
        push_to(&env, forbidden, None).await;
        push_to(&env, nobody, Some("shoop")).await;
    }
    for (metric, labels) in [
        ("pushrider_retries_total", r#"reason="network""#),
        ("pushrider_retries_total", r#"reason="tls""#),
        ("pushrider_messages_total", r#"reason="endpoint_forbidden""#),
        ("pushrider_messages_total", r#"reason="unknown_app""#),
    ] {
        eventually(Duration::from_secs(30), async || {
            let count = env.daemon.metric(metric, labels).await;
            wanted(count, |&count| count >= 2.0)
        })
        .await;
    }
    for (what, mend) in [
        (r#""fault":"connect""#, "push.proxy"),
        (r#""fault":"unknown_issuer""#, "push.ca_file"),
        (r#""reason":"endpoint_forbidden""#, "guard.ports"),
        (r#""reason":"unknown_app""#, "`shoop`"),
    ] {
        let warnings = warnings(&env, what);
        assert_eq!(warnings.len(), 1, "{what}: {warnings:#?}");
        assert!(warnings[0].contains(mend), "{what}: {warnings:#?}");
    }
}
