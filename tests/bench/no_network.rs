//! A pipeline without a broker and without a network.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use lapin::BasicProperties;

use pushrider::app::{App, Apps, EndpointForm, Mode, RequestRules, Results};
use pushrider::broker::{Inbound, Source};
use pushrider::clock::{FixedJitter, SystemClock};
use pushrider::gate::{self, Gates};
use pushrider::guard;
use pushrider::message::Name;
use pushrider::metrics::Metrics;
use pushrider::outcome::{Answer, Attempt};
use pushrider::pipeline::{self, Pipeline};
use pushrider::plan;
use pushrider::push_service::{PushRequest, Transport};
use pushrider::retry::Policy;
use pushrider::sender::{self, Sender};
use pushrider::vapid::{KeyRing, Subject, VapidKey};

/// The keys of a subscription.
pub(crate) const P256DH: &str =
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
pub(crate) const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

/// A push service that is nowhere and takes everything.
pub(crate) struct Null;

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

/// Parses a name.
pub(crate) fn name(text: &str) -> Name {
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
        progress: true,
        mode: Mode::Send,
        payload_limit: 3993,
        max_per_second: None,
        endpoint: EndpointForm::Full,
        requests: RequestRules::default(),
    }
}

/// Creates a pipeline that sends nothing.
pub(crate) fn pipeline() -> Pipeline<Null> {
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

/// Creates an event of 300 bytes for so many recipients.
pub(crate) fn inbound(recipients: usize) -> Inbound {
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
