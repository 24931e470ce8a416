//! Event bytes in, publications out: a scripted push service and a clock that stands still.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use lapin::BasicProperties;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{Pipeline, Settings};
use crate::app::{App, Apps, Mode};
use crate::broker::{Inbound, Publication, Rounding, Route, Source};
use crate::clock::{FixedClock, FixedJitter};
use crate::gate;
use crate::gate::Gates;
use crate::guard;
use crate::message::{Name, Topic};
use crate::metrics::Metrics;
use crate::outcome::{Answer, Attempt, Failure};
use crate::plan;
use crate::push_service::{PushRequest, Transport};
use crate::retry::Policy;
use crate::sender::{self, Sender};
use crate::vapid::{KeyRing, VapidKey};
use crate::wire::Kind;
use crate::wire::headers::RetryHistory;

mod answers;
mod applications;
mod cardinality;
mod control;
mod deadlines;
mod gates;
mod gone_cache;
mod keys;
mod passes;
mod producers;
mod progress;
mod quiet_hours;
mod redeliveries;
mod refusals;
mod second_requests;
mod slots;
mod topics;
mod traces;
mod unconfirmed;

/// 2026-11-21 12:00:00 UTC.
const NOON: Duration = Duration::from_secs(1_795_262_400);

const KEYS: &str = r#"{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}"#;

/// FCM's words for a subscription that it does not know.
const NOT_FOUND: &str = "A valid push subscription endpoint should be specified in the URL";

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
    /// A clock, and by how much each answer advances it.
    slow: Mutex<Option<(Arc<FixedClock>, Duration)>>,
}

impl Transport for Arc<Scripted> {
    async fn post(&self, request: PushRequest, _deadline: Duration) -> Attempt {
        self.requests.lock().push(request);
        if let Some((clock, step)) = &*self.slow.lock() {
            clock.advance(*step);
        }
        let says = self.script.lock().pop_front().unwrap_or(Says::Status(201));
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
            Says::Holds(expected) => {
                expected.notified().await;
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

struct TestEnv {
    pipeline: Pipeline<Arc<Scripted>>,
    service: Arc<Scripted>,
    clock: Arc<FixedClock>,
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(super) fn app(mode: Mode) -> App {
    let mut app = App::for_tests("shop");
    app.ring.older.clear();
    App { mode, ..app }
}

fn env_of(app: App, script: impl IntoIterator<Item = Says>, in_flight: usize) -> TestEnv {
    env_with(only(app), script, in_flight, false)
}

fn only(app: App) -> Apps {
    Apps::new(vec![Arc::new(app)])
}

fn env_with(
    apps: Apps,
    script: impl IntoIterator<Item = Says>,
    in_flight: usize,
    replace_duplicates: bool,
) -> TestEnv {
    let service = Arc::new(Scripted {
        script: Mutex::new(script.into_iter().collect()),
        ..Scripted::default()
    });
    let clock = Arc::new(FixedClock::at(SystemTime::UNIX_EPOCH + NOON));
    let settings = Settings {
        apps,
        event_limit: 4 << 20,
        plan: plan::Settings {
            chunk: 50,
            hold: Duration::from_secs(1),
            horizon: Duration::from_hours(30 * 24),
            longest_wait: Duration::from_hours(25),
        },
        guard: Arc::new(guard::Rules::default()),
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
    let metrics = Arc::new(Metrics::new().unwrap());
    let sending = sender::Settings {
        retry: Policy {
            max_attempts: 3,
            base: Duration::from_secs(5),
            cap: Duration::from_secs(600),
            retry_after_cap: Duration::from_hours(24),
        }
        .into(),
        push_timeout: Duration::from_secs(20),
    };
    let sender = Sender::new(
        sending,
        Arc::clone(&service),
        gates,
        Arc::clone(&metrics),
        Arc::clone(&clock) as Arc<_>,
        Arc::new(FixedJitter(1.0)),
    );
    let pipeline = Pipeline::new(settings, sender, metrics);
    TestEnv {
        pipeline,
        service,
        clock,
    }
}

fn env(script: impl IntoIterator<Item = Says>) -> TestEnv {
    env_of(app(Mode::Send), script, 100)
}

fn inbound(body: impl Into<Bytes>) -> Inbound {
    Inbound {
        lane: name("default"),
        source: Source::Lane,
        routing_key: "shop.default".into(),
        body: body.into(),
        properties: BasicProperties::default(),
        unreadable: None,
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
        (
            Route::Delay {
                after, rounding, ..
            },
            _,
        ) => {
            let history = RetryHistory::read(&publication.headers);
            let waiting = history.waiting.unwrap().name();
            let rounding = if *rounding == Rounding::Down {
                " towards"
            } else {
                ""
            };
            format!(
                "wait {}s {waiting} {}{rounding}",
                after.as_secs(),
                history.attempts
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

async fn comes_to(env: &TestEnv, body: String) -> Vec<String> {
    outline(&env.pipeline.process(&inbound(body)).await)
}

/// What a copy that waited brings back.
fn returned(publication: &Publication) -> Inbound {
    Inbound {
        source: Source::Due,
        routing_key: "webpush.due.default".into(),
        properties: BasicProperties::default()
            .with_message_id(publication.message_id.as_str().into())
            .with_headers(publication.headers.clone()),
        ..inbound(publication.body.clone())
    }
}
