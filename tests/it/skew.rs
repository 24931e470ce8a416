//! Clocks that disagree: a producer hours ahead or behind costs no message its life or its delay,
//! and this machine's own clock costs no push.

use std::time::{Duration, UNIX_EPOCH};

use jiff::Timestamp;
use lapin::BasicProperties;
use pushrider::clock::{Clock, SystemClock};
use pushrider::origin::Service;
use pushrider::sandbox;
use serde_json::{Value, json};

use crate::support::env::{TestEnv, event};
use crate::support::{eventually, wanted};

const HOUR: i64 = 3600;

/// Writes the time that is so many seconds from now.
fn at(seconds: i64) -> String {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemClock.now().wall;
    let moment = if seconds < 0 {
        now - distance
    } else {
        now + distance
    };
    format!("{:.3}", Timestamp::try_from(moment).unwrap())
}

/// The AMQP timestamp of so many seconds from now.
fn stamp(seconds: i64) -> u64 {
    let now = SystemClock.now().wall;
    let now = now.duration_since(UNIX_EPOCH).unwrap();
    now.as_secs().checked_add_signed(seconds).unwrap()
}

/// What becomes of an event: its reason, the TTL that is sent, and a part of its warnings.
type Expected = (
    &'static str,
    Option<std::ops::RangeInclusive<u64>>,
    &'static str,
);

#[tokio::test]
async fn a_producer_whose_clock_is_wrong_by_hours_is_served() {
    let mut env = TestEnv::open("").await;
    let sent = |ttl: u64| Some(ttl - 30..=ttl);
    let ahead = "created_at_in_future";
    let rows: [(&str, Value, Option<u64>, Expected); 12] = [
        (
            "created ahead",
            json!({ "created_at": at(5 * HOUR) }),
            None,
            ("accepted", sent(86_400), ahead),
        ),
        (
            "created ahead, now or never",
            json!({ "created_at": at(5 * HOUR), "ttl": 0 }),
            None,
            ("accepted", Some(0..=0), ahead),
        ),
        (
            "stamped ahead",
            json!({ "ttl": 600 }),
            Some(stamp(5 * HOUR)),
            ("accepted", sent(600), ahead),
        ),
        (
            "stamped in milliseconds",
            json!({ "ttl": 600 }),
            Some(stamp(0) * 1000),
            ("accepted", sent(600), ahead),
        ),
        (
            "stamped with nothing",
            json!({ "ttl": 600 }),
            Some(0),
            ("accepted", sent(600), ""),
        ),
        (
            "created behind",
            json!({ "created_at": at(-5 * HOUR) }),
            None,
            ("accepted", sent(19 * 3600), ""),
        ),
        (
            "created behind, short-lived",
            json!({ "created_at": at(-5 * HOUR), "ttl": 600 }),
            None,
            ("ttl_elapsed", None, ""),
        ),
        (
            "stamped behind, short-lived",
            json!({ "ttl": 600 }),
            Some(stamp(-5 * HOUR)),
            ("ttl_elapsed", None, ""),
        ),
        (
            "due hours ago",
            json!({ "created_at": at(-6 * HOUR), "deliver_at": at(-HOUR), "ttl": 7200 }),
            None,
            ("accepted", sent(3600), ""),
        ),
        (
            "due hours ago, of tomorrow",
            json!({ "created_at": at(24 * HOUR), "deliver_at": at(-HOUR), "ttl": 600 }),
            None,
            ("accepted", sent(600), ahead),
        ),
        (
            "expired hours ago",
            json!({ "expires_at": at(-HOUR) }),
            None,
            ("expires_at_passed", None, ""),
        ),
        (
            "expiring before it was created",
            json!({ "created_at": at(5 * HOUR), "expires_at": at(HOUR) }),
            None,
            ("accepted", sent(3600), ahead),
        ),
    ];
    for (id, more, timestamp, (reason, ttl, warning)) in rows {
        let one = env.subscribe(json!({}));
        let mut properties = BasicProperties::default();
        if let Some(timestamp) = timestamp {
            properties = properties.with_timestamp(timestamp);
        }
        let body = event(id, &one, more).to_string();
        env.vhost
            .publish_with(
                "webpush.events",
                "shop.default",
                body.as_bytes(),
                properties,
            )
            .await;
        let result = env.results_of(id, 1).await.remove(0);
        assert_eq!(result["reason"], reason, "{id}: {result:#}");
        let warnings = result["warnings"].to_string();
        assert!(warnings.contains(warning), "{id}: {warnings}");
        assert_eq!(warnings == "[]", warning.is_empty(), "{id}: {warnings}");
        let messages = env.sandbox.messages(Some(&one.id));
        let reported = messages.first().map(|it| it.ttl.clone().unwrap());
        let reported: Option<u64> = reported.map(|ttl| ttl.parse().unwrap());
        let as_expected = match (reported, &ttl) {
            (Some(reported), Some(ttl)) => ttl.contains(&reported),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        assert!(as_expected, "{id}: TTL {reported:?}, expected {ttl:?}");
    }
}

/// How far apart in seconds the clocks of different services are: more than is taken for equal.
const APART: i64 = 480;

/// How many hours a push service's clock is ahead of this machine's.
const HOURS: [i64; 10] = [-48, -20, -14, -13, -11, 11, 13, 14, 20, 48];

/// Returns whether a push service refuses a token that has expired there or ends more than a day
/// ahead.
fn checks_tokens(service: Service) -> bool {
    !matches!(service, Service::Ntfy | Service::NextPush)
}

#[tokio::test]
async fn a_machine_whose_clock_is_wrong_by_hours_signs_by_the_push_services_clock() {
    let clocks: Vec<_> = Service::ALL
        .iter()
        .copied()
        .zip(0i64..)
        .flat_map(|(service, n)| HOURS.map(|hours| (n, service, hours)))
        .collect();
    let settings = sandbox::Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap(); clocks.len()],
        services: clocks.iter().map(|(_, service, _)| *service).collect(),
        // No two agree: what two agree on would count for the others as well.
        clocks: clocks
            .iter()
            .map(|(n, _, hours)| hours * HOUR + n * APART)
            .collect(),
        ..sandbox::Settings::default()
    };
    let mut env = TestEnv::open_with(settings, "").await;
    for round in ["first", "second"] {
        for (origin, (_, service, hours)) in clocks.iter().enumerate() {
            let id = format!("{round} {} {hours}", service.name());
            let one = env.subscribe_at(origin, json!({}));
            env.publish(&event(&id, &one, json!({ "ttl": 600 }))).await;
        }
        let of_round = |it: &Value| {
            it["event_id"]
                .as_str()
                .is_some_and(|id| id.starts_with(round))
        };
        let results = env.gather(clocks.len(), of_round).await;
        let mut wrong = Vec::new();
        for result in &results {
            let id = result["event_id"].as_str().unwrap();
            let mut words = id.rsplit(' ');
            let hours: i64 = words.next().unwrap().parse().unwrap();
            let service = Service::named(words.next().unwrap()).unwrap();
            // A token is good for twelve hours and may be for a day.
            let refused = round == "first" && checks_tokens(service) && hours.abs() > 12;
            let expected = (json!("accepted"), json!(1), json!(1 + u64::from(refused)));
            let reported = ["outcome", "attempts", "requests"].map(|name| result[name].clone());
            if <(_, _, _)>::from(reported) != expected {
                wrong.push(format!("{result:#}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[tokio::test]
async fn a_clock_that_two_push_services_contradict_ends_no_message() {
    const DAY: i64 = 24 * HOUR;
    for ahead in [-2 * DAY, 2 * DAY] {
        let settings = sandbox::Settings {
            listen: vec!["127.0.0.1:0".parse().unwrap(); 2],
            services: vec![Service::Fcm, Service::Mozilla],
            clocks: vec![ahead; 2],
            ..sandbox::Settings::default()
        };
        let mut env = TestEnv::open_with(settings, "").await;
        let there = |seconds: i64| at(ahead + seconds);
        let first = [(json!({}), "accepted"), (json!({}), "accepted")];
        let (judged, scheduled) = if ahead < 0 {
            let judged = vec![
                (json!({ "expires_at": there(HOUR) }), "accepted"),
                (json!({ "expires_at": there(-HOUR) }), "expires_at_passed"),
                (
                    json!({ "created_at": there(-HOUR), "ttl": 7200 }),
                    "accepted",
                ),
                (
                    json!({ "created_at": there(-HOUR), "ttl": 600 }),
                    "ttl_elapsed",
                ),
            ];
            (judged, there(DAY))
        } else {
            let too_far = json!({ "deliver_at": there(31 * DAY) });
            (vec![(too_far, "invalid_schedule")], there(29 * DAY))
        };
        for (n, (more, reason)) in first.into_iter().chain(judged).enumerate() {
            let (id, one) = (format!("e{n}"), env.subscribe_at(n % 2, json!({})));
            env.publish(&event(&id, &one, more)).await;
            let result = env.results_of(&id, 1).await.remove(0);
            assert_eq!(result["reason"], reason, "{ahead} {id}: {result:#}");
        }
        // This machine's clock calls it due, or too far ahead.
        let one = env.subscribe(json!({}));
        let scheduled = json!({ "deliver_at": scheduled });
        env.publish(&event("scheduled", &one, scheduled)).await;
        let reason = "reason=\"scheduled\"";
        eventually(Duration::from_secs(20), async || {
            let waits = env.daemon.metric("pushrider_retries_total", reason);
            wanted(waits.await, |waits| *waits >= 1.0)
        })
        .await;
    }
}
