//! `pushrider topology`, as an operator runs it.

use std::fs;
use std::process::Output;
use std::time::Duration;

use pushrider::sandbox;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli_check::{configured, pushrider, text};
use crate::interop::yaml;
use crate::support::broker::{Broker, RUNNER};
use crate::support::env::{TestEnv, event};
use crate::support::vhost::{Vhost, arguments};
use crate::support::{eventually, wanted};

/// Few bands, for each queue takes the broker a while.
const BANDS: &str = r#"["50ms", "150ms", "1s"]"#;

/// The configuration of an operator.
struct Operator {
    folder: TempDir,
    file: String,
}

impl Operator {
    fn new() -> Self {
        let (folder, file) = configured(&format!("[delay]\nbands = {BANDS}\n[lanes.high]\n"));
        Self { folder, file }
    }

    fn runs(&self, url: &str, arguments: &[&str]) -> Output {
        let arguments = [arguments, &["--config", &self.file]].concat();
        pushrider(&arguments, &[("AMQP_URL", url)])
    }

    fn declares(&self, url: &str) -> Output {
        self.runs(url, &["topology", "declare"])
    }

    fn shows(&self, url: &str, format: &str) -> String {
        let output = self.runs(url, &["topology", "show", "--format", format]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output.stderr), "");
        text(&output.stdout).to_owned()
    }

    /// Asserts that a daemon that declares would change nothing, and one that does not would run.
    fn finds_nothing_missing(&self, url: &str) {
        for declare in ["create", "passive"] {
            let set = format!("broker.declare={declare}");
            let output = self.runs(url, &["check", "--connect", "--set", &set]);
            assert!(output.status.success(), "{declare}: {output:?}");
            let found = "  found   22 exchanges and queues as configured\n";
            let told = text(&output.stdout);
            assert!(told.ends_with(found), "{output:?}");
            assert!(told.contains("\n  runs    RabbitMQ "), "{output:?}");
            assert_eq!(text(&output.stderr), "", "{output:?}");
        }
    }

    /// Asserts that many unacknowledged messages on one connection are warned of.
    fn warns_of_a_wide_prefetch(&self, url: &str) {
        let arguments = ["check", "--connect", "--set", "lanes.default.prefetch=1001"];
        let output = self.runs(url, &arguments);
        let warning = "warning: up to 1001 messages are unacknowledged on one connection";
        assert!(text(&output.stderr).starts_with(warning), "{output:?}");
    }
}

fn refused(output: &Output, because: &str) {
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let reason = text(&output.stderr);
    assert!(reason.contains(because), "{reason}");
}

#[test]
fn topology_needs_no_application_and_no_key() {
    let broker = [("AMQP_URL", "amqp://rabbit/shop")];
    let shown = pushrider(&["topology", "show"], &broker);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(text(&shown.stdout).starts_with("virtual host shop\n"));
    let arguments = ["topology", "show", "--set", "broker.prefix=A B"];
    let refused = pushrider(&arguments, &broker);
    assert_eq!(refused.status.code(), Some(78));
    let problem = text(&refused.stderr);
    assert!(problem.contains("broker.prefix: "), "{problem}");
}

#[tokio::test]
async fn what_is_declared_and_shown_is_all_that_a_user_of_least_privilege_needs() {
    let broker = Broker::shared();
    let vhost = broker.vhost();
    let operator = Operator::new();
    let declared = operator.declares(&vhost.url());
    assert!(declared.status.success(), "{declared:?}");
    operator.warns_of_a_wide_prefetch(&vhost.url());
    let lines: Vec<_> = text(&declared.stdout).lines().collect();
    assert_eq!(
        lines.last(),
        Some(&"22 made, 0 there already, 13 bindings in place")
    );
    assert_eq!(lines.len(), 23, "{lines:#?}");
    assert!(lines.contains(&"made queue webpush.due.high"), "{lines:#?}");
    let again = operator.declares(&vhost.url());
    assert!(again.status.success(), "{again:?}");
    assert_eq!(
        text(&again.stdout),
        "0 made, 22 there already, 13 bindings in place\n"
    );
    assert_eq!(text(&again.stderr), "");
    operator.finds_nothing_missing(&vhost.url());

    let shown = operator.shows(&vhost.url(), "json");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let permission = |name: &str| shown["permissions"][name].as_str().unwrap();
    let permissions = ["configure", "write", "read"].map(permission);
    let line = [
        &["set_permissions", "-p", vhost.name(), RUNNER][..],
        &permissions,
    ]
    .concat();
    broker.control(&line);
    every_way_of_a_message_is_open_to(RUNNER, vhost).await;
}

/// Sends an event that must wait once, and one that nobody understands.
async fn every_way_of_a_message_is_open_to(user: &str, vhost: Vhost) {
    let url = vhost.url_of(user, vhost.port());
    let more = format!("broker.declare = \"passive\"\ndelay.bands = {BANDS}\nlanes.high = {{}}");
    let mut env = TestEnv::open_at(vhost, &url, sandbox::Settings::default(), &more).await;
    let alice = env.subscribe(json!([{ "status": 503 }, { "status": 201 }]));
    env.publish(&event("e1", &alice, json!({}))).await;
    env.publish_bytes(b"not JSON").await;
    let results = env.results_of("e1", 1).await;
    assert_eq!(results[0]["outcome"], "accepted", "{results:#?}");
    assert_eq!(results[0]["attempts"], 2, "{results:#?}");
    // The sandbox keeps what it answered with 503 too.
    assert_eq!(env.arrived(&alice.id, 2).await, ["hello", "hello"]);
    eventually(Duration::from_secs(10), async || {
        wanted(env.vhost.depth("webpush.quarantine").await, |&depth| {
            depth == 1
        })
    })
    .await;
    env.settled().await;
    env.daemon.stop().await;
    let log = env.daemon.log();
    assert!(!log.contains("ACCESS_REFUSED"), "{log}");
    assert_eq!(log.matches("the broker is RabbitMQ ").count(), 1, "{log}");
}

#[tokio::test]
async fn imported_definitions_leave_nothing_to_declare() {
    let broker = Broker::shared();
    let vhost = broker.vhost();
    let operator = Operator::new();
    let definitions = operator.shows(&vhost.url(), "definitions");
    let file = operator.folder.path().join("definitions.json");
    fs::write(&file, definitions).unwrap();
    broker.control(&["import_definitions", file.to_str().unwrap()]);
    operator.finds_nothing_missing(&vhost.url());
    let declared = operator.declares(&vhost.url());
    assert_eq!(
        text(&declared.stdout),
        "0 made, 22 there already, 13 bindings in place\n"
    );

    let listed = broker.control(&["-q", "list_bindings", "-p", vhost.name(), "source_name"]);
    let ours = listed.lines().filter(|line| line.starts_with("webpush."));
    assert_eq!(ours.count(), 13, "{listed}");
    vhost.publish("webpush.events", "shop.high", b"hello").await;
    vhost.publish("webpush.events", "elsewhere", b"hello").await;
    for lane in ["webpush.lane.high", "webpush.lane.default"] {
        assert_eq!(vhost.take_texts(lane).await, ["hello"], "{lane}");
    }
}

#[tokio::test]
async fn a_policy_for_all_queues_applies_to_none_that_dead_letters_while_ours_stands() {
    let broker = Broker::shared();
    let vhost = broker.vhost();
    let operator = Operator::new();
    let definitions = operator.shows(&vhost.url(), "definitions");
    let file = operator.folder.path().join("definitions.json");
    fs::write(&file, definitions).unwrap();
    let name = vhost.name();
    let blanket = r#"{"expires": 100, "overflow": "drop-head", "max-length": 1}"#;
    broker.control(&["import_definitions", file.to_str().unwrap()]);
    let shown: Value = serde_json::from_str(&operator.shows(&vhost.url(), "json")).unwrap();
    let policies = || broker.control(&["-q", "list_queues", "-p", name, "name", "policy"]);
    let protected = || {
        let listed = policies();
        listed.matches("webpush-queues").count()
    };
    assert_eq!(protected(), 8);
    assert_eq!(shown["policies"][0]["name"], "webpush-queues");

    broker.control(&[
        "set_policy",
        "-p",
        name,
        "all",
        ".*",
        blanket,
        "--apply-to",
        "queues",
    ]);
    assert_eq!(protected(), 8);
    vhost
        .publish_numbered("webpush.events", "shop.high", 50)
        .await;
    assert_eq!(vhost.take_texts("webpush.lane.high").await.len(), 50);

    broker.control(&["clear_policy", "-p", name, "webpush-queues"]);
    eventually(Duration::from_secs(20), async || {
        wanted(policies(), |listed| !listed.contains("webpush.delay."))
    })
    .await;
}

#[tokio::test]
async fn what_the_broker_refuses_is_the_operators_and_what_differs_is_left() {
    let broker = Broker::shared();
    let vhost = broker.vhost();
    let operator = Operator::new();
    let runner = operator.declares(&vhost.url_of(RUNNER, vhost.port()));
    refused(&runner, "may not declare queue webpush.quarantine (403)");
    let outsider = operator.declares(&vhost.url_of("nobody", vhost.port()));
    assert_eq!(text(&outsider.stdout), "");
    refused(&outsider, "refuses the user name or the password (403)");

    vhost.queue("webpush.quarantine", arguments(&[])).await;
    let limit = [
        "set_vhost_limits",
        "-p",
        vhost.name(),
        r#"{"max-queues": 3}"#,
    ];
    broker.control(&limit);
    let limited = operator.declares(&vhost.url());
    refused(
        &limited,
        "does not let queue webpush.dead-subscriptions be made (406): ",
    );
    let made: Vec<_> = text(&limited.stdout).lines().collect();
    assert_eq!(made.first(), Some(&"made queue webpush.undeliverable"));
    assert_eq!(made.len(), 5, "{made:#?}");
    broker.control(&["clear_vhost_limits", "-p", vhost.name()]);

    let declared = operator.declares(&vhost.url());
    assert!(declared.status.success(), "{declared:?}");
    let warning = "warning: queue webpush.quarantine exists with other arguments";
    let told = text(&declared.stderr);
    assert!(
        told.starts_with(warning) && told.lines().count() == 1,
        "{told}"
    );
    let checked = operator.runs(&vhost.url(), &["check", "--connect"]);
    assert!(checked.status.success(), "{checked:?}");
    let which = "queue webpush.quarantine exists with other arguments than configured, and is used as \
                 it is: x-message-ttl is none, configured is 1209600000\n";
    assert!(text(&checked.stderr).contains(which), "{checked:?}");
    assert!(text(&checked.stdout).contains("as configured, 1 with other arguments\n"));
    let last = text(&declared.stdout).lines().last();
    assert_eq!(last, Some("16 made, 6 there already, 13 bindings in place"));
}

#[tokio::test]
async fn resources_for_kubernetes_are_yaml_and_need_the_name_of_the_cluster() {
    let operator = Operator::new();
    let runs = |arguments: &[&str]| {
        operator.runs(
            "amqp://rabbit",
            &[&["topology", "show"], arguments].concat(),
        )
    };
    let kubernetes = ["--format", "kubernetes"];
    let with_cluster = ["--format", "kubernetes", "--cluster", "rabbit"];
    for (arguments, problem) in [
        (&kubernetes[..], "needs --cluster NAME"),
        (&["--user", "push"], "only for --format kubernetes"),
        (&["--cluster", "rabbit"], "only for --format kubernetes"),
    ] {
        let refused = runs(arguments);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(text(&refused.stderr).contains(problem), "{refused:?}");
    }
    let shown = runs(&with_cluster);
    assert!(shown.status.success(), "{shown:?}");
    let read = yaml(text(&shown.stdout)).await;
    let kinds = |kind: &str| read.iter().filter(|it| it["kind"] == kind).count();
    assert_eq!(
        ["Policy", "Exchange", "Queue", "Binding", "Permission"].map(kinds),
        [1, 9, 13, 13, 0]
    );
    let json = operator.shows("amqp://rabbit", "json");
    let json: Value = serde_json::from_str(&json).unwrap();
    for queue in json["queues"].as_array().unwrap() {
        let spec = read.iter().map(|it| &it["spec"]);
        let mut same =
            spec.filter(|it| it["name"] == queue["name"] && it["deletionPolicy"] == "retain");
        assert_eq!(same.next().unwrap()["arguments"], queue["arguments"]);
        assert_eq!(same.next(), None);
    }
}

#[test]
fn the_table_needs_no_broker_and_shows_no_secret() {
    let operator = Operator::new();
    // Nobody listens on the port of tcpmux.
    let url = "amqp://admin:hunter2@127.0.0.1:1/o'clock";
    let table = operator.shows(url, "table");
    assert!(!table.contains("hunter2"), "{table}");
    for line in [
        "virtual host o'clock",
        "    x-dead-letter-routing-key = \"webpush.undeliverable\"",
        "  configure  ^$",
        r"  write      ^(amq\.default|webpush\.(results|control|delay\.[0-9a-z]+))$",
        r"  read       ^webpush\.((lane|due)\.[0-9a-z_-]+|undeliverable|control\.log)$",
    ] {
        assert!(table.lines().any(|it| it == line), "{line}\n{table}");
    }
    assert!(
        table.contains(
            r#"set_policy -p 'o'\''clock' --apply-to queues --priority 1000 'webpush-queues' '^webpush"#
        ),
        "{table}"
    );
    assert!(
        table.contains(r"set_permissions -p 'o'\''clock' USER '^$' '^(amq\.default|"),
        "{table}"
    );
    let away = operator.declares(url);
    assert_eq!(away.status.code(), Some(1), "{away:?}");
}
