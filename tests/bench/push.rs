//! What one push costs: the signature, the encryption, and everything but the network.
//!
//! `cargo bench --bench push`
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot be set up should stop"
)]

mod no_network;

use std::time::{Duration, SystemTime};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use pushrider::ece::{Salt, SenderKey, aes128gcm};
use pushrider::origin::Origin;
use pushrider::subscription::{AuthSecret, Keys, UserAgentKey};
use pushrider::vapid::{Subject, Token, Validity, VapidKey};

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

criterion_group!(benches, sign, encrypt, process);
criterion_main!(benches);
