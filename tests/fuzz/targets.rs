//! What must hold for every input, as functions of bytes. A fuzzer searches for an input that breaks one
//! of them, and the ordinary tests replay the seeds.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};

use pushrider::app::{App, Apps, EndpointForm, Mode, RequestRules, Results};
use pushrider::broker::{Inbound, Publication, Source};
use pushrider::classify::{Context, EarlierAnswers, classify};
use pushrider::clock::{FixedClock, FixedJitter};
use pushrider::control::{Bounds, Withdrawn};
use pushrider::gate::{self, Gates};
use pushrider::message::Name;
use pushrider::metrics::Metrics;
use pushrider::origin::{Listing, Service};
use pushrider::outcome::{Answer, Attempt, Failure, Meaning};
use pushrider::pipeline::{self, Pipeline};
use pushrider::push_service::{PushRequest, Transport};
use pushrider::retry::Policy;
use pushrider::sender::{self, Sender};
use pushrider::subscription::{AuthSecret, Endpoint, UserAgentKey};
use pushrider::vapid::{KeyRing, Subject, VapidKey};
use pushrider::wire::headers::{Death, RetryHistory};
use pushrider::wire::{Kind, body, control, event};
use pushrider::{config, guard, plan};

/// A function that panics where its invariants do not hold.
type Target = fn(&[u8]);

/// Every target by its name.
pub(crate) const ALL: [(&str, Target); 7] = [
    ("event", event),
    ("control", control),
    ("headers", headers),
    ("answer", answer),
    ("endpoint", endpoint),
    ("key", key),
    ("config", config),
];

const NOON: Duration = Duration::from_secs(1_795_262_400);

/// A push service that gives the answers that the input chooses, in turn.
struct Scripted(Vec<u8>);

impl Transport for Scripted {
    async fn post(&self, request: PushRequest, _deadline: Duration) -> Attempt {
        let choice = self.0.get(request.body.len() % self.0.len().max(1));
        let status = match choice.copied().unwrap_or_default() % 8 {
            0..=2 => 201,
            3 => 410,
            4 => 429,
            5 => 403,
            6 => 503,
            _ => return Attempt::Failed(Failure::Timeout),
        };
        Attempt::Answered(Answer {
            status: StatusCode::from_u16(status).expect("it is a status"),
            headers: HeaderMap::new(),
            excerpt: Bytes::new(),
        })
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("it is a name")
}

static APP: LazyLock<App> = LazyLock::new(|| App {
    name: name("shop"),
    subject: Subject::parse("mailto:ops@example.org").expect("it is a subject"),
    ring: KeyRing {
        primary: Arc::new(VapidKey::generate(name("main")).expect("keys can be made")),
        older: Vec::new(),
    },
    ttl: 86_400,
    results: Results::All,
    progress: true,
    mode: Mode::Send,
    payload_limit: 3993,
    max_per_second: None,
    endpoint: EndpointForm::Full,
    requests: RequestRules::default(),
});

fn pipeline(script: &[u8]) -> Pipeline<Scripted> {
    let gates = Gates::new(gate::Settings {
        in_flight: 100,
        per_origin: 100,
        max_wait: Duration::from_secs(1),
        rate: None,
        breaker: gate::BreakerSettings {
            failures: 10,
            open: Duration::from_secs(5),
            open_cap: Duration::from_secs(300),
        },
    });
    let settings = pipeline::Settings {
        apps: Apps::new(vec![Arc::new(APP.clone())]),
        event_limit: 64 << 10,
        plan: plan::Settings {
            chunk: 50,
            hold: Duration::ZERO,
            horizon: Duration::from_hours(720),
            longest_wait: Duration::from_hours(25),
        },
        guard: Arc::new(guard::Rules::default()),
        replace_duplicates: false,
    };
    let sending = sender::Settings {
        retry: Policy {
            max_attempts: 3,
            base: Duration::from_secs(5),
            cap: Duration::from_mins(10),
            retry_after_cap: Duration::from_hours(24),
        }
        .into(),
        push_timeout: Duration::from_secs(20),
    };
    let metrics = Arc::new(Metrics::new().expect("metrics can be registered"));
    let sender = Sender::new(
        sending,
        Scripted(script.to_vec()),
        gates,
        Arc::clone(&metrics),
        Arc::new(FixedClock::at(SystemTime::UNIX_EPOCH + NOON)),
        Arc::new(FixedJitter(0.5)),
    );
    Pipeline::new(settings, sender, metrics)
}

/// An event: every recipient of what is an event has one end or goes on in one copy, what is not an event
/// has one result, and the output is bounded by the input. The first byte is the length of the push
/// service's script.
fn event(data: &[u8]) {
    let Some((length, rest)) = data.split_first() else {
        return;
    };
    let (script, body) = rest.split_at(usize::from(*length % 16).min(rest.len()));
    let body = Bytes::copy_from_slice(body);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be made");
    let properties = BasicProperties::default();
    let properties = match *length {
        ..0x80 => properties,
        _ => properties.with_content_type("application/cloudevents+json".into()),
    };
    let inbound = Inbound {
        lane: name("default"),
        source: Source::Lane,
        routing_key: "shop.default".into(),
        body: body.clone(),
        properties: properties.clone(),
        unreadable: None,
        redelivered: false,
    };
    let settled = runtime.block_on(pipeline(script).process(&inbound));
    let publications = &settled.publications;
    let found = body::open(&properties, &body).map(|found| found.text);
    let found = found.unwrap_or_default();
    let (recipients, all_results) = match event::decode(&found) {
        Ok(event) => {
            let all = event.results.is_none_or(|results| results == Results::All);
            (event.recipient_count(), all)
        }
        Err(_) => (1, true),
    };
    let ended = publications.iter().filter(|one| one.kind == Kind::Result);
    let continuing = publications
        .iter()
        .filter(|one| matches!(one.kind, Kind::Retry | Kind::Chunk));
    let continuing: usize = continuing.map(recipients_of).sum();
    if all_results {
        assert_eq!(ended.clone().count() + continuing, recipients);
    }
    for result in ended {
        let result: serde_json::Value =
            serde_json::from_slice(&result.body).expect("a result is JSON");
        assert_ne!(result["reason"], "internal_error", "{result}");
    }
    let bytes: usize = publications.iter().map(|one| one.body.len()).sum();
    assert!(
        bytes <= 6 * body.len() + 8192 * (recipients + 1),
        "{bytes} bytes of {}",
        body.len()
    );
}

fn recipients_of(copy: &Publication) -> usize {
    let copy = event::decode(&copy.body);
    copy.expect("a copy is an event").recipient_count()
}

/// AMQP headers: what is read of ours is written and read the same, and a producer's change nothing but
/// the trace. A line is `name type value`.
fn headers(data: &[u8]) {
    let mut table = FieldTable::default();
    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    fill(&mut table, &mut lines, 0);
    let history = RetryHistory::read(&table);
    assert_eq!(RetryHistory::read(&history.write()), history);
    let fresh = RetryHistory::fresh(&table);
    let only_trace = RetryHistory {
        trace: fresh.trace.clone(),
        ..RetryHistory::default()
    };
    assert_eq!(fresh, only_trace);
    let _cause = Death::read(&table).cause;
}

fn fill<'a>(table: &mut FieldTable, lines: &mut impl Iterator<Item = &'a str>, depth: u32) {
    while let Some(line) = lines.next() {
        let mut parts = line.splitn(3, ' ');
        let (name, kind) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        let text = parts.next().unwrap_or_default();
        // A name has at most 255 bytes in AMQP.
        let name: String = name.chars().take(60).collect();
        let value = match kind {
            "i" => AMQPValue::LongLongInt(text.parse().unwrap_or(i64::MIN)),
            "u" => AMQPValue::LongUInt(text.parse().unwrap_or(u32::MAX)),
            "t" => AMQPValue::Timestamp(text.parse().unwrap_or(u64::MAX)),
            "b" => AMQPValue::Boolean(text == "true"),
            "f" => AMQPValue::Double(text.parse().unwrap_or(f64::NAN)),
            "end" => return,
            "table" | "list" if depth < 4 => {
                let mut inner = FieldTable::default();
                fill(&mut inner, lines, depth + 1);
                let inner = AMQPValue::FieldTable(inner);
                if kind == "table" {
                    inner
                } else {
                    AMQPValue::FieldArray(FieldArray::from(vec![inner]))
                }
            }
            _ => AMQPValue::LongString(text.into()),
        };
        table.insert(name.as_str().into(), value);
    }
}

const SECRET: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL2EifQ.c2lnbmF0dXJl";

/// An answer: nothing is gone without a word for it, waits are capped, and the detail is short and holds
/// no token. The first four bytes choose the context and the status; header lines, an empty line and the
/// body follow.
fn answer(data: &[u8]) {
    let Some((first, rest)) = data.split_first_chunk::<4>() else {
        return;
    };
    let services = [
        Service::Fcm,
        Service::Mozilla,
        Service::Apple,
        Service::Wns,
        Service::Ntfy,
        Service::NextPush,
        Service::Other,
    ];
    let status = 100 + u16::from_be_bytes([first[2], first[3]]) % 900;
    let split = rest.windows(2).position(|pair| pair == b"\n\n");
    let (lines, body) = match split {
        Some(at) => (&rest[..at], &rest[at + 2..]),
        None => (&rest[..0], rest),
    };
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':');
        let Some((name, value)) = colon.map(|at| (&line[..at], &line[at + 1..])) else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name),
            HeaderValue::from_bytes(value.trim_ascii()),
        ) {
            headers.append(name, value);
        }
    }
    let cap = Duration::from_hours(24);
    let has_earlier = first[1] & 2 != 0;
    let is_confirmed = has_earlier || first[1] & 4 != 0;
    let context = Context {
        service: services[usize::from(first[0]) % services.len()],
        listing: Listing::of(first[1] & 1 != 0),
        attempt: 1 + u32::from(first[1] >> 4),
        last_status: (first[1] & 4 != 0).then_some(status),
        earlier_answers: has_earlier.then_some(EarlierAnswers {
            age: Duration::from_secs(900),
            times: 1,
        }),
        tried: None,
        token_age: Duration::from_secs(u64::from(first[0]) * 600),
        token_untimely: first[1] & 8 != 0,
        body_len: 3000,
        retry_after_cap: cap,
    };
    let is_silent = body.is_empty() && headers.is_empty();
    let excerpt = [body, SECRET.as_bytes()].concat();
    let excerpt = Bytes::from(if is_silent { Vec::new() } else { excerpt });
    let answer = Attempt::Answered(Answer {
        status: StatusCode::from_u16(status).expect("it is a status"),
        headers,
        excerpt,
    });
    let verdict = classify(&answer, context, SystemTime::UNIX_EPOCH + NOON);
    match verdict.meaning {
        Meaning::Accepted => assert!((200..300).contains(&status), "{status} accepted"),
        Meaning::Gone => assert!(
            status == 410 || (400..500).contains(&status) && (!is_silent || is_confirmed),
            "{status} gone: {verdict:?}"
        ),
        Meaning::Rejected | Meaning::Retryable => {}
    }
    assert!(verdict.after.is_none_or(|after| after <= cap));
    let detail = verdict.detail.unwrap_or_default();
    assert!(detail.len() <= 512, "{detail}");
    assert!(
        !detail.contains("c2lnbmF0dXJl"),
        "a token is in the detail: {detail}"
    );
}

/// An endpoint: what is accepted is https with a host, and is read again as the same.
fn endpoint(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Endpoint::parse(&text) {
        Ok(endpoint) => {
            let again = Endpoint::parse(endpoint.as_str()).expect("what was accepted is accepted");
            assert_eq!(again.fingerprint(), endpoint.fingerprint());
            assert!(!endpoint.origin().host().is_empty());
        }
        Err(error) => assert!(error.to_string().len() < 1024),
    }
}

/// Control messages: what is read goes by the routing key it came with, and is kept from then on.
fn control(data: &[u8]) {
    for key in ["shop.cancel", "shop.forget"] {
        let Ok(control) = control::decode(key, data) else {
            continue;
        };
        let command = control.target.command();
        assert_eq!(control::routing_key(&control.app, command), key);
        let (at, retention) = (control.requested_at, Duration::from_hours(1));
        let bounds = Bounds {
            targets: 1,
            retention,
        };
        let noted = Withdrawn::default().note(control, bounds, at);
        assert_eq!((noted.kept, noted.dropped), (1, 0));
    }
}

/// Keys: what is accepted is written and read the same, and an error repeats nothing of what may be a
/// private key.
fn key(data: &[u8]) {
    match VapidKey::parse(name("main"), data) {
        Ok(key) => {
            let pem = key.to_pkcs8_pem().expect("a key can be written");
            let again = VapidKey::parse(name("main"), pem.expose().as_bytes());
            let again = again.expect("what was written is accepted");
            assert_eq!(again.public_key(), key.public_key());
        }
        Err(error) => assert_repeats_nothing(&error.to_string(), data),
    }
    let text = String::from_utf8_lossy(data);
    if let Ok(key) = UserAgentKey::parse(&text) {
        assert!(UserAgentKey::from_bytes(key.as_bytes()).is_ok());
    }
    if let Err(error) = AuthSecret::parse(&text) {
        assert_repeats_nothing(&error.to_string(), data);
    }
}

fn assert_repeats_nothing(sentence: &str, data: &[u8]) {
    let repeated = data
        .windows(24)
        .find(|run| run.iter().all(u8::is_ascii_alphanumeric) && contains(sentence, run));
    assert!(repeated.is_none(), "the error repeats a secret: {sentence}");
}

fn contains(sentence: &str, run: &[u8]) -> bool {
    sentence
        .as_bytes()
        .windows(run.len())
        .any(|part| part == run)
}

/// A configuration file: it is accepted, or every problem has a sentence.
fn config(data: &[u8]) {
    let directory = tempfile::tempdir().expect("there is a temporary directory");
    let file = directory.path().join("pushrider.toml");
    std::fs::write(&file, data).expect("the temporary directory can be written to");
    let request = config::Request {
        file: Some(file),
        ..config::Request::default()
    };
    if let Err(problems) = config::load(&request) {
        assert!(!problems.to_string().trim().is_empty());
    }
}
