//! The whole way under load: a private broker, the real binary, the sandbox over TLS and HTTP/2.
//!
//! Prints events per second, CPU time per push, the time from publishing an event to its result, and
//! peak memory, beside the cost of one RFC 8291 encryption (C) on the same machine. C is measured before,
//! and again beside all that runs, where a neighbour of the machine slows both.
//! The same is printed for a bare worker ([`bare`]) after each round of the daemon.
//!
//! `cargo bench --bench e2e -- --events 20000 --latency 50ms`, `-- --paced 500`,
//! `-- --events 20 --recipients 1000`, `-- --failing 40 --subscriptions 20000`, `-- --daemons 2`
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench stops where it cannot be set up, and prints what it measured"
)]

#[expect(dead_code, reason = "the integration tests use the rest")]
#[path = "../../it/support/mod.rs"]
mod support;

mod bare;

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Parser;
use futures_util::StreamExt as _;
use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use pushrider::clock::{Clock, SystemClock};
use pushrider::ece::{Salt, SenderKey, aes128gcm};
use pushrider::sandbox;
use pushrider::sandbox::{Running, Script, SubscribeRequest};
use pushrider::subscription::{AuthSecret, Keys, UserAgentKey};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::process::Command;
use tokio::time::{Instant, interval, timeout};

use support::broker::Broker;
use support::daemon::Daemon;
use support::vhost::{Vhost, open};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The queue in which results are counted.
const RESULTS: &str = "bench.results";

/// How long the next result may take.
const PATIENCE: Duration = Duration::from_mins(1);

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
    /// Events to publish per second, while the daemon runs; all of them before it starts, without.
    #[arg(long)]
    paced: Option<u32>,
    /// Recipients of each event. The bare worker knows one.
    #[arg(long, default_value_t = 1)]
    recipients: usize,
    /// How many of 100 subscriptions answer every other push with 503 first. With fewer subscriptions than
    /// events, the second attempts can fail in a row, and the breaker opens.
    #[arg(long, default_value_t = 0)]
    failing: usize,
    /// Daemons on the same queues.
    #[arg(long, default_value_t = 1)]
    daemons: usize,
    /// Worker threads of each daemon [default: as many as it chooses].
    #[arg(long)]
    workers: Option<usize>,
    /// Leave the origins unlisted: such origins share half of the requests in flight.
    #[arg(long)]
    unlisted: bool,
    /// More lines of configuration.
    #[arg(long, default_value = "")]
    config: String,
    /// Leave the bare worker out.
    #[arg(long)]
    no_bare: bool,
    /// Be the bare worker for a broker.
    #[arg(long, hide = true)]
    be_bare: Option<String>,
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
    /// The same, beside the daemon, the broker and the receiver.
    encryption_micros_beside: f64,
    /// The milliseconds from publishing to the result, if events were paced: the median and the 99th
    /// percentile.
    latency: Option<(f64, f64)>,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    if let Some(amqp_url) = &args.be_bare {
        return bare::run(amqp_url).await;
    }
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
        "{} events of {} recipients and {} bytes, {} subscriptions at {} origins, receiver at {:?}",
        args.events, args.recipients, args.payload, args.subscriptions, args.origins, args.latency
    );
    println!(
        "round  worker     pushes/s  CPU µs/push   C µs  CPU/C  C beside   CPU/C  peak MiB  connections  p50 ms  p99 ms"
    );
    for number in 1..=args.rounds {
        let is_bare = [false, true].into_iter();
        for is_bare in is_bare.filter(|bare| !bare || (!args.no_bare && args.recipients == 1)) {
            let vhost = broker.vhost();
            let before: u64 = sandbox.stats().connections_opened.values().sum();
            let round = measure(&vhost, &sandbox, &bodies, &args, is_bare).await;
            let after: u64 = sandbox.stats().connections_opened.values().sum();
            print(number, is_bare, &round, after - before);
        }
    }
    sandbox.stop().await;
}

fn print(number: usize, is_bare: bool, round: &Round, connections: u64) {
    let worker = if is_bare { "bare" } else { "pushrider" };
    let latency = round.latency.map_or_else(
        || "      -       -".to_owned(),
        |(p50, p99)| format!("{p50:>7.1} {p99:>7.1}"),
    );
    println!(
        "{number:>5}  {worker:<9}  {:>8.0}  {:>11.1}  {:>5.1}  {:>5.2}  {:>8.1}  {:>6.2}  {:>8.1}  {connections:>11} {latency}",
        round.events_per_second,
        round.cpu_micros,
        round.encryption_micros,
        round.cpu_micros / round.encryption_micros,
        round.encryption_micros_beside,
        round.cpu_micros / round.encryption_micros_beside,
        round.peak_mebibytes,
    );
}

fn events(sandbox: &Running, args: &Args) -> Vec<String> {
    let subscribe = |n: usize| {
        // Spread, so that failures do not follow each other.
        let is_failing = n * 61 % 100 < args.failing;
        let request = SubscribeRequest {
            answer: if is_failing {
                failing()
            } else {
                Script::default()
            },
            origin: n % args.origins,
            ..SubscribeRequest::default()
        };
        sandbox.subscribe(request).unwrap()
    };
    let subscriptions: Vec<_> = (0..args.subscriptions).map(subscribe).collect();
    let payload = "x".repeat(args.payload);
    let subscription = |n: usize| &subscriptions[n % subscriptions.len()];
    let event = |n: usize| {
        let id = format!("e{n}");
        if args.recipients == 1 {
            return json!({ "id": id, "subscription": subscription(n), "payload": payload });
        }
        let recipients = (0..args.recipients)
            .map(|m| json!({ "subscription": subscription(n * args.recipients + m) }));
        json!({ "id": id, "recipients": recipients.collect::<Vec<_>>(), "payload": payload })
    };
    (0..args.events).map(|n| event(n).to_string()).collect()
}

/// Returns the script of a subscription that each event reaches at its second attempt.
fn failing() -> Script {
    let turns = [json!({ "status": 503 }), json!({ "status": 201 })];
    let answers: Vec<_> = turns.into_iter().cycle().take(1000).collect();
    serde_json::from_value(answers.into()).unwrap()
}

async fn measure(
    vhost: &Vhost,
    sandbox: &Running,
    bodies: &[String],
    args: &Args,
    is_bare: bool,
) -> Round {
    let more = configuration(sandbox, args);
    let mut daemons: Vec<_> = (0..args.daemons)
        .map(|_| Daemon::new(&vhost.url(), sandbox, &more))
        .collect();
    daemons[0].start().await;
    daemons[0].stop().await;
    vhost.queue(RESULTS, FieldTable::default()).await;
    vhost.bind(RESULTS, "webpush.results", "delivery.#").await;
    if args.paced.is_none() {
        publish(vhost, bodies).await;
    }
    let encryption_micros = encryption_micros(4000);
    let workers = args.workers.map(|workers| workers.to_string());
    let threads: Vec<&str> = workers.iter().flat_map(|it| ["--threads", it]).collect();
    for daemon in &mut daemons {
        if is_bare {
            daemon.spawn(bare_command(vhost)).await;
        } else {
            daemon.launch_with(&threads, &[]).await;
        }
    }
    let pushes = bodies.len() * args.recipients;
    let meter = EncryptionMeter::start();
    let (seconds, latency) = match args.paced {
        None => (count_results(vhost, pushes).await.0, None),
        Some(rate) => {
            let (counted, published) = futures_util::join!(
                count_results(vhost, pushes),
                publish_paced(vhost, bodies, rate)
            );
            (counted.0, Some(percentiles(&counted.1, &published)))
        }
    };
    let round = Round {
        events_per_second: pushes as f64 / seconds,
        cpu_micros: daemons.iter().map(|it| cpu_seconds(it.pid())).sum::<f64>() * 1e6
            / pushes as f64,
        peak_mebibytes: daemons.iter().map(Daemon::peak_kib).max().unwrap_or(0) as f64 / 1024.0,
        encryption_micros,
        encryption_micros_beside: meter.stop(),
        latency,
    };
    for daemon in &mut daemons {
        daemon.kill().await;
    }
    round
}

/// Returns what the daemon is configured with besides the defaults of the tests.
fn configuration(sandbox: &Running, args: &Args) -> String {
    let mut lines = vec!["log.filter = 'info'".to_owned()];
    if !args.unlisted {
        let listed = |origin: &String| format!("services.{origin:?}.as = 'other'");
        lines.extend(sandbox.origins().iter().map(listed));
    }
    lines.push(args.config.clone());
    lines.join("\n")
}

fn bare_command(vhost: &Vhost) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--be-bare", &vhost.url()]);
    command
}

async fn publish(vhost: &Vhost, bodies: &[String]) {
    vhost
        .publish_all("webpush.events", "shop.default", bodies)
        .await;
}

/// Publishes so many events a second, and returns when each was published.
async fn publish_paced(vhost: &Vhost, bodies: &[String], rate: u32) -> HashMap<String, Instant> {
    let (_connection, channel) = open(&vhost.url()).await;
    let mut published = HashMap::new();
    let mut ticks = interval(Duration::from_secs(1) / rate);
    for (n, body) in bodies.iter().enumerate() {
        ticks.tick().await;
        published.insert(format!("e{n}"), SystemClock.now().mono);
        let publishing = channel.basic_publish(
            "webpush.events".into(),
            "shop.default".into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            BasicProperties::default().with_delivery_mode(2),
        );
        publishing.await.unwrap();
    }
    published
}

/// Returns the median and the 99th percentile of the milliseconds from publishing to the result.
fn percentiles(
    results: &HashMap<String, Instant>,
    published: &HashMap<String, Instant>,
) -> (f64, f64) {
    let took = results
        .iter()
        .map(|(id, at)| (*at - published[id]).as_secs_f64() * 1e3);
    let mut took: Vec<f64> = took.collect();
    took.sort_by(f64::total_cmp);
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

/// Counts results until all have come; returns the seconds from the first to the last, and when the
/// last of each event came.
async fn count_results(vhost: &Vhost, count: usize) -> (f64, HashMap<String, Instant>) {
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
    let (mut came, mut begun) = (HashMap::new(), None);
    for _ in 0..count {
        let result = timeout(PATIENCE, results.next()).await;
        let result = result
            .expect("no result came for a minute")
            .unwrap()
            .unwrap();
        let now = SystemClock.now().mono;
        begun.get_or_insert(now);
        if let Some(id) = result.properties.correlation_id() {
            came.insert(id.to_string(), now);
        }
    }
    let seconds = (SystemClock.now().mono - begun.unwrap()).as_secs_f64();
    connection.close(200, "OK".into()).await.unwrap();
    (seconds, came)
}

/// Measures C, the processor time of one encryption of 300 bytes, sender key and salt included.
fn encryption_micros(times: u32) -> f64 {
    let agent = SenderKey::generate().unwrap();
    let keys = Keys {
        p256dh: UserAgentKey::from_bytes(agent.public_key()).unwrap(),
        auth: AuthSecret::new([7; 16]),
    };
    let begun = thread_seconds();
    for _ in 0..times {
        let (sender, salt) = (SenderKey::generate().unwrap(), Salt::random().unwrap());
        let body = aes128gcm::encrypt(&keys, &[b'x'; 300], 0, sender, salt);
        black_box(body.unwrap());
    }
    (thread_seconds() - begun) * 1e6 / f64::from(times)
}

/// Measures C now and then until it is told to stop, on a thread of its own.
struct EncryptionMeter {
    stop: Arc<AtomicBool>,
    measuring: JoinHandle<f64>,
}

impl EncryptionMeter {
    /// A millisecond of every forty, so that what is measured beside it is hardly disturbed.
    const TIMES: u32 = 16;
    const PAUSE: Duration = Duration::from_millis(40);

    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let measuring = thread::spawn(move || {
            let mut all = vec![encryption_micros(Self::TIMES)];
            while !stopped.load(Ordering::Relaxed) {
                thread::park_timeout(Self::PAUSE);
                all.push(encryption_micros(Self::TIMES));
            }
            all.iter().sum::<f64>() / all.len() as f64
        });
        Self { stop, measuring }
    }

    fn stop(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.measuring.thread().unpark();
        self.measuring.join().unwrap()
    }
}

/// Returns the processor time of this thread.
fn thread_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
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
