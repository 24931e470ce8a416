//! What README shows works as it stands.

use std::time::Duration;

use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::broker::Broker;
use crate::support::env::TestEnv;
use crate::support::{eventually, wanted};

const README: &str = include_str!("../../README.md");

/// Takes the first block of code in a language.
fn block(language: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

/// Finds a Python that has pika, as the scripts do.
pub(crate) async fn python() -> &'static str {
    for python in ["python3", "/usr/bin/python3"] {
        let status = Command::new(python).args(["-c", "import pika"]).output();
        if status.await.is_ok_and(|output| output.status.success()) {
            return python;
        }
    }
    panic!("no Python with pika; run tests/run.sh, which installs it");
}

#[tokio::test]
async fn its_lines_of_python_publish_an_event_and_take_a_dead_subscription() {
    let env = TestEnv::open("").await;
    let dead = env.subscribe(json!({ "status": 410 }));
    let lines = block("python").replace("amqp://localhost", &env.vhost.url());
    // The loop goes on for ever; one round of it is enough here.
    let script = format!(
        "import json, sys\nsubscription = json.loads(sys.argv[1])\n{lines}    \
         print(dead['recipient']['endpoint'])\n    break\nchannel.connection.close()\n"
    );
    let mut command = Command::new(python().await);
    let subscription = serde_json::to_string(&dead).unwrap();
    command
        .args(["-c", &script, &subscription])
        .kill_on_drop(true);
    let ran = timeout(Duration::from_secs(30), command.output());
    let output = ran.await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let endpoint = String::from_utf8_lossy(&output.stdout);
    assert_eq!(endpoint.trim(), dead.endpoint);
    eventually(Duration::from_secs(10), async || {
        let left = env.vhost.depth("webpush.dead-subscriptions").await;
        wanted(left, |&left| left == 0)
    })
    .await;
}

#[tokio::test]
async fn the_quickstart_leaves_no_names_on_the_broker_it_is_given() {
    let broker = Broker::shared();
    let vhost = broker.vhost();
    let mut command = Command::new("examples/quickstart.sh");
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("AMQP_URL", vhost.url())
        .env("PUSHRIDER", env!("CARGO_BIN_EXE_pushrider"))
        .kill_on_drop(true);
    let ran = timeout(Duration::from_secs(120), command.output());
    let output = ran.await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let list = |what| broker.control(&["-q", what, "-p", vhost.name(), "name"]);
    for left in [list("list_queues"), list("list_exchanges")] {
        assert!(!left.contains("quickstart"), "{left}");
    }
}
