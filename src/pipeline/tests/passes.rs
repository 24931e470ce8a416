//! What a message brings along from one pass to the next.

use super::*;
use crate::wire::probe::Probe;

#[tokio::test]
async fn a_retry_remembers_what_was_tried_and_ends() {
    let env = env([Says::Status(503), Says::Status(503), Says::Status(503)]);
    let first = env.pipeline.process(&inbound(event(json!({})))).await;
    assert_eq!(outline(&first), ["wait 5s service_unavailable 1"]);
    env.clock.advance(Duration::from_secs(5));
    let second = env.pipeline.process(&returned(&first[0])).await;
    assert_eq!(outline(&second), ["wait 10s service_unavailable 2"]);
    env.clock.advance(Duration::from_secs(10));
    let third = env.pipeline.process(&returned(&second[0])).await;
    assert_eq!(
        outline(&third),
        ["delivery.shop.failed._ service_unavailable"]
    );
    let result = parsed(&third[0]);
    assert_eq!(
        (&result["attempts"], &result["requests"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(result["created_at"], "2026-11-21T12:00:00.000Z");
    let requests = env.service.requests.lock();
    let ttls: Vec<_> = requests
        .iter()
        .map(|request| request.headers["ttl"].clone())
        .collect();
    assert_eq!(ttls, ["86400", "86395", "86385"]);
}

#[tokio::test]
async fn what_expires_while_it_waits_tells_what_was_tried() {
    let env = env([Says::RetryAfter(503, "50")]);
    let first = env
        .pipeline
        .process(&inbound(event(json!({ "ttl": 60 }))))
        .await;
    assert_eq!(outline(&first), ["wait 50s service_unavailable 1"]);
    env.clock.advance(Duration::from_secs(61));
    let late = env.pipeline.process(&returned(&first[0])).await;
    assert_eq!(outline(&late), ["delivery.shop.expired._ ttl_elapsed"]);
    let result = parsed(&late[0]);
    assert_eq!(
        [&result["attempts"], &result["requests"], &result["status"]],
        [&json!(1), &json!(1), &json!(503)]
    );
    let detail = result["detail"].as_str().unwrap();
    assert!(detail.contains("service_unavailable"), "{detail}");
}

#[tokio::test]
async fn a_producer_cannot_forge_what_was_tried() {
    let env = env([Says::Status(503)]);
    let history = RetryHistory {
        attempts: 2,
        pass: 2,
        ..RetryHistory::default()
    };
    let forged = Inbound {
        properties: BasicProperties::default().with_headers(history.write()),
        ..inbound(event(json!({})))
    };
    let publications = env.pipeline.process(&forged).await;
    assert_eq!(outline(&publications), ["wait 5s service_unavailable 1"]);
}

#[tokio::test]
async fn what_the_service_did_not_process_is_sent_again_at_once() {
    let env = env([Says::Fails(Failure::NotProcessed), Says::Status(201)]);
    let publications = env.pipeline.process(&inbound(event(json!({})))).await;
    assert_eq!(
        outline(&publications),
        ["delivery.shop.accepted._ accepted"]
    );
    let result = parsed(&publications[0]);
    assert_eq!(
        (&result["attempts"], &result["requests"]),
        (&json!(1), &json!(2))
    );
}

#[tokio::test]
async fn a_schedule_waits_in_the_broker_and_ttl_counts_from_then() {
    let env = env([]);
    let later = json!({ "deliver_at": "2026-11-21T13:00:00Z", "ttl": 60 });
    let first = env.pipeline.process(&inbound(event(later))).await;
    assert_eq!(outline(&first), ["wait 3600s scheduled 0 towards"]);
    env.clock.advance(Duration::from_secs(1800));
    let early = env.pipeline.process(&returned(&first[0])).await;
    assert_eq!(outline(&early), ["wait 1800s scheduled 0 towards"]);
    env.clock.advance(Duration::from_secs(1800));
    let due = env.pipeline.process(&returned(&early[0])).await;
    assert_eq!(outline(&due), ["delivery.shop.accepted._ accepted"]);
    assert_eq!(env.service.requests.lock()[0].headers["ttl"], "60");
}

#[tokio::test]
async fn a_campaign_is_split_and_each_recipient_fares_by_itself() {
    let env = env([Says::Status(410), Says::Status(503), Says::Panics]);
    let whole = env.pipeline.process(&inbound(campaign(120))).await;
    assert_eq!(outline(&whole), vec!["chunk to default"; 3]);
    let chunk = env.pipeline.process(&returned(&whole[0])).await;
    let expected = outline(&chunk);
    let count = |what: &str| expected.iter().filter(|one| one.contains(what)).count();
    assert_eq!(count("accepted"), 47);
    assert_eq!(count("delivery.shop.gone"), 1);
    assert_eq!(count("subscription.shop.gone"), 1);
    assert_eq!(count("wait 5s service_unavailable 1"), 1);
    assert_eq!((count("internal_error"), count("quarantine")), (1, 1));
    assert_eq!(expected.last().unwrap(), "summary.shop._");
    let summary = parsed(chunk.last().unwrap());
    assert_eq!(summary["waiting"], 1, "{summary}");
    let copy = chunk.iter().find(|one| one.kind == Kind::Retry).unwrap();
    assert_eq!(parsed(copy)["recipients"].as_array().unwrap().len(), 1);
    env.clock.advance(Duration::from_secs(5));
    let again = env.pipeline.process(&returned(copy)).await;
    assert_eq!(
        outline(&again),
        ["delivery.shop.accepted._ accepted", "summary.shop._"]
    );
}

#[tokio::test]
async fn one_endpoint_twice_in_an_event_is_sent_once() {
    let env = env([]);
    let twice = json!({ "id": "e1", "payload": "x", "recipients": [
        { "subscription": fcm("a") }, { "subscription": fcm("a") },
    ] });
    assert_eq!(
        comes_to(&env, twice.to_string()).await,
        [
            "delivery.shop.accepted._ accepted",
            "delivery.shop.rejected._ duplicate_recipient",
            "summary.shop._"
        ]
    );
    assert_eq!(env.service.requests.lock().len(), 1);
}

#[tokio::test]
async fn two_accounts_on_one_browser_get_a_message_each() {
    let env = env([Says::Status(503), Says::Status(201)]);
    let to = |id: &str, more: Value| {
        let mut recipient = json!({ "id": id, "subscription": fcm("same") });
        let members = recipient.as_object_mut().unwrap();
        members.extend(more.as_object().unwrap().clone());
        recipient
    };
    let body = json!({ "id": "e1", "payload": "all", "recipients": [
        to("anna", json!({ "payload": "Anna, your parcel is here" })),
        to("ben", json!({ "payload": "Ben, your invoice is due" })),
        to("anna again", json!({ "payload": "Anna, your parcel is here" })),
        to("all", json!({})),
        to("all again", json!({ "payload_base64": "YWxs" })),
    ] });
    let first = env.pipeline.process(&inbound(body.to_string())).await;
    assert_eq!(
        outline(&first),
        [
            "delivery.shop.accepted._ accepted",
            "delivery.shop.rejected._ duplicate_recipient",
            "delivery.shop.accepted._ accepted",
            "delivery.shop.rejected._ duplicate_recipient",
            "wait 5s service_unavailable 1",
            "summary.shop._"
        ]
    );
    assert_eq!(env.service.requests.lock().len(), 3);
    env.clock.advance(Duration::from_secs(5));
    let copy = first.iter().find(|it| it.kind == Kind::Retry).unwrap();
    let second = env.pipeline.process(&returned(copy)).await;
    let results = first.iter().chain(second.iter());
    let results: Vec<_> = results.filter(|it| it.kind == Kind::Result).collect();
    let ids: HashSet<_> = results.iter().map(|it| &it.message_id).collect();
    assert_eq!((results.len(), ids.len()), (5, 5));
}

#[tokio::test]
async fn a_broken_row_and_the_good_row_beside_it_have_results_of_different_names() {
    let env = env([]);
    let broken = json!({ "endpoint": fcm("a")["endpoint"], "keys": {} });
    let body = json!({ "id": "e1", "payload": "x", "recipients": [
        { "subscription": broken }, { "subscription": fcm("a") }, { "subscription": fcm("a"), "topic": 5 },
    ] });
    let publications = env.pipeline.process(&inbound(body.to_string())).await;
    assert_eq!(
        outline(&publications)[..3],
        [
            "delivery.shop.rejected._ invalid_subscription",
            "delivery.shop.accepted._ accepted",
            "delivery.shop.rejected._ malformed_event",
        ]
    );
    let ids: HashSet<_> = publications.iter().map(|it| &it.message_id).collect();
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn results_are_narrowed_as_asked_but_the_dead_are_always_told() {
    for (results, says, publications) in [
        ("failures", 201, vec![]),
        (
            "failures",
            400,
            vec!["delivery.shop.rejected._ bad_request"],
        ),
        ("none", 400, vec![]),
        ("none", 410, vec!["subscription.shop.gone"]),
    ] {
        let env = env([Says::Status(says)]);
        assert_eq!(
            comes_to(&env, event(json!({ "results": results }))).await,
            publications
        );
    }
}

#[tokio::test]
async fn what_the_broker_gave_up_on_ends_in_a_result_and_the_quarantine() {
    for (death, publications) in [
        ("delivery_limit", "delivery.shop.rejected._ poison"),
        ("expired", "delivery.shop.expired._ producer_expiration"),
    ] {
        let env = env([]);
        let mut headers = lapin::types::FieldTable::default();
        headers.insert(
            "x-first-death-reason".into(),
            lapin::types::AMQPValue::LongString(death.into()),
        );
        let dead = Inbound {
            source: Source::Undeliverable,
            properties: BasicProperties::default().with_headers(headers),
            ..inbound(event(json!({})))
        };
        let expected = outline(&env.pipeline.process(&dead).await);
        assert_eq!(expected, ["quarantine", publications]);
        assert!(env.service.requests.lock().is_empty());
    }
}

#[tokio::test]
async fn in_dry_run_nothing_is_sent() {
    let env = env_of(app(Mode::DryRun), [], 100);
    assert_eq!(
        comes_to(&env, event(json!({}))).await,
        ["delivery.shop.accepted._ accepted"]
    );
    assert!(env.service.requests.lock().is_empty());
}

#[tokio::test]
async fn a_daemon_that_does_not_know_probes_of_delay_bands_settles_one_without_a_word() {
    let mut env = env([]);
    let noon = SystemTime::UNIX_EPOCH + NOON;
    let probe = Probe::new("1s", noon, 7);
    let inbound = Inbound {
        source: Source::Due,
        properties: BasicProperties::default()
            .with_message_id("probe-1s-1".into())
            .with_type(Kind::Retry.message_type().unwrap().into())
            .with_headers(probe.headers()),
        ..inbound(Probe::body())
    };
    assert_eq!(outline(&env.pipeline.process(&inbound).await), [""; 0]);
    // To no application, if there are several and none is the default one.
    let other = App {
        name: name("other"),
        ..app(Mode::Send)
    };
    let apps = [app(Mode::Send), other].map(Arc::new);
    env.pipeline.settings.apps = Apps::new(apps.to_vec());
    assert_eq!(outline(&env.pipeline.process(&inbound).await), [""; 0]);
    assert!(env.service.requests.lock().is_empty());
}
