//! Recipients outside their delivery hours. It is noon in UTC.

use super::*;

fn between(from: &str, to: &str, zone: &str) -> Value {
    json!({ "from": from, "to": to, "zone": zone })
}

/// From 18:00 on; the wait is spread over a minute at most.
fn evening() -> Value {
    between("18:00", "18:10", "UTC")
}

#[tokio::test]
async fn an_event_waits_for_its_hours_and_uses_up_no_attempt() {
    let env = env([]);
    let body = event(json!({ "deliver_between": evening() }));
    let first = env.pipeline.process(&inbound(body)).await;
    // The jitter of these tests is 1.
    assert_eq!(outline(&first), ["wait 21660s quiet_hours 0 towards"]);
    env.clock.advance(Duration::from_secs(21_600));
    let early = env.pipeline.process(&returned(&first[0])).await;
    assert_eq!(outline(&early), ["wait 60s quiet_hours 0 towards"]);
    env.clock.advance(Duration::from_secs(60));
    let due = env.pipeline.process(&returned(&early[0])).await;
    assert_eq!(outline(&due), ["delivery.shop.accepted._ accepted"]);
    assert_eq!(parsed(&due[0])["attempts"], 1);
    assert_eq!(env.service.requests.lock()[0].headers["ttl"], "64740");
}

#[tokio::test]
async fn a_retry_that_comes_back_outside_its_hours_waits_for_the_next() {
    let env = env([Says::Status(503)]);
    let hours = between("08:00", "12:00:03", "UTC");
    let body = event(json!({ "deliver_between": hours }));
    let first = env.pipeline.process(&inbound(body)).await;
    assert_eq!(outline(&first), ["wait 5s service_unavailable 1"]);
    env.clock.advance(Duration::from_secs(5));
    let closed = env.pipeline.process(&returned(&first[0])).await;
    assert_eq!(outline(&closed), ["wait 72295s quiet_hours 1 towards"]);
    env.clock.advance(Duration::from_secs(72_295));
    let open = env.pipeline.process(&returned(&closed[0])).await;
    assert_eq!(outline(&open), ["delivery.shop.accepted._ accepted"]);
    let result = parsed(&open[0]);
    assert_eq!(
        (&result["attempts"], &result["requests"]),
        (&json!(2), &json!(2))
    );
}

#[tokio::test]
async fn what_would_wait_beyond_its_deadline_expires_at_once() {
    let env = env([]);
    let late = json!({ "deliver_between": evening(), "ttl": 3600 });
    for body in [
        event(late.clone()),
        json!({ "recipients": [{ "subscription": fcm("a"), "deliver_between": evening() }],
            "ttl": 3600 })
        .to_string(),
    ] {
        let ended = env.pipeline.process(&inbound(body)).await;
        assert_eq!(outline(&ended)[0], "delivery.shop.expired._ ttl_elapsed");
        let detail = parsed(&ended[0])["detail"].clone();
        assert_eq!(detail, plan::quiet_hours::OUTLASTS);
    }
}

#[tokio::test]
async fn a_recipients_own_hours_win_and_a_wrong_zone_fails_alone() {
    let env = env([]);
    let now = between("08:00", "21:30", "Europe/Berlin");
    let recipient =
        |token: &str, hours: Value| json!({ "subscription": fcm(token), "deliver_between": hours });
    let body = json!({ "deliver_between": evening(), "recipients": [
        recipient("a", Value::Null),
        recipient("b", now),
        recipient("c", evening()),
        recipient("d", between("08:00", "21:30", "Europe/Berln")),
        recipient("e", between("21:00", "21:10", "Asia/Tokyo")),
    ] })
    .to_string();
    let first = env.pipeline.process(&inbound(body)).await;
    let accepted = "delivery.shop.accepted._ accepted";
    // In Tokyo it is 21:00.
    let expected = [
        accepted,
        "delivery.shop.rejected._ invalid_schedule",
        accepted,
        "wait 21660s quiet_hours 0 towards",
        "summary.shop._",
    ];
    assert_eq!(outline(&first), expected);
    let detail = parsed(&first[1])["detail"].clone();
    let sentence =
        "recipients[3].deliver_between.zone: unknown time zone; did you mean `Europe/Berlin`?";
    assert_eq!(detail, sentence);
    let copy = &first[3];
    assert_eq!(parsed(copy)["recipients"].as_array().unwrap().len(), 2);
    assert_eq!(parsed(first.last().unwrap())["waiting"], 2);
    env.clock.advance(Duration::from_secs(21_660));
    let due = env.pipeline.process(&returned(copy)).await;
    assert_eq!(outline(&due), [accepted, accepted, "summary.shop._"]);
}

#[tokio::test]
async fn those_of_one_message_whose_hours_begin_later_wait_again() {
    let env = env([]);
    let recipient = |hour: u32| {
        let (from, to) = (format!("{hour}:00"), format!("{hour}:00:10"));
        json!({ "subscription": fcm(&from), "deliver_between": between(&from, &to, "UTC") })
    };
    let hours = [18, 19, 20].map(recipient);
    let body = json!({ "recipients": hours }).to_string();
    let first = env.pipeline.process(&inbound(body)).await;
    assert_eq!(outline(&first), ["wait 21601s quiet_hours 0 towards"]);
    env.clock.advance(Duration::from_secs(21_601));
    let second = env.pipeline.process(&returned(&first[0])).await;
    let accepted = "delivery.shop.accepted._ accepted";
    let [now, later, last, summary] = &outline(&second)[..] else {
        panic!("{:?}", outline(&second));
    };
    assert_eq!((&**now, &**summary), (accepted, "summary.shop._"));
    assert_eq!(later, "wait 3600s quiet_hours 0 towards");
    assert_eq!(last, "wait 7200s quiet_hours 0 towards");
}

/// Returns how many bytes some publications have.
fn size(publications: &[Publication]) -> usize {
    publications.iter().map(|one| one.body.len()).sum()
}

#[tokio::test]
async fn ten_thousand_who_wait_in_many_zones_take_few_messages_and_little_more_room() {
    const ZONES: [&str; 12] = [
        "Asia/Tokyo",
        "Asia/Kolkata",
        "Asia/Dubai",
        "Europe/Moscow",
        "Europe/Athens",
        "Europe/Berlin",
        "Europe/London",
        "America/Sao_Paulo",
        "America/New_York",
        "America/Chicago",
        "America/Denver",
        "America/Los_Angeles",
    ];
    let origins = [
        "https://fcm.googleapis.com/fcm/send",
        "https://web.push.apple.com",
    ];
    let env = env([]);
    // Somewhere it is noon at any time, so those hours are over everywhere.
    let recipient = |n: usize| {
        let endpoint = format!("{}/{n}", origins[n % origins.len()]);
        let hours = between("03:00", "03:30", ZONES[n % ZONES.len()]);
        json!({ "subscription": subscription(&endpoint), "deliver_between": hours })
    };
    let recipients: Vec<_> = (0..10_000).map(recipient).collect();
    let body = json!({ "id": "c", "payload": "x".repeat(500), "recipients": recipients });
    let body = body.to_string();
    let bound = body.len() + body.len() / 2;
    let chunks = env.pipeline.process(&inbound(body)).await.publications;
    assert!(
        size(&chunks) <= bound && chunks.len() < 240,
        "{} in {}",
        size(&chunks),
        chunks.len()
    );
    let mut copies = Vec::new();
    for chunk in chunks.iter() {
        let settled = env.pipeline.process(&returned(chunk)).await;
        let waits = settled
            .publications
            .iter()
            .filter(|one| one.kind == Kind::Retry);
        copies.extend(waits.cloned());
    }
    assert!(
        size(&copies) <= bound && copies.len() < 240,
        "{} in {}",
        size(&copies),
        copies.len()
    );
    let waiting = |copy: &Publication| parsed(copy)["recipients"].as_array().unwrap().len();
    assert_eq!(copies.iter().map(waiting).sum::<usize>(), 10_000);
    assert!(env.service.requests.lock().is_empty());
}
