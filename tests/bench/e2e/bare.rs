//! The least that a worker can do: consume, encrypt, POST, publish, acknowledge.
//!
//! It has no gates, retries, guard, metrics or memory, and knows nothing of failures. The distance
//! between its cost and the daemon's is the price of everything that the daemon guarantees.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use pushrider::clock::{Clock, SystemClock};
use pushrider::ece::{Salt, SenderKey, aes128gcm};
use pushrider::message::Name;
use pushrider::origin::Origin;
use pushrider::subscription::{AuthSecret, Keys, UserAgentKey, decode_base64};
use pushrider::vapid::{Subject, Token, Validity, VapidKey};
use reqwest::{Certificate, Client};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Mutex, Semaphore};
use url::Url;

use crate::support::vhost::open;

/// How many messages the broker sends ahead, and how many are handled at once.
const PREFETCH: u16 = 1000;

#[derive(Deserialize)]
struct Event {
    id: String,
    subscription: Subscription,
    payload: String,
}

#[derive(Deserialize)]
struct Subscription {
    endpoint: String,
    keys: SubscriptionKeys,
}

#[derive(Deserialize)]
struct SubscriptionKeys {
    p256dh: String,
    auth: String,
}

struct Worker {
    client: Client,
    channel: Channel,
    key: VapidKey,
    tokens: Mutex<HashMap<Origin, Arc<Token>>>,
}

/// Works until it is killed.
pub(crate) async fn run(amqp_url: &str) {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().unwrap();
    // It runs in the directory of the daemon whose place it takes.
    let pem = std::fs::read("ca.pem").unwrap();
    let client = Client::builder()
        .use_rustls_tls()
        .tls_certs_only([Certificate::from_pem(&pem).unwrap()])
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let (_connection, channel) = open(amqp_url).await;
    let qos = BasicQosOptions::default();
    channel.basic_qos(PREFETCH, qos).await.unwrap();
    let consumed = channel.basic_consume(
        "webpush.lane.default".into(),
        "bare".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let mut events = consumed.await.unwrap();
    let worker = Arc::new(Worker {
        client,
        channel,
        key: VapidKey::generate(Name::parse("bare").unwrap()).unwrap(),
        tokens: Mutex::default(),
    });
    let slots = Arc::new(Semaphore::new(PREFETCH.into()));
    while let Some(event) = events.next().await {
        let slot = Arc::clone(&slots).acquire_owned().await.unwrap();
        let worker = Arc::clone(&worker);
        tokio::spawn(async move {
            worker.handle(event.unwrap()).await;
            drop(slot);
        });
    }
}

impl Worker {
    async fn handle(&self, delivery: Delivery) {
        let event: Event = serde_json::from_slice(&delivery.data).unwrap();
        let Subscription { endpoint, keys } = event.subscription;
        let endpoint = Url::parse(&endpoint).unwrap();
        let keys = Keys {
            p256dh: UserAgentKey::from_bytes(&decode_base64(&keys.p256dh).unwrap()).unwrap(),
            auth: AuthSecret::new(decode_base64(&keys.auth).unwrap().try_into().unwrap()),
        };
        let (sender, salt) = (SenderKey::generate().unwrap(), Salt::random().unwrap());
        let body = aes128gcm::encrypt(&keys, event.payload.as_bytes(), 0, sender, salt);
        let token = self.token(&endpoint).await;
        let answer = self
            .client
            .post(endpoint)
            .header("ttl", "86400")
            .header("content-encoding", "aes128gcm")
            .header("authorization", token.authorization())
            .body(body.unwrap())
            .send();
        let status = answer.await.unwrap().status().as_u16();
        let result = json!({ "event_id": event.id, "status": status }).to_string();
        let published = self.channel.basic_publish(
            "webpush.results".into(),
            "delivery.shop.accepted".into(),
            BasicPublishOptions::default(),
            result.as_bytes(),
            BasicProperties::default()
                .with_delivery_mode(2)
                .with_correlation_id(event.id.into()),
        );
        assert!(published.await.unwrap().await.unwrap().is_ack());
        delivery
            .acker
            .ack(BasicAckOptions::default())
            .await
            .unwrap();
    }

    async fn token(&self, endpoint: &Url) -> Arc<Token> {
        let origin = Origin::of(endpoint);
        let mut tokens = self.tokens.lock().await;
        let sign = || {
            let subject = Subject::parse("mailto:ops@example.org").unwrap();
            let validity = Validity::new(Duration::from_hours(12), Duration::from_hours(1));
            let now = SystemClock.now().wall;
            Arc::new(Token::sign(&self.key, &origin, &subject, now, validity.unwrap()).unwrap())
        };
        Arc::clone(tokens.entry(origin.clone()).or_insert_with(sign))
    }
}
