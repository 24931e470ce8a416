//! Several hosts: a cluster whose nodes die one after the other, and hosts that are not there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use pushrider::broker::{
    CommandClient, Declared, NeedsOperator, Settings, Source, check, declare_topology,
};
use pushrider::sandbox;
use pushrider::sandbox::{Running, Script, SubscribeRequest, SubscriptionJson};
use pushrider::secret::Secret;
use serde_json::{Value, json};
use tokio::task::block_in_place;
use tokio::time::{interval, timeout};

use crate::support::broker::Broker;
use crate::support::cluster::Cluster;
use crate::support::daemon::Daemon;
use crate::support::echo::{Echo, RESULTS, all_results, result, results, retry, settings};
use crate::support::env::{event, is_delivery};
use crate::support::node::free_ports;
use crate::support::vhost::Vhost;
use crate::support::{eventually, wanted};

const PATIENCE: Duration = Duration::from_secs(120);
const BOOK: &str = include_str!("../../systemd/README.md");

/// What a producer must do so that nothing is lost: use every host, wait for the confirm of each event,
/// and publish an event without one again, with the same id.
struct Producer {
    urls: Vec<String>,
    used: usize,
    open: Option<(Connection, Channel)>,
}

impl Producer {
    async fn publish(&mut self, event: &Value) {
        let body = event.to_string();
        while !matches!(
            timeout(Duration::from_secs(5), self.try_publish(&body)).await,
            Ok(Ok(Confirmation::Ack(None)))
        ) {
            self.open = None;
            self.used = (self.used + 1) % self.urls.len();
        }
    }

    async fn try_publish(&mut self, body: &str) -> lapin::Result<Confirmation> {
        if self.open.is_none() {
            let properties = ConnectionProperties::default();
            let connection = Connection::connect(&self.urls[self.used], properties).await?;
            let channel = connection.create_channel().await?;
            let confirming = channel.confirm_select(ConfirmSelectOptions::default());
            confirming.await?;
            self.open = Some((connection, channel));
        }
        let (_, channel) = self.open.as_ref().unwrap();
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let properties = BasicProperties::default().with_delivery_mode(2);
        let (exchange, key) = ("webpush.events".into(), "shop.default".into());
        let publishing = channel.basic_publish(exchange, key, options, body.as_bytes(), properties);
        publishing.await?.await
    }
}

fn subscribe(sandbox: &Running, answers: Value) -> SubscriptionJson {
    let answer = Script::try_from(answers).unwrap();
    let request = SubscribeRequest {
        answer,
        ..SubscribeRequest::default()
    };
    sandbox.subscribe(request).unwrap()
}

/// Waits until the daemon consumes from another node than that of a port, which was killed.
async fn consumes_elsewhere(daemon: &Daemon, killed: Option<u16>) {
    let killed = killed.map(|port| format!("127.0.0.1:{port}"));
    eventually(PATIENCE, async || {
        let log = daemon.log();
        let connected = log.lines().rfind(|line| line.contains("broker connected"));
        let is_killed = |line: &str| killed.as_ref().is_some_and(|killed| line.contains(killed));
        let is_there = connected.is_some_and(|line| !is_killed(line));
        let (status, body) = daemon.get("/readyz").await?;
        wanted((is_there, status, body), |(is_there, status, _)| {
            *is_there && *status == 200
        })
        .map_err(|seen| format!("{seen:?}"))
    })
    .await;
}

/// Publishes events until `done`; returns how many. Every tenth has to wait in a delay queue once.
async fn publish_until(
    done: &AtomicBool,
    urls: Vec<String>,
    sandbox: &Running,
    published: &AtomicUsize,
) -> usize {
    let mut producer = Producer {
        urls,
        used: 0,
        open: None,
    };
    let fine = subscribe(sandbox, json!({ "status": 201 }));
    let mut pace = interval(Duration::from_millis(10));
    let mut count = 0;
    while !done.load(Ordering::Relaxed) {
        pace.tick().await;
        let subscription = match count % 10 {
            0 => &subscribe(sandbox, json!([{ "status": 503 }, { "status": 201 }])),
            _ => &fine,
        };
        let event = event(&format!("e{count}"), subscription, json!({}));
        producer.publish(&event).await;
        count += 1;
        published.store(count, Ordering::Relaxed);
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_while_each_node_of_a_cluster_is_killed() {
    let cluster = block_in_place(Cluster::start);
    let vhost = cluster.nodes[0].vhost();
    let urls = cluster.urls(&vhost);
    let settings = sandbox::Settings {
        decrypt: false,
        ..Default::default()
    };
    let sandbox = sandbox::start(settings).await.unwrap();
    let mut daemon = Daemon::new(&urls[0], &sandbox, "");
    let list = format!("{urls:?}");
    let variables = [("PUSHRIDER_BROKER__URLS", list.as_str())];
    daemon.launch_with(&[], &variables).await;
    consumes_elsewhere(&daemon, None).await;
    results(&vhost).await;
    for node in &cluster.nodes {
        node.remembers(vhost.name(), RESULTS).await;
    }

    let (done, published) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut accepted = BTreeSet::new();
    let killing = async {
        for (index, node) in cluster.nodes.iter().enumerate() {
            has_published_50_more(&published).await;
            block_in_place(|| node.kill());
            consumes_elsewhere(&daemon, Some(node.port())).await;
            has_published_50_more(&published).await;
            // While the node is away, nothing that waits is held.
            let others = [1, 2].map(|next| &cluster.nodes[(index + next) % 3]);
            block_in_place(|| others.map(|node| dead_letter_anew(node, vhost.name())));
            let count = published.load(Ordering::Relaxed);
            gather(&vhost.at(others[0]), &mut accepted, count).await;
            block_in_place(|| node.restart());
        }
        done.store(true, Ordering::Relaxed);
    };
    let publishing = publish_until(&done, urls, &sandbox, &published);
    let (count, ()) = tokio::join!(publishing, killing);
    for node in &cluster.nodes {
        block_in_place(|| dead_letter_anew(node, vhost.name()));
    }
    gather(&vhost.at(&cluster.nodes[0]), &mut accepted, count).await;
    println!("{count} events, {} with a result", accepted.len());
    daemon.stop().await;
}

async fn has_published_50_more(published: &AtomicUsize) {
    let count = published.load(Ordering::Relaxed) + 50;
    eventually(PATIENCE, async || {
        wanted(published.load(Ordering::Relaxed), |seen| *seen >= count)
    })
    .await;
}

/// Takes results until the first `count` events are among those that were accepted.
async fn gather(vhost: &Vhost, accepted: &mut BTreeSet<String>, count: usize) {
    eventually(PATIENCE, async || {
        for body in vhost.take_all(RESULTS).await {
            let result: Value = serde_json::from_slice(&body).unwrap();
            if is_delivery(&result) && result["outcome"] == "accepted" {
                accepted.insert(result["event_id"].as_str().unwrap().to_owned());
            }
        }
        let events = (0..count).map(|number| format!("e{number}"));
        let missing: Vec<_> = events.filter(|event| !accepted.contains(event)).collect();
        wanted(missing, Vec::is_empty)
    })
    .await;
}

// Without the command, this fails on RabbitMQ 3.10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_for_waits_that_are_stuck_frees_them() {
    let broker = block_in_place(Broker::own);
    let vhost = broker.vhost();
    let echo = Echo::start(settings(vhost.url()), |inbound| match inbound.source {
        Source::Lane => retry(inbound, Duration::from_millis(50)),
        Source::Due | Source::Undeliverable => result(inbound),
    });
    echo.consumes().await;
    results(&vhost).await;
    let (exchange, key) = ("webpush.events", "shop.default");
    vhost.publish(exchange, key, b"comes back").await;
    all_results(&vhost, 1).await;
    let workers =
        "[exit(P, kill) || {_, P, _, _} <- supervisor:which_children(rabbit_fifo_dlx_sup)].";
    block_in_place(|| broker.control(&["eval", workers]));
    vhost.publish(exchange, key, b"stays").await;
    echo.has_acknowledged_all().await;
    block_in_place(|| dead_letter_anew(&broker, vhost.name()));
    all_results(&vhost, 1).await;
    echo.stop().await;
}

/// Types what the operator's book says to type where waits are stuck.
fn dead_letter_anew(node: &Broker, vhost: &str) {
    let (_, command) = BOOK.split_once("rabbitmqctl eval '").unwrap();
    let (command, _) = command.split_once('\'').unwrap();
    let command = command.replace("<<\"push\">>", &format!("<<\"{vhost}\">>"));
    let said = node.control(&["eval", &command]);
    assert!(!said.contains("error"), "{said}");
}

#[tokio::test]
async fn a_host_that_is_not_there_is_left_for_the_next_one() {
    let vhost = Broker::shared().vhost();
    let [dead] = free_ports();
    let hosts = Settings {
        urls: [dead, vhost.port()]
            .map(|port| Secret::new(vhost.url_of("guest", port)))
            .to_vec(),
        ..settings(vhost.url())
    };
    let nothing = format!("nothing listens at 127.0.0.1:{dead}");
    let inspected = check(&hosts).await.unwrap();
    assert!(inspected.away[0].starts_with(&nothing), "{inspected:?}");
    let echo = Echo::start(hosts.clone(), result);
    echo.consumes().await;
    assert!(echo.problems()[0].starts_with(&nothing));
    let (published, body) = (CommandClient::connect(&hosts).await.unwrap(), b"x");
    published
        .publish_event("shop.default", "m1", body)
        .await
        .unwrap();
    published.close().await;
    let mut declared = Declared::default();
    declare_topology(&hosts, &mut declared).await.unwrap();
    assert!(!declared.there.is_empty(), "{declared:?}");
    echo.stop().await;
}

#[tokio::test]
async fn where_no_host_is_there_each_is_named() {
    let ports: [u16; 2] = free_ports();
    let vhost = Broker::shared().vhost();
    let urls = ports.map(|port| Secret::new(vhost.url_of("guest", port)));
    let mut hosts = Settings {
        urls: urls.to_vec(),
        ..settings(vhost.url())
    };
    let said = check(&hosts).await.unwrap_err().to_string();
    for port in ports {
        let nothing = format!("nothing listens at 127.0.0.1:{port}");
        assert!(said.contains(&nothing), "{said}");
    }
    let refused = vhost.url().replace("guest:guest", "nobody:x");
    hosts.urls.push(Secret::new(refused));
    let refused = check(&hosts).await.unwrap_err();
    assert!(
        matches!(&refused, NeedsOperator::AtHost { act, .. } if **act == NeedsOperator::LoginRefused),
        "{refused}"
    );
    assert_eq!(Echo::start(hosts, result).ended().await, Err(refused));
}
