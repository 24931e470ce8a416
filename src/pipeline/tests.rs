//! Event bytes in, publications out: a scripted push service and a clock that stands still.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use lapin::BasicProperties;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{Pipeline, Settings};
use crate::broker::{Inbound, Pace, Publication, Route, Source};
use crate::clock::{FixedClock, FixedJitter};
use crate::gate;
use crate::gate::Gates;
use crate::guard;
use crate::message::{Name, Topic};
use crate::metrics::Metrics;
use crate::outcome::{Answer, Attempt, Failure};
use crate::plan;
use crate::plan::{App, Apps, EndpointForm, Mode, RequestRules, Results};
use crate::push_service::{PushRequest, Transport};
use crate::retry::Policy;
use crate::vapid::{KeyRing, Subject, VapidKey};
use crate::wire::Kind;
use crate::wire::headers::Passage;

mod keys;
mod seats;

/// 2026-11-21 12:00:00 UTC.
const NOON: Duration = Duration::from_secs(1_795_262_400);

const KEYS: &str = r#"{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}"#;

/// What the push service says to one request.
enum Says {
    Status(u16),
    RetryAfter(u16, &'static str),
    /// A status and a body.
    Text(u16, &'static str),
    /// A status, a body and the service's own clock.
    Dated(u16, &'static str, SystemTime),
    Fails(Failure),
    /// 201, once it is told to.
    Holds(Arc<Notify>),
    Panics,
}

/// A push service that answers from a script, then 201.
#[derive(Default)]
struct Scripted {
    script: Mutex<VecDeque<Says>>,
    requests: Mutex<Vec<PushRequest>>,
}

impl Transport for Arc<Scripted> {
    async fn post(&self, request: PushRequest, _deadline: Duration) -> Attempt {
        self.requests.lock().unwrap().push(request);
        let says = self
            .script
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Says::Status(201));
        let mut headers = HeaderMap::new();
        let mut body = "";
        let status = match says {
            Says::Status(status) => status,
            Says::Text(status, text) => {
                body = text;
                status
            }
            Says::Dated(status, text, at) => {
                body = text;
                let date = httpdate::fmt_http_date(at);
                headers.insert("date", HeaderValue::from_str(&date).unwrap());
                status
            }
            Says::RetryAfter(status, value) => {
                headers.insert("retry-after", HeaderValue::from_static(value));
                status
            }
            Says::Fails(failure) => return Attempt::Failed(failure),
            Says::Holds(told) => {
                told.notified().await;
                201
            }
            Says::Panics => panic!("scripted"),
        };
        headers.insert(
            "location",
            HeaderValue::from_static("https://fcm.googleapis.com/0:1%2"),
        );
        let status = StatusCode::from_u16(status).unwrap();
        Attempt::Answered(Answer {
            status,
            headers,
            excerpt: Bytes::from(body),
        })
    }
}

struct House {
    pipeline: Pipeline<Arc<Scripted>>,
    service: Arc<Scripted>,
    clock: Arc<FixedClock>,
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(super) fn app(mode: Mode) -> App {
    App {
        name: name("shop"),
        subject: Subject::parse("mailto:ops@example.org").unwrap(),
        ring: KeyRing {
            primary: Arc::new(VapidKey::generate(name("main")).unwrap()),
            older: Vec::new(),
        },
        ttl: 86_400,
        results: Results::All,
        mode,
        payload_limit: 3993,
        endpoint: EndpointForm::Full,
        requests: RequestRules::default(),
    }
}

fn house_of(app: App, script: impl IntoIterator<Item = Says>, in_flight: usize) -> House {
    house_with(app, script, in_flight, false)
}

fn house_with(
    app: App,
    script: impl IntoIterator<Item = Says>,
    in_flight: usize,
    replace_duplicates: bool,
) -> House {
    let service = Arc::new(Scripted {
        script: Mutex::new(script.into_iter().collect()),
        ..Scripted::default()
    });
    let clock = Arc::new(FixedClock::at(SystemTime::UNIX_EPOCH + NOON));
    let settings = Settings {
        apps: Apps::new(vec![Arc::new(app)]),
        event_limit: 4 << 20,
        plan: plan::Settings {
            chunk: 50,
            hold: Duration::from_secs(1),
            horizon: Duration::from_hours(30 * 24),
        },
        guard: Arc::new(guard::Rules::default()),
        retry: Policy {
            max_attempts: 3,
            base: Duration::from_secs(5),
            cap: Duration::from_secs(600),
            retry_after_cap: Duration::from_hours(24),
        }
        .into(),
        push_timeout: Duration::from_secs(20),
        replace_duplicates,
    };
    let gates = Gates::new(gate::Settings {
        in_flight,
        per_origin: in_flight,
        max_wait: Duration::from_secs(1),
        rate: None,
        breaker: gate::BreakerSettings {
            failures: 10,
            open: Duration::from_secs(5),
            open_cap: Duration::from_secs(300),
        },
    });
    let pipeline = Pipeline::new(
        settings,
        Arc::clone(&service),
        gates,
        Arc::new(Metrics::new().unwrap()),
        Arc::clone(&clock) as Arc<_>,
        Arc::new(FixedJitter(1.0)),
    );
    House {
        pipeline,
        service,
        clock,
    }
}

fn house(script: impl IntoIterator<Item = Says>) -> House {
    house_of(app(Mode::Send), script, 100)
}

fn inbound(body: impl Into<Bytes>) -> Inbound {
    Inbound {
        lane: name("default"),
        source: Source::Lane,
        body: body.into(),
        properties: BasicProperties::default(),
        redelivered: false,
    }
}

fn subscription(endpoint: &str) -> Value {
    json!({ "endpoint": endpoint, "keys": serde_json::from_str::<Value>(KEYS).unwrap() })
}

fn fcm(token: &str) -> Value {
    subscription(&format!("https://fcm.googleapis.com/fcm/send/{token}"))
}

fn event(more: Value) -> String {
    let mut event = json!({ "id": "e1", "subscription": fcm("a"), "payload": "hello" });
    event
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    event.to_string()
}

fn campaign(recipients: usize) -> String {
    let recipients: Vec<_> = (0..recipients)
        .map(|n| json!({ "id": n, "subscription": fcm(&n.to_string()) }))
        .collect();
    json!({ "id": "c1", "payload": "hello", "recipients": recipients }).to_string()
}

/// Tells each publication in a few words.
fn outline(publications: &[Publication]) -> Vec<String> {
    let tell = |publication: &Publication| match (&publication.to, publication.kind) {
        (Route::Results(key), Kind::Result) => {
            format!("{key} {}", parsed(publication)["reason"].as_str().unwrap())
        }
        (Route::Results(key), _) => key.clone(),
        (Route::Delay { after, pace, .. }, _) => {
            let passage = Passage::read(&publication.headers);
            let waiting = passage.waiting.unwrap().name();
            let pace = if *pace == Pace::Towards {
                " towards"
            } else {
                ""
            };
            format!(
                "wait {}s {waiting} {}{pace}",
                after.as_secs(),
                passage.attempts
            )
        }
        (Route::Due(lane), _) => format!("chunk to {lane}"),
        (Route::Quarantine, _) => "quarantine".to_owned(),
    };
    publications.iter().map(tell).collect()
}

fn parsed(publication: &Publication) -> Value {
    serde_json::from_slice(&publication.body).unwrap()
}

async fn comes_to(house: &House, body: String) -> Vec<String> {
    outline(&house.pipeline.process(&inbound(body)).await)
}

/// What a copy that waited brings back.
fn returned(publication: &Publication) -> Inbound {
    Inbound {
        source: Source::Due,
        properties: BasicProperties::default()
            .with_message_id(publication.message_id.as_str().into())
            .with_headers(publication.headers.clone()),
        ..inbound(publication.body.clone())
    }
}

#[tokio::test]
async fn every_answer_has_its_publications() {
    for (says, owed) in [
        (Says::Status(201), vec!["delivery.shop.accepted._ accepted"]),
        (
            Says::Status(410),
            vec![
                "delivery.shop.gone._ unsubscribed",
                "subscription.shop.gone",
            ],
        ),
        (
            Says::Status(404),
            vec!["delivery.shop.gone._ not_found", "subscription.shop.gone"],
        ),
        (
            Says::Status(400),
            vec!["delivery.shop.rejected._ bad_request"],
        ),
        (
            Says::Status(413),
            vec!["delivery.shop.rejected._ payload_too_large"],
        ),
        (
            Says::Status(301),
            vec!["delivery.shop.rejected._ redirected"],
        ),
        (Says::Status(503), vec!["wait 5s service_unavailable 1"]),
        (Says::RetryAfter(429, "120"), vec!["wait 120s throttled 1"]),
        (
            Says::RetryAfter(429, "nonsense"),
            vec!["wait 5s throttled 1"],
        ),
        (
            Says::RetryAfter(503, "999999999"),
            vec!["delivery.shop.expired._ ttl_elapsed"],
        ),
        (Says::Fails(Failure::Timeout), vec!["wait 5s timeout 1"]),
        (Says::Fails(Failure::Dns), vec!["wait 5s dns 1"]),
        (
            Says::Fails(Failure::ForbiddenAddress),
            vec!["delivery.shop.rejected._ endpoint_forbidden"],
        ),
        (
            Says::Panics,
            vec!["quarantine", "delivery.shop.rejected._ internal_error"],
        ),
    ] {
        let house = house([says]);
        assert_eq!(comes_to(&house, event(json!({}))).await, owed);
    }
}

#[tokio::test]
async fn a_result_says_what_happened() {
    let house = house([]);
    let owed = house
        .pipeline
        .process(&inbound(event(json!({ "metadata": { "order": 7 } }))))
        .await;
    let result = parsed(&owed[0]);
    for (member, value) in [
        ("event_id", json!("e1")),
        ("app", json!("shop")),
        ("push_service", json!("fcm")),
        ("status", json!(201)),
        ("attempts", json!(1)),
        ("requests", json!(1)),
        ("message_url", json!("https://fcm.googleapis.com/0:1%2")),
        ("vapid_key", json!("main")),
        ("sent_at", json!("2026-11-21T12:00:00.000Z")),
        ("metadata", json!({ "order": 7 })),
    ] {
        assert_eq!(result[member], value, "{member}");
    }
}

#[tokio::test]
async fn the_request_carries_what_is_left_of_the_lifetime() {
    let house = house([]);
    let created = json!({ "created_at": "2026-11-21T11:59:00Z", "ttl": 100, "urgency": "high" });
    comes_to(&house, event(created)).await;
    let requests = house.service.requests.lock().unwrap();
    assert_eq!(requests[0].headers["ttl"], "40");
    assert_eq!(requests[0].headers["urgency"], "high");
    assert_eq!(requests[0].headers["content-encoding"], "aes128gcm");
    assert!(
        requests[0].headers["authorization"]
            .to_str()
            .unwrap()
            .starts_with("vapid t=")
    );
}

#[tokio::test]
async fn two_pushes_of_one_text_have_nothing_in_common() {
    let house = house([]);
    comes_to(&house, event(json!({ "id": "e1" }))).await;
    comes_to(&house, event(json!({ "id": "e2" }))).await;
    let requests = house.service.requests.lock().unwrap();
    assert_ne!(requests[0].body[..16], requests[1].body[..16], "the salt");
    assert_ne!(
        requests[0].body[21..86],
        requests[1].body[21..86],
        "the sender key"
    );
    let tokens: Vec<_> = requests
        .iter()
        .map(|request| &request.headers["authorization"])
        .collect();
    assert_eq!(tokens[0], tokens[1], "one token serves an origin");
}

#[tokio::test]
async fn bad_input_costs_one_message_and_is_explained() {
    for (body, result) in [
        ("", "delivery.shop.rejected._ malformed_event"),
        ("null", "delivery.shop.rejected._ malformed_event"),
        ("[]", "delivery.shop.rejected._ malformed_event"),
        ("{\"id\":", "delivery.shop.rejected._ malformed_event"),
        (r#"{"id":"e1"}"#, "delivery.shop.rejected._ malformed_event"),
        (
            r#"{"app":"x","label":"l"}"#,
            "delivery._unknown.rejected.l malformed_event",
        ),
    ] {
        let house = house([]);
        let owed = house.pipeline.process(&inbound(body)).await;
        assert_eq!(outline(&owed), ["quarantine", result], "{body}");
        assert_eq!(owed[0].body, body);
        let detail = parsed(&owed[1])["detail"].to_string();
        assert!(
            detail.len() > 20 && !detail.contains("serde"),
            "{body}: {detail}"
        );
        assert!(house.service.requests.lock().unwrap().is_empty());
    }
    let house = house([]);
    let large = comes_to(&house, " ".repeat((4 << 20) + 1)).await;
    assert_eq!(
        large,
        ["quarantine", "delivery.shop.rejected._ event_too_large"]
    );
}

#[tokio::test]
async fn a_message_of_another_type_is_not_taken_for_an_event() {
    for (kind, told) in [
        (
            "webpush.notification.v1",
            vec!["delivery.shop.accepted._ accepted"],
        ),
        ("", vec!["delivery.shop.accepted._ accepted"]),
        (
            "webpush.notification.v2",
            vec!["quarantine", "delivery.shop.rejected._ unsupported_version"],
        ),
    ] {
        let house = house([]);
        let typed = Inbound {
            properties: BasicProperties::default().with_type(kind.into()),
            ..inbound(event(json!({})))
        };
        assert_eq!(
            outline(&house.pipeline.process(&typed).await),
            told,
            "{kind}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_rejected_without_a_request() {
    let forbidden = json!({ "subscription": subscription("http://push.example.net/a") });
    let private = json!({ "subscription": subscription("https://10.0.0.1/a") });
    let removed = json!({ "subscription": subscription("https://permanently-removed.invalid/a") });
    for (more, owed) in [
        (
            forbidden,
            vec!["delivery.shop.rejected._ endpoint_forbidden"],
        ),
        (private, vec!["delivery.shop.rejected._ endpoint_forbidden"]),
        (
            removed,
            vec![
                "delivery.shop.gone._ removed_by_browser",
                "subscription.shop.gone",
            ],
        ),
        (
            json!({ "app": "nobody" }),
            vec!["delivery._unknown.rejected._ unknown_app"],
        ),
        (
            json!({ "payload": "x".repeat(3994) }),
            vec!["delivery.shop.rejected._ payload_too_large"],
        ),
        (
            json!({ "deliver_at": "2027-11-21T12:00:00Z" }),
            vec!["delivery.shop.rejected._ invalid_schedule"],
        ),
        (
            json!({ "expires_at": "2026-11-21T11:00:00Z" }),
            vec!["delivery.shop.expired._ expires_at_passed"],
        ),
        (
            json!({ "created_at": "2026-11-21T11:00:00Z", "ttl": 60 }),
            vec!["delivery.shop.expired._ ttl_elapsed"],
        ),
    ] {
        let house = house([]);
        assert_eq!(comes_to(&house, event(more)).await, owed);
        assert!(house.service.requests.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_retry_remembers_what_was_tried_and_ends() {
    let house = house([Says::Status(503), Says::Status(503), Says::Status(503)]);
    let first = house.pipeline.process(&inbound(event(json!({})))).await;
    assert_eq!(outline(&first), ["wait 5s service_unavailable 1"]);
    house.clock.advance(Duration::from_secs(5));
    let second = house.pipeline.process(&returned(&first[0])).await;
    assert_eq!(outline(&second), ["wait 10s service_unavailable 2"]);
    house.clock.advance(Duration::from_secs(10));
    let third = house.pipeline.process(&returned(&second[0])).await;
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
    let requests = house.service.requests.lock().unwrap();
    let ttls: Vec<_> = requests
        .iter()
        .map(|request| request.headers["ttl"].clone())
        .collect();
    assert_eq!(ttls, ["86400", "86395", "86385"]);
}

#[tokio::test]
async fn what_expires_while_it_waits_tells_what_was_tried() {
    let house = house([Says::RetryAfter(503, "50")]);
    let first = house
        .pipeline
        .process(&inbound(event(json!({ "ttl": 60 }))))
        .await;
    assert_eq!(outline(&first), ["wait 50s service_unavailable 1"]);
    house.clock.advance(Duration::from_secs(61));
    let late = house.pipeline.process(&returned(&first[0])).await;
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
    let house = house([Says::Status(503)]);
    let passage = Passage {
        attempts: 2,
        pass: 2,
        ..Passage::default()
    };
    let forged = Inbound {
        properties: BasicProperties::default().with_headers(passage.write()),
        ..inbound(event(json!({})))
    };
    let owed = house.pipeline.process(&forged).await;
    assert_eq!(outline(&owed), ["wait 5s service_unavailable 1"]);
}

#[tokio::test]
async fn what_the_service_did_not_process_is_sent_again_at_once() {
    let house = house([Says::Fails(Failure::NotProcessed), Says::Status(201)]);
    let owed = house.pipeline.process(&inbound(event(json!({})))).await;
    assert_eq!(outline(&owed), ["delivery.shop.accepted._ accepted"]);
    let result = parsed(&owed[0]);
    assert_eq!(
        (&result["attempts"], &result["requests"]),
        (&json!(1), &json!(2))
    );
}

#[tokio::test]
async fn a_schedule_waits_in_the_broker_and_ttl_counts_from_then() {
    let house = house([]);
    let later = json!({ "deliver_at": "2026-11-21T13:00:00Z", "ttl": 60 });
    let first = house.pipeline.process(&inbound(event(later))).await;
    assert_eq!(outline(&first), ["wait 3600s scheduled 0 towards"]);
    house.clock.advance(Duration::from_secs(1800));
    let early = house.pipeline.process(&returned(&first[0])).await;
    assert_eq!(outline(&early), ["wait 1800s scheduled 0 towards"]);
    house.clock.advance(Duration::from_secs(1800));
    let due = house.pipeline.process(&returned(&early[0])).await;
    assert_eq!(outline(&due), ["delivery.shop.accepted._ accepted"]);
    assert_eq!(
        house.service.requests.lock().unwrap()[0].headers["ttl"],
        "60"
    );
}

#[tokio::test]
async fn a_campaign_is_split_and_each_recipient_fares_by_itself() {
    let house = house([Says::Status(410), Says::Status(503), Says::Panics]);
    let whole = house.pipeline.process(&inbound(campaign(120))).await;
    assert_eq!(outline(&whole), vec!["chunk to default"; 3]);
    let chunk = house.pipeline.process(&returned(&whole[0])).await;
    let told = outline(&chunk);
    let count = |what: &str| told.iter().filter(|one| one.contains(what)).count();
    assert_eq!(count("accepted"), 47);
    assert_eq!(count("delivery.shop.gone"), 1);
    assert_eq!(count("subscription.shop.gone"), 1);
    assert_eq!(count("wait 5s service_unavailable 1"), 1);
    assert_eq!((count("internal_error"), count("quarantine")), (1, 1));
    assert_eq!(told.last().unwrap(), "summary.shop._");
    let summary = parsed(chunk.last().unwrap());
    assert_eq!(summary["waiting"], 1, "{summary}");
    let copy = chunk.iter().find(|one| one.kind == Kind::Retry).unwrap();
    assert_eq!(parsed(copy)["recipients"].as_array().unwrap().len(), 1);
    house.clock.advance(Duration::from_secs(5));
    let again = house.pipeline.process(&returned(copy)).await;
    assert_eq!(
        outline(&again),
        ["delivery.shop.accepted._ accepted", "summary.shop._"]
    );
}

#[tokio::test]
async fn one_endpoint_twice_in_an_event_is_sent_once() {
    let house = house([]);
    let twice = json!({ "id": "e1", "payload": "x", "recipients": [
        { "subscription": fcm("a") }, { "subscription": fcm("a") },
    ] });
    assert_eq!(
        comes_to(&house, twice.to_string()).await,
        [
            "delivery.shop.accepted._ accepted",
            "delivery.shop.rejected._ duplicate_recipient",
            "summary.shop._"
        ]
    );
    assert_eq!(house.service.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_redelivery_is_answered_from_memory() {
    let house = house([Says::Status(503)]);
    let first = inbound(event(json!({})));
    let owed = house.pipeline.process(&first).await;
    let again = Inbound {
        redelivered: true,
        ..first.clone()
    };
    assert_eq!(
        outline(&house.pipeline.process(&again).await),
        outline(&owed)
    );
    assert_eq!(house.service.requests.lock().unwrap().len(), 1);
    assert_ne!(
        outline(&house.pipeline.process(&first).await),
        outline(&owed),
        "another event"
    );
    assert_eq!(house.service.requests.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn results_are_narrowed_as_asked_but_the_dead_are_always_told() {
    for (results, says, owed) in [
        ("failures", 201, vec![]),
        (
            "failures",
            400,
            vec!["delivery.shop.rejected._ bad_request"],
        ),
        ("none", 400, vec![]),
        ("none", 410, vec!["subscription.shop.gone"]),
    ] {
        let house = house([Says::Status(says)]);
        assert_eq!(
            comes_to(&house, event(json!({ "results": results }))).await,
            owed
        );
    }
}

#[tokio::test]
async fn what_the_broker_gave_up_on_ends_in_a_result_and_the_quarantine() {
    for (death, owed) in [
        ("delivery_limit", "delivery.shop.rejected._ poison"),
        ("expired", "delivery.shop.expired._ producer_expiration"),
    ] {
        let house = house([]);
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
        let told = outline(&house.pipeline.process(&dead).await);
        assert_eq!(told, ["quarantine", owed]);
        assert!(house.service.requests.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn in_dry_run_nothing_is_sent() {
    let house = house_of(app(Mode::DryRun), [], 100);
    assert_eq!(
        comes_to(&house, event(json!({}))).await,
        ["delivery.shop.accepted._ accepted"]
    );
    assert!(house.service.requests.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_room_a_recipient_waits_in_the_broker_and_uses_up_no_attempt() {
    let house = house_of(app(Mode::Send), [], 0);
    assert_eq!(comes_to(&house, event(json!({}))).await, ["wait 1s busy 0"]);
    assert_eq!(
        comes_to(&house, event(json!({ "ttl": 1 }))).await,
        ["delivery.shop.expired._ ttl_elapsed"]
    );
}

/// An event that was in a queue for an hour before the house opened.
fn queued(id: &str, more: Value) -> String {
    let mut members = json!({ "id": id, "created_at": "2026-11-21T11:00:00Z" });
    members
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    event(members)
}

#[tokio::test]
async fn what_was_queued_for_a_subscription_just_found_gone_is_not_sent() {
    for (status, reason) in [(410, "unsubscribed"), (404, "not_found")] {
        let house = house([Says::Status(status)]);
        let told = format!("delivery.shop.gone._ {reason}");
        assert_eq!(
            comes_to(&house, queued("e1", json!({}))).await,
            [told.as_str(), "subscription.shop.gone"]
        );
        let owed = house
            .pipeline
            .process(&inbound(queued("e2", json!({}))))
            .await;
        assert_eq!(outline(&owed), [told], "and no second subscription event");
        assert_eq!(house.service.requests.lock().unwrap().len(), 1);
        let result = parsed(&owed[0]);
        for (member, value) in [
            ("event_id", json!("e2")),
            ("status", json!(status)),
            ("attempts", json!(0)),
            ("requests", json!(0)),
            ("sent_at", json!(null)),
        ] {
            assert_eq!(result[member], value, "{member}");
        }
        let detail = result["detail"].as_str().unwrap();
        assert!(detail.contains("no request was made"), "{detail}");
        let other = queued("e3", json!({ "subscription": fcm("b") }));
        assert_eq!(
            comes_to(&house, other).await,
            ["delivery.shop.accepted._ accepted"]
        );
    }
}

#[tokio::test]
async fn an_event_newer_than_the_end_of_its_subscription_is_sent_and_may_revive_it() {
    let house = house([Says::Status(410)]);
    comes_to(&house, queued("e1", json!({}))).await;
    house.clock.advance(Duration::from_secs(60));
    let renewed = event(json!({ "id": "e2", "created_at": "2026-11-21T12:00:30Z" }));
    let accepted = ["delivery.shop.accepted._ accepted"];
    assert_eq!(comes_to(&house, renewed).await, accepted);
    assert_eq!(comes_to(&house, queued("e3", json!({}))).await, accepted);
    assert_eq!(house.service.requests.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_redelivery_may_be_the_one_that_told_of_the_end_and_is_sent() {
    let house = house([Says::Status(410), Says::Status(410)]);
    comes_to(&house, queued("e1", json!({}))).await;
    let redelivered = Inbound {
        redelivered: true,
        ..inbound(queued("e2", json!({})))
    };
    assert_eq!(
        outline(&house.pipeline.process(&redelivered).await),
        [
            "delivery.shop.gone._ unsubscribed",
            "subscription.shop.gone"
        ]
    );
}

/// An event of its own endpoint and name.
fn numbered(n: usize) -> String {
    event(json!({ "id": format!("n{n}"), "subscription": fcm(&n.to_string()) }))
}

/// A house whose push service has failed ten times in a row.
async fn house_of_trouble(then: impl IntoIterator<Item = Says>) -> House {
    let failures = (0..10).map(|_| Says::Status(503));
    let house = house(failures.chain(then));
    for n in 0..10 {
        let owed = comes_to(&house, numbered(n)).await;
        assert_eq!(owed, ["wait 5s service_unavailable 1"]);
    }
    house
}

#[tokio::test]
async fn who_meets_an_open_breaker_waits_and_uses_up_no_attempt() {
    let house = house_of_trouble([]).await;
    let first = house.pipeline.process(&inbound(numbered(10))).await;
    assert_eq!(outline(&first), ["wait 10s busy 0"]);
    assert_eq!(house.service.requests.lock().unwrap().len(), 10);
    let elsewhere = subscription("https://updates.push.services.mozilla.com/wpush/v2/a");
    assert_eq!(
        comes_to(&house, event(json!({ "subscription": elsewhere }))).await,
        ["delivery.shop.accepted._ accepted"]
    );
    house.clock.advance(Duration::from_secs(10));
    let second = house.pipeline.process(&returned(&first[0])).await;
    assert_eq!(outline(&second), ["delivery.shop.accepted._ accepted"]);
    let result = parsed(&second[0]);
    assert_eq!(
        (&result["attempts"], &result["requests"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test]
async fn what_comes_back_from_waiting_finds_its_subscription_gone() {
    let house = house([Says::Status(503), Says::Status(410)]);
    let first = house.pipeline.process(&inbound(event(json!({})))).await;
    assert_eq!(outline(&first), ["wait 5s service_unavailable 1"]);
    house.clock.advance(Duration::from_secs(3));
    comes_to(&house, queued("e2", json!({}))).await;
    house.clock.advance(Duration::from_secs(2));
    let back = house.pipeline.process(&returned(&first[0])).await;
    assert_eq!(outline(&back), ["delivery.shop.gone._ unsubscribed"]);
    let result = parsed(&back[0]);
    assert_eq!(
        [&result["attempts"], &result["requests"], &result["status"]],
        [&json!(1), &json!(1), &json!(410)]
    );
}

#[tokio::test]
async fn the_dead_of_a_campaign_are_counted_though_nothing_is_sent_to_them() {
    let house = house([Says::Status(410)]);
    comes_to(&house, queued("e1", json!({ "subscription": fcm("0") }))).await;
    let mut campaign: Value = serde_json::from_str(&campaign(3)).unwrap();
    campaign["created_at"] = json!("2026-11-21T11:00:00Z");
    let owed = house.pipeline.process(&inbound(campaign.to_string())).await;
    assert_eq!(
        outline(&owed),
        [
            "delivery.shop.gone._ unsubscribed",
            "delivery.shop.accepted._ accepted",
            "delivery.shop.accepted._ accepted",
            "summary.shop._"
        ]
    );
    assert_eq!(parsed(&owed[3])["outcomes"]["gone"], 1);
    assert_eq!(house.service.requests.lock().unwrap().len(), 3);
}

/// Pushes events to a daemon that has just been started, and returns the topics they were sent with.
async fn topics(replace_duplicates: bool, events: &[String]) -> Vec<Option<String>> {
    let house = house_with(app(Mode::Send), [], 100, replace_duplicates);
    for event in events {
        comes_to(&house, event.clone()).await;
    }
    let requests = house.service.requests.lock().unwrap();
    let topic = |request: &PushRequest| Some(request.headers.get("topic")?.to_str().ok()?.into());
    requests.iter().map(topic).collect()
}

#[tokio::test]
async fn a_copy_pushed_by_another_daemon_replaces_the_first_and_nothing_else() {
    let events = [
        event(json!({})),
        event(json!({ "id": "e2" })),
        event(json!({ "subscription": fcm("b") })),
        event(json!({ "payload": "another text under the same name" })),
        event(json!({ "topic": "orders" })),
    ];
    let first = topics(true, &events).await;
    assert_eq!(first, topics(true, &events).await);
    let different: HashSet<_> = first.iter().flatten().collect();
    assert_eq!(different.len(), events.len(), "{first:?}");
    for topic in different.iter().copied() {
        assert!(Topic::parse(topic).is_some(), "{topic}");
    }
    assert_eq!(first[4].as_deref(), Some("orders"), "the producer's own");
    let unasked = topics(false, &events).await;
    assert_eq!(unasked[..4], [const { None }; 4]);
}

#[tokio::test]
async fn every_pass_of_a_message_has_the_same_topic() {
    let house = house_with(app(Mode::Send), [Says::Status(503)], 100, true);
    let nameless = json!({ "subscription": fcm("a"), "payload": "hello" }).to_string();
    let first = house.pipeline.process(&inbound(nameless)).await;
    house.clock.advance(Duration::from_secs(5));
    house.pipeline.process(&returned(&first[0])).await;
    let requests = house.service.requests.lock().unwrap();
    assert_eq!(requests.len(), 2);
    assert!(requests[0].headers.contains_key("topic"));
    assert_eq!(requests[0].headers["topic"], requests[1].headers["topic"]);
}

#[tokio::test]
async fn a_probe_that_panics_leaves_the_place_to_the_next() {
    let house = house_of_trouble([Says::Panics]).await;
    house.clock.advance(Duration::from_secs(5));
    assert_eq!(
        comes_to(&house, numbered(10)).await,
        ["quarantine", "delivery.shop.rejected._ internal_error"]
    );
    assert_eq!(
        comes_to(&house, numbered(11)).await,
        ["delivery.shop.accepted._ accepted"]
    );
    let metrics = house.pipeline.metrics.render().unwrap();
    for (to, count) in [("open", 1), ("half_open", 2), ("closed", 1)] {
        let labels = format!("push_service=\"fcm\",to=\"{to}\"");
        let line = format!("pushrider_breaker_transitions_total{{{labels}}} {count}");
        assert!(metrics.contains(&line), "{line}");
    }
    assert!(metrics.contains("pushrider_breakers_open 0"));
}

#[tokio::test]
async fn who_has_no_time_for_a_pause_is_told_what_for() {
    let house = house([Says::RetryAfter(429, "120")]);
    assert_eq!(
        comes_to(&house, numbered(0)).await,
        ["wait 120s throttled 1"]
    );
    let short = event(json!({ "id": "e2", "ttl": 60 }));
    let owed = house.pipeline.process(&inbound(short)).await;
    assert_eq!(outline(&owed), ["delivery.shop.expired._ ttl_elapsed"]);
    let detail = parsed(&owed[0])["detail"].to_string();
    assert!(
        detail.contains("the pause that the push service asked for"),
        "{detail}"
    );
    assert_eq!(
        comes_to(&house, numbered(1)).await,
        ["wait 240s busy 0"],
        "the pause, spread over as long again"
    );
}
