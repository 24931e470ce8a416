//! What a campaign with a pace costs the broker while its recipients wait.
//!
//! `CAMPAIGN=1000000 cargo test --test it paced_campaign -- --nocapture` prints the figures of
//! systemd/README.md, "Sizing"; without the variable the campaign is a fiftieth of that.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pushrider::clock::{Clock, SystemClock};
use pushrider::sandbox;
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::env::TestEnv;
use crate::support::{eventually, wanted};

/// The recipients of one event.
const RECIPIENTS: usize = 10_000;

/// A million in two hours.
const PER_SECOND: usize = 139;

/// The bands of the defaults, since each hop costs.
const MORE: &str = r#"delay.bands = ["1s", "2s", "4s", "8s", "15s", "30s", "1m", "2m", "4m", "8m", "15m", "30m", "1h", "2h"]
apps.shop.results = "none"
log.filter = "info""#;

/// What the node has used and holds.
struct Cost {
    cpu_s: f64,
    resident_mib: u64,
    disk_mib: u64,
}

impl Cost {
    fn of(broker: &Broker) -> Self {
        let proc = Path::new("/proc").join(broker.pid().to_string());
        let stat = fs::read_to_string(proc.join("stat")).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: u64 = ticks.map(|it| it.parse::<u64>().unwrap()).sum();
        let status = fs::read_to_string(proc.join("status")).unwrap();
        let resident = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
        let kib = resident.unwrap().split_whitespace().next().unwrap();
        let disk = Command::new("du").arg("-sm").arg(broker.data()).output();
        let disk = String::from_utf8(disk.unwrap().stdout).unwrap();
        Self {
            cpu_s: ticks as f64 / 100.0,
            resident_mib: kib.parse::<u64>().unwrap() / 1024,
            disk_mib: disk.split_whitespace().next().unwrap().parse().unwrap(),
        }
    }

    fn print(&self, what: &str) {
        println!(
            "{what}: the broker has used {:.1} s of CPU, is resident with {} MiB and keeps {} MiB on disk",
            self.cpu_s, self.resident_mib, self.disk_mib
        );
    }
}

/// Returns how many messages wait in delay queues, and how many bytes they have. Of quorum queues
/// `list_queues` does not say.
fn waiting(broker: &Broker, vhost: &str) -> (u64, u64) {
    let sum = r#"lists:foldl(fun(Queue, {Messages, Bytes}) ->
        {resource, _, queue, Name} = amqqueue:get_name(Queue),
        case binary:match(Name, <<".delay.">>) of
            nomatch -> {Messages, Bytes};
            _ ->
                Query = fun rabbit_fifo:overview/1,
                {ok, {_, Seen}, _} = ra:local_query(amqqueue:get_pid(Queue), Query),
                {Messages + maps:get(num_messages, Seen),
                 Bytes + maps:get(enqueue_message_bytes, Seen)}
        end
    end, {0, 0}, rabbit_amqqueue:list(<<"VHOST">>))."#;
    let said = broker.control(&["eval", &sum.replace("VHOST", vhost)]);
    let numbers = said.trim().trim_matches(['{', '}']).split(',');
    let numbers: Vec<u64> = numbers.map(|it| it.parse().unwrap()).collect();
    (numbers[0], numbers[1])
}

/// Returns how many events the campaign has.
fn events() -> usize {
    let recipients = std::env::var("CAMPAIGN").ok();
    let recipients = recipients.map(|it| it.parse::<usize>().unwrap());
    recipients.unwrap_or(2 * RECIPIENTS).div_ceil(RECIPIENTS)
}

/// Publishes a campaign, and prints what it costs while at least so many messages wait.
async fn campaign(id: &str, messages: u64, more: impl Fn(usize) -> Value) {
    let broker = Broker::own();
    let vhost = broker.vhost();
    let (name, url) = (vhost.name().to_owned(), vhost.url());
    let quick = sandbox::Settings {
        decrypt: false,
        keep: 0,
        ..Default::default()
    };
    let env = TestEnv::open_at(vhost, &url, quick, MORE).await;
    let recipients: Vec<_> = (0..RECIPIENTS)
        .map(|_| json!({ "subscription": env.subscribe(json!({})) }))
        .collect();
    let before = Cost::of(&broker);
    before.print("at the start");
    let mut bytes = 0;
    for n in 0..events() {
        let mut event = more(n);
        event["id"] = format!("{id}-{n}").into();
        event["group"] = id.into();
        event["payload"] = "x".repeat(300).into();
        event["recipients"] = recipients.clone().into();
        let event = event.to_string();
        bytes += event.len() as u64;
        env.publish_bytes(event.as_bytes()).await;
    }
    let (messages, held) = eventually(Duration::from_secs(300), async || {
        let left = env.vhost.depth("webpush.lane.default").await;
        let (waiting, held) = waiting(&broker, &name);
        wanted((left, waiting, held), |it| it.0 == 0 && it.1 >= messages).map(|_| (waiting, held))
    })
    .await;
    let pushed = || env.sandbox.stats().statuses.get(&201).copied().unwrap_or(0);
    let taken_up = Cost::of(&broker);
    taken_up.print("taken up");
    println!(
        "{} events of {} MB in all: {messages} messages of {} MB wait, {} pushed",
        events(),
        bytes / 1_000_000,
        held / 1_000_000,
        pushed()
    );
    let (before, began) = (pushed(), SystemClock.now().mono);
    let some = u64::try_from(events() * RECIPIENTS / 100).unwrap();
    let count = eventually(Duration::from_secs(400), async || {
        wanted(pushed() - before, |count| *count >= some)
    })
    .await;
    let after = Cost::of(&broker);
    after.print("on its way");
    let seconds = (SystemClock.now().mono - began).as_secs_f64();
    println!(
        "{count} pushes in {seconds:.0} s: {:.2} ms of the broker's CPU each, {:.1} % of a core",
        (after.cpu_s - taken_up.cpu_s) * 1000.0 / count as f64,
        (after.cpu_s - taken_up.cpu_s) * 100.0 / seconds,
    );
}

#[tokio::test]
async fn events_that_divide_a_pace_wait_in_parts_of_a_second() {
    let pace = (PER_SECOND / events()).max(1);
    let parts = events() * RECIPIENTS / pace.min(50);
    // Of parts that are much larger than their event some are cut later.
    let some = u64::try_from(parts).unwrap() / 2;
    campaign("divided", some, |_| json!({ "max_per_second": pace })).await;
}

#[tokio::test]
async fn events_that_follow_each_other_wait_whole() {
    let start = SystemClock.now().wall;
    let follow = |n: usize| {
        let after = Duration::from_secs((n * RECIPIENTS / PER_SECOND) as u64);
        let due = jiff::Timestamp::try_from(start + after).unwrap();
        json!({ "max_per_second": PER_SECOND, "deliver_at": due.to_string() })
    };
    let others = u64::try_from(events()).unwrap() - 1;
    campaign("following", others, follow).await;
}
