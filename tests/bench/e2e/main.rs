//! The whole way under load: a private broker with events preloaded, the real binary, the sandbox
//! over TLS and HTTP/2. Prints events per second, the daemon's CPU time per event and its peak
//! memory, beside the cost of one RFC 8291 encryption (C) on the same machine at the same time.
//!
//! `cargo bench --bench e2e -- --events 20000 --latency 50ms`
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench stops where it cannot be set up, and prints what it measured"
)]

#[expect(dead_code, reason = "the integration tests use the rest")]
#[path = "../it/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Duration;

use clap::Parser;
use futures_util::StreamExt as _;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use pushrider::clock::{Clock, SystemClock};
use pushrider::ece::{Salt, SenderKey, aes128gcm};
use pushrider::sandbox;
use pushrider::sandbox::{Running, Script, SubscribeRequest};
use pushrider::subscription::{AuthSecret, Keys, UserAgentKey};
use serde_json::json;

use support::broker::Broker;
use support::daemon::Daemon;
use support::vhost::{Vhost, open};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The queue in which results are counted.
const RESULTS: &str = "bench.results";

/// Measure the whole way under load.
#[derive(Parser)]
struct Args {
    /// Events to preload.
    #[arg(long, default_value_t = 20_000)]
    events: usize,
    /// Distinct subscriptions they go to.
    #[arg(long, default_value_t = 10_000)]
    subscriptions: usize,
    /// Origins these live at.
    #[arg(long, default_value_t = 4)]
    origins: usize,
    /// Bytes of each payload.
    #[arg(long, default_value_t = 300)]
    payload: usize,
    /// How long the receiver takes to answer.
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// Rounds, each with a daemon of its own.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// More lines of configuration.
    #[arg(long, default_value = "")]
    config: String,
    /// Set by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one round measured.
struct Round {
    events_per_second: f64,
    cpu_micros: f64,
    peak_mebibytes: f64,
    encryption_micros: f64,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let broker = Broker::own();
    let sandbox = sandbox::start(sandbox::Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap(); args.origins],
        latency: args.latency,
        keep: 0,
        decrypt: false,
        ..Default::default()
    })
    .await
    .unwrap();
    let bodies = events(&sandbox, &args);
    println!(
        "{} events of {} bytes, {} subscriptions at {} origins, receiver at {:?}",
        args.events, args.payload, args.subscriptions, args.origins, args.latency
    );
    println!("round  events/s  CPU µs/event      C µs  CPU/C  peak MiB  connections");
    for number in 1..=args.rounds {
        let vhost = broker.vhost();
        let before: u64 = sandbox.stats().connections_opened.values().sum();
        let round = measure(&vhost, &sandbox, &bodies, &args.config).await;
        let after: u64 = sandbox.stats().connections_opened.values().sum();
        println!(
            "{number:>5}  {:>8.0}  {:>12.1}  {:>8.1}  {:>5.2}  {:>8.1}  {:>11}",
            round.events_per_second,
            round.cpu_micros,
            round.encryption_micros,
            round.cpu_micros / round.encryption_micros,
            round.peak_mebibytes,
            after - before,
        );
    }
    sandbox.stop().await;
}

fn events(sandbox: &Running, args: &Args) -> Vec<String> {
    let subscribe = |n: usize| {
        let request = SubscribeRequest {
            answer: Script::default(),
            origin: n % args.origins,
            ..SubscribeRequest::default()
        };
        sandbox.subscribe(request).unwrap()
    };
    let subscriptions: Vec<_> = (0..args.subscriptions).map(subscribe).collect();
    let payload = "x".repeat(args.payload);
    let event = |n: usize| {
        let subscription = &subscriptions[n % subscriptions.len()];
        json!({ "id": format!("e{n}"), "subscription": subscription, "payload": payload })
            .to_string()
    };
    (0..args.events).map(event).collect()
}

async fn measure(vhost: &Vhost, sandbox: &Running, bodies: &[String], config: &str) -> Round {
    let more = format!("log.filter = 'info'\n{config}");
    let mut daemon = Daemon::new(&vhost.url(), sandbox, &more);
    daemon.start().await;
    daemon.stop().await;
    vhost.queue(RESULTS, FieldTable::default()).await;
    vhost.bind(RESULTS, "webpush.results", "delivery.#").await;
    vhost
        .publish_all("webpush.events", "shop.default", bodies)
        .await;

    let encryption_micros = encryption_micros();
    daemon.launch().await;
    let seconds = count_results(vhost, bodies.len()).await;
    let pid = daemon.pid();
    let round = Round {
        events_per_second: bodies.len() as f64 / seconds,
        cpu_micros: cpu_seconds(pid) * 1e6 / bodies.len() as f64,
        peak_mebibytes: daemon.peak_kib() as f64 / 1024.0,
        encryption_micros,
    };
    daemon.stop().await;
    round
}

/// Counts results until all have come; returns the seconds from the first to the last.
async fn count_results(vhost: &Vhost, count: usize) -> f64 {
    let (connection, channel) = open(&vhost.url()).await;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..Default::default()
    };
    let consumed = channel.basic_consume(
        RESULTS.into(),
        "bench".into(),
        options,
        FieldTable::default(),
    );
    let mut results = consumed.await.unwrap();
    results.next().await.unwrap().unwrap();
    let begun = SystemClock.now().mono;
    for _ in 1..count {
        results.next().await.unwrap().unwrap();
    }
    let seconds = (SystemClock.now().mono - begun).as_secs_f64();
    connection.close(200, "OK".into()).await.unwrap();
    seconds
}

/// Measures C: one encryption of 300 bytes, sender key and salt included.
fn encryption_micros() -> f64 {
    const TIMES: u32 = 4000;
    let agent = SenderKey::generate().unwrap();
    let keys = Keys {
        p256dh: UserAgentKey::from_bytes(agent.public_key()).unwrap(),
        auth: AuthSecret::new([7; 16]),
    };
    let begun = SystemClock.now().mono;
    for _ in 0..TIMES {
        let (sender, salt) = (SenderKey::generate().unwrap(), Salt::random().unwrap());
        let body = aes128gcm::encrypt(&keys, &[b'x'; 300], 0, sender, salt);
        black_box(body.unwrap());
    }
    (SystemClock.now().mono - begun).as_secs_f64() * 1e6 / f64::from(TIMES)
}

/// Returns the CPU time of a process, user and system, from its start.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    // USER_HZ is 100 on every Linux that this is built for.
    ticks as f64 / 100.0
}
