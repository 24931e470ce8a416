//! SIGHUP: another configuration for a daemon that runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pushrider::message::Name;
use pushrider::vapid::VapidKey;
use serde_json::json;

use crate::support::broker::Broker;
use crate::support::env::{TestEnv, event};
use crate::support::eventually;
use crate::support::proxy::TcpProxy;

fn key_pem() -> String {
    let key = VapidKey::generate(Name::parse("new").unwrap()).unwrap();
    key.to_pkcs8_pem().unwrap().expose().clone()
}

async fn result_of(env: &mut TestEnv, event: serde_json::Value) -> serde_json::Value {
    env.publish(&event).await;
    let id = event["id"].as_str().unwrap();
    env.results_of(id, 1).await.remove(0)
}

#[tokio::test]
async fn an_application_and_a_key_that_are_added_are_used() {
    let mut env = TestEnv::open("apps.shop.primary = 'main'").await;
    let one = env.subscribe(json!({ "status": 201 }));
    let event = |id: &str, app: &str| {
        let subscription = json!({ "endpoint": one.endpoint, "keys": one.keys });
        json!({ "id": id, "app": app, "subscription": subscription, "payload": "hello" })
    };
    let unknown = result_of(&mut env, event("e1", "blog")).await;
    assert_eq!(unknown["reason"], "unknown_app");

    env.daemon.write("new.pem", &key_pem());
    env.daemon.set("keys.new.private_key_file = 'new.pem'");
    env.daemon
        .set("apps.blog.subject = 'mailto:ops@example.org'");
    env.daemon.set("apps.blog.primary = 'new'");
    env.daemon.reload("applied").await;
    let known = result_of(&mut env, event("e2", "blog")).await;
    assert_eq!(
        (&known["outcome"], &known["vapid_key"]),
        (&json!("accepted"), &json!("new"))
    );
    let former = result_of(&mut env, event("e3", "shop")).await;
    assert_eq!(former["vapid_key"], "main");
    let (status, body) = env
        .daemon
        .get("/apps/blog/application-server-key")
        .await
        .unwrap();
    assert_eq!(status, 200, "{body}");
    let log = env.daemon.log();
    let line = log
        .lines()
        .find(|line| line.contains("configuration reloaded"));
    assert!(
        line.unwrap().contains(r#""sections":"apps, keys""#),
        "{line:?}"
    );
}

#[tokio::test]
async fn a_configuration_that_is_wrong_changes_nothing_and_says_why() {
    let mut env = TestEnv::open("").await;
    env.daemon
        .set("apps.blog.subject = 'mailto:ops@example.org'");
    env.daemon.set("push.timeout = 'soon'");
    env.daemon.reload("refused").await;
    let log = env.daemon.log();
    let errors: Vec<_> = log
        .lines()
        .filter(|line| line.contains(r#""ERROR""#))
        .collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    for words in ["push.timeout: ", "the former one still applies"] {
        assert!(errors[0].contains(words), "{errors:?}");
    }
    let one = env.subscribe(json!({ "status": 201 }));
    let subscription = json!({ "endpoint": one.endpoint, "keys": one.keys });
    let event =
        json!({ "id": "e1", "app": "blog", "subscription": subscription, "payload": "hello" });
    assert_eq!(result_of(&mut env, event).await["reason"], "unknown_app");
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_log_follows_its_filter() {
    let env = TestEnv::open("").await;
    env.daemon.set("lanes.default.prefetch = 7");
    env.daemon.set("admin.listen = '127.0.0.1:1'");
    env.daemon.set("log.filter = 'warn'");
    env.daemon.reload("applied").await;
    let log = env.daemon.log();
    let line = log
        .lines()
        .find(|line| line.contains("after a restart"))
        .unwrap();
    assert!(
        line.contains("admin.listen, lanes.default.prefetch"),
        "{line}"
    );
    assert!(
        !log.contains("configuration reloaded"),
        "the filter holds at once"
    );
    env.daemon.set("log.filter = 'info'");
    env.daemon.reload("applied").await;
    let log = env.daemon.log();
    assert!(log.contains("configuration reloaded"), "{log}");
}

#[tokio::test]
async fn no_event_is_lost_while_reloads_follow_each_other() {
    const EVENTS: usize = 400;
    let mut env = TestEnv::open("").await;
    let one = env.subscribe(json!({ "status": 201 }));
    let subscription = json!({ "endpoint": one.endpoint, "keys": one.keys });
    let published = AtomicBool::new(false);
    let publishing = async {
        for n in 0..EVENTS {
            let event =
                json!({ "id": format!("e{n}"), "subscription": subscription, "payload": "hello" });
            env.publish(&event).await;
        }
        published.store(true, Ordering::Relaxed);
    };
    let reloading = async {
        let mut count = 0;
        while !published.load(Ordering::Relaxed) {
            env.daemon
                .set(&format!("push.in_flight = {}", 200 + count % 2 * 100));
            env.daemon
                .set(&format!("push.idle_timeout = '{}s'", 60 + count));
            env.daemon.reload("applied").await;
            count += 1;
        }
        count
    };
    let ((), reloads) = tokio::join!(publishing, reloading);
    println!("{reloads} reloads");
    assert!(reloads > 2);
    env.gather(EVENTS, |result| result["outcome"] == "accepted")
        .await;
    env.settled().await;
    let outcomes = env.outcomes();
    assert_eq!(outcomes.len(), EVENTS);
    assert!(outcomes.values().all(|count| *count == 1), "{outcomes:?}");
    assert_eq!(env.sandbox.stats().requests, EVENTS as u64);
}

#[tokio::test]
async fn a_password_that_rotates_is_read_at_the_next_connect_and_told_to_the_living() {
    let mut env = TestEnv::open("").await;
    let fine = env.subscribe(json!({}));
    let (broker, vhost) = (Broker::shared(), env.vhost.name().to_owned());
    let user = format!("rotating-{vhost}");
    let proxy = TcpProxy::to(env.vhost.port()).await;
    let port = proxy.port();
    let url = |password: &str| format!("amqp://{user}:{password}@127.0.0.1:{port}/{vhost}\n");
    broker.control(&["add_user", &user, "first"]);
    broker.control(&["set_permissions", "-p", &vhost, &user, ".*", ".*", ".*"]);
    env.daemon.stop().await;
    env.daemon.write("url", &url("first"));
    let variables = [("PUSHRIDER_BROKER__URL_FILE", "url")];
    env.daemon.launch_with(&[], &variables).await;
    result_of(&mut env, event("e1", &fine, json!({}))).await;

    broker.control(&["change_password", &user, "second"]);
    env.daemon.write("url", &url("second"));
    proxy.cut();
    let result = result_of(&mut env, event("e2", &fine, json!({}))).await;
    assert_eq!(result["outcome"], "accepted");

    // RabbitMQ's internal users have passwords at login only: it takes any new one, also before it is set.
    env.daemon.write("url", &url("third"));
    let reconnects = env
        .daemon
        .metric("pushrider_broker_reconnects_total", "")
        .await;
    env.daemon.reload("applied").await;
    eventually(Duration::from_secs(20), async || {
        let told = "the broker was told the new password on each living connection";
        if env.daemon.log().contains(told) {
            Ok(())
        } else {
            Err("not told")
        }
    })
    .await;
    let result = result_of(&mut env, event("e3", &fine, json!({}))).await;
    assert_eq!(result["outcome"], "accepted");
    let after = env
        .daemon
        .metric("pushrider_broker_reconnects_total", "")
        .await;
    assert_eq!(after, reconnects, "the connection lives on");
    broker.control(&["change_password", &user, "third"]);
    proxy.cut();
    let result = result_of(&mut env, event("e4", &fine, json!({}))).await;
    assert_eq!(result["outcome"], "accepted");

    env.daemon.write("url", "second");
    proxy.cut();
    let result = result_of(&mut env, event("e5", &fine, json!({}))).await;
    assert_eq!(result["outcome"], "accepted");
    let log = env.daemon.log();
    assert!(log.contains("the former one is used"), "{log}");
    for password in ["second", "third"] {
        assert!(!log.contains(password), "no password is logged");
    }
}
