//! What one push costs: the signature, the encryption, and everything but the network.
//!
//! `cargo bench --bench push`
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot be set up should stop"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, StatusCode};
use lapin::BasicProperties;

use pushrider::app::{App, Apps, EndpointForm, Mode, RequestRules, Results};
use pushrider::broker::{Inbound, Source};
use pushrider::clock::{FixedJitter, SystemClock};
use pushrider::control::{self, EventKeys, RecipientKeys, Withdrawn};
use pushrider::ece::{Salt, SenderKey, aes128gcm};
use pushrider::gate::{self, Gates};
use pushrider::guard;
use pushrider::message::{EventId, Name};
use pushrider::metrics::Metrics;
use pushrider::origin::Origin;
use pushrider::outcome::{Answer, Attempt};
use pushrider::pipeline::{self, Pipeline};
use pushrider::plan;
use pushrider::push_service::{PushRequest, Transport};
use pushrider::retry::Policy;
use pushrider::sender::{self, Sender};
use pushrider::subscription::{AuthSecret, Endpoint, Fingerprint, Keys, UserAgentKey};
use pushrider::vapid::{KeyRing, Subject, Token, Validity, VapidKey};
use pushrider::wire::control::{Control, Target};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const P256DH: &str =
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

/// A push service that is nowhere and takes everything.
struct Null;

impl Transport for Null {
    async fn post(&self, request: PushRequest, _deadline: Duration) -> Attempt {
        black_box(request);
        Attempt::Answered(Answer {
            status: StatusCode::CREATED,
            headers: HeaderMap::new(),
            excerpt: Bytes::new(),
        })
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn app() -> App {
    App {
        name: name("shop"),
        subject: Subject::parse("mailto:ops@example.org").unwrap(),
        ring: KeyRing {
            primary: Arc::new(VapidKey::generate(name("main")).unwrap()),
            older: Vec::new(),
        },
        ttl: 86_400,
        results: Results::All,
        mode: Mode::Send,
        payload_limit: 3993,
        endpoint: EndpointForm::Full,
        requests: RequestRules::default(),
    }
}

fn pipeline() -> Pipeline<Null> {
    let settings = pipeline::Settings {
        apps: Apps::new(vec![Arc::new(app())]),
        event_limit: 4 << 20,
        plan: plan::Settings {
            chunk: 50,
            hold: Duration::from_secs(1),
            horizon: Duration::from_hours(720),
            longest_wait: Duration::from_hours(25),
        },
        guard: Arc::new(guard::Rules::default()),
        replace_duplicates: false,
    };
    let gates = gate::Settings {
        in_flight: 500,
        per_origin: 200,
        max_wait: Duration::from_secs(1),
        rate: None,
        breaker: gate::BreakerSettings {
            failures: 10,
            open: Duration::from_secs(5),
            open_cap: Duration::from_secs(300),
        },
    };
    let metrics = Arc::new(Metrics::new().unwrap());
    let sending = sender::Settings {
        retry: Policy {
            max_attempts: 10,
            base: Duration::from_secs(5),
            cap: Duration::from_mins(10),
            retry_after_cap: Duration::from_hours(24),
        }
        .into(),
        push_timeout: Duration::from_secs(20),
    };
    let sender = Sender::new(
        sending,
        Null,
        Gates::new(gates),
        Arc::clone(&metrics),
        Arc::new(SystemClock),
        Arc::new(FixedJitter(0.5)),
    );
    Pipeline::new(settings, sender, metrics)
}

fn inbound(recipients: usize) -> Inbound {
    let payload = "x".repeat(300);
    let subscription = |n: usize| {
        let url = format!("https://fcm.googleapis.com/fcm/send/{n:0150}");
        format!(r#"{{"endpoint":"{url}","keys":{{"p256dh":"{P256DH}","auth":"{AUTH}"}}}}"#)
    };
    let body = if recipients == 1 {
        format!(
            r#"{{"id":"e1","subscription":{},"payload":"{payload}"}}"#,
            subscription(0)
        )
    } else {
        let list: Vec<_> = (0..recipients)
            .map(|n| format!(r#"{{"id":{n},"subscription":{}}}"#, subscription(n)))
            .collect();
        format!(
            r#"{{"id":"e1","recipients":[{}],"payload":"{payload}"}}"#,
            list.join(",")
        )
    };
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

fn sign(c: &mut Criterion) {
    let key = VapidKey::generate(name("main")).unwrap();
    let subject = Subject::parse("mailto:ops@example.org").unwrap();
    let audience = Origin::of(&url::Url::parse("https://fcm.googleapis.com/").unwrap());
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400);
    c.bench_function("sign", |b| {
        b.iter(|| Token::sign(&key, &audience, &subject, now, Validity::default()).unwrap());
    });
}

fn encrypt(c: &mut Criterion) {
    let keys = Keys {
        p256dh: UserAgentKey::parse(P256DH).unwrap(),
        auth: AuthSecret::parse(AUTH).unwrap(),
    };
    let mut group = c.benchmark_group("encrypt");
    for length in [0, 300, 3993] {
        let plaintext = vec![b'x'; length];
        group.bench_function(length.to_string(), |b| {
            b.iter(|| {
                let (sender, salt) = (SenderKey::generate().unwrap(), Salt::random().unwrap());
                aes128gcm::encrypt(&keys, &plaintext, 0, sender, salt).unwrap()
            });
        });
    }
    group.finish();
}

fn process(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let pipeline = pipeline();
    let mut group = c.benchmark_group("process");
    for recipients in [1, 50] {
        let inbound = inbound(recipients);
        group.throughput(Throughput::Elements(recipients as u64));
        group.bench_function(recipients.to_string(), |b| {
            b.iter(|| runtime.block_on(pipeline.process(&inbound)));
        });
    }
    group.finish();
}

/// Looks up a recipient that is not taken back, where others are.
fn look_up(c: &mut Criterion) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400);
    let (shop, label, id) = (
        name("shop"),
        name("mail"),
        EventId::parse("order-1").unwrap(),
    );
    let event = EventKeys {
        app: &shop,
        id: &id,
        group: Some("spring"),
        label: Some(&label),
        created_at: now,
    };
    let endpoint = Endpoint::parse("https://fcm.googleapis.com/fcm/send/a").unwrap();
    let recipient = RecipientKeys::of(&endpoint, Some("u42"));
    let mut group = c.benchmark_group("look_up");
    for count in [0, 10, 100_000] {
        let withdrawn = Withdrawn::default();
        for n in 0..count {
            let text = format!("other-{n}");
            let target = match n % 4 {
                0 => Target::Event(EventId::parse(&text).unwrap()),
                1 => Target::Recipient(text.into()),
                2 => Target::Subscription(Fingerprint::of(&text)),
                _ => Target::Group {
                    group: text.into(),
                    created_before: now,
                },
            };
            let control = Control {
                app: shop.clone(),
                reason: None,
                requested_at: now,
                target,
            };
            withdrawn.note(control, Duration::from_hours(720), now);
        }
        let keys = control::Keys { event, recipient };
        group.bench_function(count.to_string(), |b| {
            b.iter(|| withdrawn.recipient(black_box(keys), now));
        });
    }
    group.finish();
}

criterion_group!(benches, sign, encrypt, process, look_up);
criterion_main!(benches);
