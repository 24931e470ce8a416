//! What one push costs: the signature, the encryption, and everything but the network.
//!
//! `cargo bench --bench push`
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot be set up should stop"
)]

mod no_network;

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use pushrider::control::{self, Bounds, EventKeys, RecipientKeys, Withdrawn};
use pushrider::ece::{Salt, SenderKey, aes128gcm};
use pushrider::message::EventId;
use pushrider::origin::Origin;
use pushrider::subscription::{AuthSecret, Endpoint, Fingerprint, Keys, UserAgentKey};
use pushrider::vapid::{Subject, Token, Validity, VapidKey};
use pushrider::wire::control::{Control, Target};

use no_network::{AUTH, P256DH, inbound, name, pipeline};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    let bounds = Bounds {
        targets: 100_000,
        retention: Duration::from_hours(720),
    };
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
            withdrawn.note(control, bounds, now);
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
