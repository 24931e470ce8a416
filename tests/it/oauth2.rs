//! OAuth 2 tokens as passwords: a new one on a living connection, and one that is refused.

use std::fs;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pushrider::clock::{Clock, SystemClock};
use pushrider::sandbox;
use rcgen::KeyPair;
use serde_json::json;

use crate::support::broker::Broker;
use crate::support::env::{TestEnv, event};
use crate::support::{eventually, wanted};

/// Makes a token of RabbitMQ's OAuth 2 plug-in that is good for so long.
fn token(key: &KeyPair, life: Duration) -> String {
    let expires = SystemClock.now().wall + life;
    let expires = expires.duration_since(std::time::UNIX_EPOCH).unwrap();
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({ "alg": "ES256", "typ": "JWT", "kid": "k1" }));
    let scope = ["configure", "write", "read"].map(|right| format!("rabbitmq.{right}:*/*/*"));
    let body = part(json!({
        "aud": ["rabbitmq"], "sub": "push", "exp": expires.as_secs(), "scope": scope,
    }));
    let signed = format!("{head}.{body}");
    let der = key.serialize_der();
    let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).unwrap();
    let signature = signer
        .sign(&SystemRandom::new(), signed.as_bytes())
        .unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

async fn says(env: &TestEnv, words: &str) {
    eventually(Duration::from_secs(30), async || {
        wanted(env.daemon.log().contains(words), |is| *is)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_token_is_told_and_a_refused_one_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let public = folder.path().join("k1.pem");
    fs::write(&public, key.public_key_pem()).unwrap();
    let configuration = format!(
        "auth_backends.1 = rabbit_auth_backend_oauth2\n\
         auth_backends.2 = internal\n\
         auth_oauth2.resource_server_id = rabbitmq\n\
         auth_oauth2.signing_keys.k1 = {}\n\
         auth_oauth2.default_key = k1\n\
         auth_oauth2.algorithms.1 = ES256\n",
        public.display()
    );
    let broker = Broker::with_plugins("rabbitmq_auth_backend_oauth2", &configuration);
    let vhost = broker.vhost();
    let (port, name) = (vhost.port(), vhost.name().to_owned());
    let write = |env: &TestEnv, token: &str| {
        let url = format!("amqp://push:{token}@127.0.0.1:{port}/{name}\n");
        env.daemon.write("url", &url);
    };
    let url = vhost.url();
    let mut env = TestEnv::open_at(vhost, &url, sandbox::Settings::default(), "").await;
    let fine = env.subscribe(json!({}));
    env.daemon.stop().await;
    write(&env, &token(&key, Duration::from_hours(1)));
    let variables = [("PUSHRIDER_BROKER__URL_FILE", "url")];
    env.daemon.launch_with(&[], &variables).await;
    env.publish(&event("e1", &fine, json!({}))).await;
    env.results_of("e1", 1).await;

    write(&env, &token(&key, Duration::from_hours(2)));
    env.daemon.reload("applied").await;
    says(
        &env,
        "the broker was told the new password on each living connection",
    )
    .await;
    let reconnects = env
        .daemon
        .metric("pushrider_broker_reconnects_total", "")
        .await;
    assert_eq!(reconnects, 0.0, "the connections live on");

    write(&env, "refused");
    env.daemon.reload("applied").await;
    says(
        &env,
        "the broker refuses the new password on a living connection",
    )
    .await;
    env.publish(&event("e2", &fine, json!({}))).await;
    write(&env, &token(&key, Duration::from_hours(1)));
    let result = env.results_of("e2", 1).await.remove(0);
    assert_eq!(result["outcome"], "accepted");
}
