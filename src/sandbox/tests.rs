//! The sandbox from outside: a real client over real TLS.

use std::error::Error as _;
use std::pin::pin;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName};
use reqwest::{Client, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::sender::Sender;
use super::{Message, Running, Script, Settings, SubscriptionJson, Wish, start};
use crate::clock::{Clock as _, SystemClock};
use crate::origin::Service;

/// A sandbox, an application server and its HTTP client.
struct World {
    sandbox: Running,
    sender: Sender,
    client: Client,
}

async fn world() -> World {
    world_of(Settings::default()).await
}

async fn world_of(settings: Settings) -> World {
    let http2 = settings.http2;
    let sandbox = start(settings).await.unwrap();
    World {
        client: client(sandbox.ca_pem(), http2),
        sender: Sender::new(),
        sandbox,
    }
}

fn client(ca: &str, http2: bool) -> Client {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut tls = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let alpn = if http2 { "h2" } else { "http/1.1" };
    tls.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .build()
        .unwrap()
}

fn script(json: Value) -> Script {
    Script::from_json(json).unwrap()
}

impl World {
    fn subscribe(&self, answer: Value) -> SubscriptionJson {
        self.sandbox.subscribe(script(answer)).unwrap()
    }

    async fn push(&self, to: &SubscriptionJson, text: &str) -> reqwest::Result<Response> {
        self.push_with(to, text, |_| ()).await
    }

    async fn push_with(
        &self,
        to: &SubscriptionJson,
        text: &str,
        change: impl FnOnce(&mut HeaderMap),
    ) -> reqwest::Result<Response> {
        let url = url::Url::parse(&to.endpoint).unwrap();
        let origin = url.origin().ascii_serialization();
        let (mut headers, body) = self.sender.request(&origin, &to.keys, text.as_bytes());
        change(&mut headers);
        self.client
            .post(url)
            .headers(headers)
            .body(body)
            .send()
            .await
    }

    fn last(&self, of: &SubscriptionJson) -> Message {
        let messages = self.sandbox.messages(Some(&of.id));
        Message::clone(messages.last().unwrap())
    }
}

/// Reads a body to its end, which must be near.
async fn text(mut response: Response) -> String {
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    String::from_utf8(text).unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

/// Finds the HTTP/2 stack's own words in an error.
fn of_h2(error: &reqwest::Error) -> &h2::Error {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return found;
        }
        source = error.source();
    }
    panic!("{error:?}");
}

#[tokio::test]
async fn a_right_push_is_taken_decrypted_and_kept() {
    for (http2, version) in [(true, "HTTP/2"), (false, "HTTP/1.1")] {
        let settings = Settings {
            http2,
            ..Settings::default()
        };
        let world = world_of(settings).await;
        let to = world.sandbox.subscribe(Wish::default()).unwrap();
        let response = world.push(&to, "héllo").await.unwrap();
        let origin = &world.sandbox.origins()[0];
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "location"), format!("{origin}/message/1"));
        assert_eq!(header(&response, "ttl"), "60");
        let message = world.last(&to);
        assert_eq!(message.text.as_deref(), Some("héllo"));
        assert_eq!(message.plaintext.as_deref(), Some("héllo".as_bytes()));
        assert_eq!(message.http_version, version);
        assert_eq!((message.status, message.error), (Some(201), None));
        assert_eq!(message.key, Some(world.sender.public()));
        assert_eq!(message.vapid.unwrap().aud, *origin);
        world.sandbox.stop().await;
    }
}

#[tokio::test]
async fn a_wrong_push_is_told_why_and_kept() {
    let world = world().await;
    let wish = Wish {
        application_server_key: Some(Sender::new().public()),
        ..Wish::default()
    };
    let bound = world.sandbox.subscribe(wish).unwrap();
    let other = world.sandbox.subscribe(Wish::default()).unwrap();
    let response = world.push(&bound, "hello").await.unwrap();
    assert_eq!(response.status(), 403);
    assert!(text(response).await.contains("public key mismatch"));
    let crossed = SubscriptionJson {
        keys: bound.keys.clone(),
        ..other.clone()
    };
    let response = world.push(&crossed, "hello").await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(text(response).await.contains("another p256dh or auth"));
    let no_ttl = |headers: &mut HeaderMap| drop(headers.remove("ttl"));
    let response = world.push_with(&other, "hello", no_ttl).await.unwrap();
    assert_eq!(response.status(), 400);
    let message = world.last(&other);
    assert_eq!(message.error.unwrap(), "TTL is missing (RFC 8030 §5.2)");
    let response = world.push(&other, &"x".repeat(3994)).await.unwrap();
    assert_eq!(response.status(), 413);
    let response = world.push(&other, &"x".repeat(3993)).await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(world.sandbox.stats().decrypt_failures, 1);
}

#[tokio::test]
async fn a_body_without_end_is_answered_all_the_same() {
    let world = world().await;
    let to = world.subscribe(json!({ "status": 201 }));
    let (mut headers, _) = world
        .sender
        .request(&world.sandbox.origins()[0], &to.keys, b"");
    headers.insert("content-length", "20000000".parse().unwrap());
    let request = world.client.post(&to.endpoint).headers(headers);
    let response = request.body(vec![0; 20_000_000]).send().await.unwrap();
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn only_a_post_to_a_known_token_is_a_push() {
    let world = world().await;
    let to = world.subscribe(json!({ "status": 201 }));
    let unknown = SubscriptionJson {
        endpoint: format!("{}x", to.endpoint),
        ..to.clone()
    };
    let response = world.push(&unknown, "hello").await.unwrap();
    assert_eq!(response.status(), 404);
    let response = world.client.get(&to.endpoint).send().await.unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(header(&response, "allow"), "POST");
}

#[tokio::test]
async fn each_origin_speaks_as_a_service_of_its_own() {
    let settings = Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap(); 3],
        services: vec![Service::Mozilla, Service::Apple],
        ..Settings::default()
    };
    let world = world_of(settings).await;
    let at = |origin| {
        let wish = Wish {
            origin,
            ..Wish::default()
        };
        world.sandbox.subscribe(wish).unwrap()
    };
    let [mozilla, apple, last] = [at(0), at(1), at(2)];
    assert!(mozilla.endpoint.contains("/wpush/v2/"));
    let no_ttl = |headers: &mut HeaderMap| drop(headers.remove("ttl"));
    let response = world.push_with(&mozilla, "hello", no_ttl).await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(text(response).await.contains(r#""errno":111"#));
    for one in [&apple, &last] {
        let response = world.push(one, "hello").await.unwrap();
        assert_eq!(response.status(), 201);
        assert!(response.headers().contains_key("apns-id"));
    }
    // Taken as by the real one, and told as wrong to whoever asks here.
    let crossed = SubscriptionJson {
        keys: apple.keys.clone(),
        ..mozilla.clone()
    };
    assert_eq!(world.push(&crossed, "hello").await.unwrap().status(), 201);
    let message = world.last(&mozilla);
    assert_eq!(message.status, Some(201));
    assert!(message.error.unwrap().contains("another p256dh or auth"));
    assert_eq!(world.sandbox.stats().decrypt_failures, 1);
}

#[tokio::test]
async fn a_script_asks_for_the_services_own_words() {
    let settings = Settings {
        services: vec![Service::Mozilla],
        ..Settings::default()
    };
    let world = world_of(settings).await;
    let to = world.subscribe(json!([{ "answer": "gone" }, { "status": 503 }]));
    let response = world.push(&to, "hello").await.unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            header(&response, "cache-control")
        ),
        (410, "max-age=86400")
    );
    let response = world.push(&to, "hello").await.unwrap();
    assert_eq!(header(&response, "retry-after"), "120");
    let apples = script(json!({ "answer": "idle_timeout" }));
    assert!(!world.sandbox.play(&to.id, apples.clone()));
    let refused = world.sandbox.subscribe(apples).unwrap_err().to_string();
    assert!(refused.contains("\"idle_timeout\"") && refused.contains("constrained_device"));
}

#[tokio::test]
async fn what_ntfy_cuts_off_is_taken_and_told() {
    let settings = Settings {
        services: vec![Service::Ntfy],
        ..Settings::default()
    };
    let world = world_of(settings).await;
    let to = world.sandbox.subscribe(Wish::default()).unwrap();
    let response = world.push(&to, &"x".repeat(3994)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(world.last(&to).error.unwrap().contains("longer than 4096"));
    let response = world.push(&to, "hello").await.unwrap();
    let message: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(message["topic"].as_str().unwrap().len(), 14);
    assert_eq!(world.last(&to).text.as_deref(), Some("hello"));
}

#[tokio::test]
async fn a_script_is_played_push_by_push() {
    let world = world().await;
    let to = world.subscribe(json!([
        { "status": 429, "headers": { "Retry-After": "inf" }, "body": "slow down", "times": 2 },
        { "status": 307, "headers": { "Location": "/elsewhere" } },
        { "status": 201, "headers": { "TTL": "7" } },
    ]));
    for _ in 0..2 {
        let response = world.push(&to, "hello").await.unwrap();
        assert_eq!(
            (response.status().as_u16(), header(&response, "retry-after")),
            (429, "inf")
        );
        assert_eq!(text(response).await, "slow down");
    }
    let response = world.push(&to, "hello").await.unwrap();
    assert_eq!(
        (response.status().as_u16(), header(&response, "location")),
        (307, "/elsewhere")
    );
    for _ in 0..2 {
        let response = world.push(&to, "hello").await.unwrap();
        assert_eq!(
            (response.status().as_u16(), header(&response, "ttl")),
            (201, "7")
        );
    }
    assert!(world.sandbox.play(&to.id, script(json!({ "status": 410 }))));
    assert_eq!(world.push(&to, "hello").await.unwrap().status(), 410);
    assert!(!world.sandbox.play("nobody", Script::default()));
    let statuses = world.sandbox.stats().statuses;
    assert_eq!(statuses, [(201, 2), (307, 1), (410, 1), (429, 2)].into());
}

#[tokio::test]
async fn slow_answers_and_bodies_take_their_time() {
    let world = world().await;
    let late = world.subscribe(json!({ "status": 503, "delay": "150ms" }));
    let waited = timeout(Duration::from_millis(100), world.push(&late, "hello")).await;
    assert!(waited.is_err());
    assert_eq!(world.push(&late, "hello").await.unwrap().status(), 503);
    let dripping = world.subscribe(json!({ "status": 200, "body": "abc", "trickle": "20ms" }));
    let began = SystemClock.now().mono;
    let mut response = world.push(&dripping, "hello").await.unwrap();
    for byte in ["a", "b", "c"] {
        assert_eq!(response.chunk().await.unwrap().unwrap(), byte);
    }
    assert_eq!(response.chunk().await.unwrap(), None);
    assert!(began.elapsed() >= Duration::from_millis(60));
    let huge = world.subscribe(json!({ "status": 500, "body_bytes": 3_000_000 }));
    let response = world.push(&huge, "hello").await.unwrap();
    assert_eq!(response.content_length(), None);
    assert_eq!(text(response).await.len(), 3_000_000);
}

#[tokio::test]
async fn a_hanging_push_has_arrived_and_is_never_answered() {
    let world = world().await;
    let to = world.subscribe(json!({ "fault": "hang" }));
    let mut arrivals = world.sandbox.arrivals();
    let mut push = pin!(world.push(&to, "hello"));
    let message = tokio::select! {
        answered = &mut push => panic!("{answered:?}"),
        message = arrivals.recv() => message.unwrap(),
    };
    assert_eq!((message.status, message.fault), (None, Some("hang")));
    assert!(timeout(Duration::from_millis(50), push).await.is_err());
}

#[tokio::test]
async fn a_reset_has_its_reason_and_spares_the_connection() {
    let world = world().await;
    for (name, reason) in [
        ("REFUSED_STREAM", h2::Reason::REFUSED_STREAM),
        ("ENHANCE_YOUR_CALM", h2::Reason::ENHANCE_YOUR_CALM),
    ] {
        let to = world.subscribe(json!([{ "fault": "reset", "reason": name }, {}]));
        let error = world.push(&to, "hello").await.unwrap_err();
        let error = of_h2(&error);
        assert!(error.is_reset() && error.is_remote(), "{error:?}");
        assert_eq!(error.reason(), Some(reason));
        assert_eq!(world.push(&to, "hello").await.unwrap().status(), 201);
    }
    let opened = world.sandbox.stats().connections_opened;
    assert_eq!(opened.into_values().collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn goaway_ends_a_connection_and_says_what_was_processed() {
    let world = world().await;
    let to = world.subscribe(json!([
        { "fault": "goaway" }, {}, { "fault": "goaway_unprocessed" }, {}, { "fault": "cut" }, {},
    ]));
    assert_eq!(world.push(&to, "graceful").await.unwrap().status(), 201);
    assert_eq!(world.push(&to, "after").await.unwrap().status(), 201);
    let error = world.push(&to, "unprocessed").await.unwrap_err();
    let error = of_h2(&error);
    assert!(error.is_go_away() && error.is_remote(), "{error:?}");
    assert_eq!(error.reason(), Some(h2::Reason::NO_ERROR));
    assert_eq!(world.push(&to, "after").await.unwrap().status(), 201);
    let error = world.push(&to, "cut").await.unwrap_err();
    let mut source = error.source();
    while let Some(error) = source {
        let found = error.downcast_ref::<h2::Error>();
        assert!(found.is_none_or(|error| !error.is_go_away()), "{error:?}");
        source = error.source();
    }
    assert_eq!(world.push(&to, "after").await.unwrap().status(), 201);
    let opened = world.sandbox.stats().connections_opened;
    assert_eq!(opened.into_values().collect::<Vec<_>>(), [4]);
}

#[tokio::test]
async fn http_1_1_has_its_own_ways_to_fail() {
    let settings = Settings {
        http2: false,
        ..Settings::default()
    };
    let world = world_of(settings).await;
    for fault in ["reset", "goaway_unprocessed", "cut"] {
        let to = world.subscribe(json!([{ "fault": fault }, {}]));
        assert!(world.push(&to, "hello").await.is_err(), "{fault}");
        assert_eq!(
            world.push(&to, "hello").await.unwrap().status(),
            201,
            "{fault}"
        );
    }
    let to = world.subscribe(json!({ "fault": "goaway" }));
    let response = world.push(&to, "hello").await.unwrap();
    assert_eq!(header(&response, "connection"), "close");
}

#[tokio::test]
async fn streams_are_limited_and_counted() {
    let settings = Settings {
        max_concurrent_streams: 3,
        latency: Duration::from_millis(30),
        ..Settings::default()
    };
    let world = world_of(settings).await;
    let to = world.subscribe(json!({}));
    let credential = world.sender.authorization(&world.sandbox.origins()[0]);
    let push = || {
        world.push_with(&to, "hello", |headers| {
            headers.insert("authorization", credential.parse().unwrap());
        })
    };
    assert_eq!(push().await.unwrap().status(), 201);
    let pushes = (0..12).map(|_| push());
    for response in futures_util::future::join_all(pushes).await {
        assert_eq!(response.unwrap().status(), 201);
    }
    let stats = world.sandbox.stats();
    assert_eq!((stats.streams_in_flight_max, stats.requests), (3, 13));
    assert_eq!(stats.vapid_tokens, 1);
}

#[tokio::test]
async fn each_address_is_an_origin() {
    let local = "127.0.0.1:0".parse().unwrap();
    let world = world_of(Settings {
        listen: vec![local, "[::1]:0".parse().unwrap(), local],
        ..Settings::default()
    })
    .await;
    let origins = world.sandbox.origins().to_vec();
    assert!(origins[1].starts_with("https://[::1]:"), "{origins:?}");
    for (origin, name) in origins.iter().enumerate() {
        let wish = Wish {
            origin,
            ..Wish::default()
        };
        let to = world.sandbox.subscribe(wish).unwrap();
        assert_eq!(
            world.push(&to, "hello").await.unwrap().status(),
            201,
            "{name}"
        );
        let next = &origins[(origin + 1) % origins.len()];
        let moved = SubscriptionJson {
            endpoint: to.endpoint.replace(name, next),
            ..to
        };
        assert_eq!(world.push(&moved, "hello").await.unwrap().status(), 404);
    }
}

#[tokio::test]
async fn the_control_listener_does_what_a_test_in_process_does() {
    let world = world_of(Settings {
        control: Some("127.0.0.1:0".parse().unwrap()),
        ..Settings::default()
    })
    .await;
    let control = world.sandbox.control().unwrap();
    let at = |path: &str| format!("{control}{path}");
    let json = |response: Response| async { serde_json::from_str(&text(response).await).unwrap() };
    let key = world.sender.public();
    let wish = json!({ "application_server_key": key, "answer": [{ "status": 503 }, {}] });
    let made = world
        .client
        .post(at("/subscriptions"))
        .body(wish.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(made.status(), 201);
    let made: Value = json(made).await;
    let id = made["id"].as_str().unwrap();
    let to = world.sandbox.service.subscriptions.all().remove(0);
    assert_eq!(serde_json::to_value(&to).unwrap(), made);
    assert_eq!(world.push(&to, "one").await.unwrap().status(), 503);
    let answer = world.client.put(at(&format!("/subscriptions/{id}/answer")));
    let answered = answer.body(r#"{ "status": 410 }"#).send().await.unwrap();
    assert_eq!(answered.status(), 204);
    assert_eq!(world.push(&to, "two").await.unwrap().status(), 410);
    let plain = world
        .client
        .post(at("/subscriptions"))
        .send()
        .await
        .unwrap();
    assert_eq!(plain.status(), 201);
    let kept = world
        .client
        .get(at(&format!("/messages?subscription={id}")));
    let kept: Value = json(kept.send().await.unwrap()).await;
    assert_eq!(kept[1]["text"], "two");
    assert_eq!(
        (&kept[0]["status"], &kept[1]["status"]),
        (&json!(503), &json!(410))
    );
    assert_eq!(kept[0]["vapid"]["aud"], world.sandbox.origins()[0]);
    let forgotten = world.client.delete(at("/messages")).send().await.unwrap();
    assert_eq!(forgotten.status(), 204);
    let kept: Value = json(world.client.get(at("/messages")).send().await.unwrap()).await;
    assert_eq!(kept, json!([]));
    let stats: Value = json(world.client.get(at("/stats")).send().await.unwrap()).await;
    assert_eq!(
        (&stats["requests"], &stats["subscriptions"]),
        (&json!(2), &json!(2))
    );
    let ca = world.client.get(at("/ca.pem")).send().await.unwrap();
    assert_eq!(text(ca).await, world.sandbox.ca_pem());
}

#[tokio::test]
async fn what_the_control_listener_refuses_it_explains() {
    let world = world_of(Settings {
        control: Some("127.0.0.1:0".parse().unwrap()),
        ..Settings::default()
    })
    .await;
    let control = world.sandbox.control().unwrap();
    for (path, body, status, sentence) in [
        (
            "/subscriptions",
            r#"{ "answr": {} }"#,
            400,
            "unknown field `answr`",
        ),
        (
            "/subscriptions",
            r#"{ "answer": { "status": 99 } }"#,
            400,
            "200 to 999",
        ),
        (
            "/subscriptions",
            r#"{ "application_server_key": "x" }"#,
            400,
            "uncompressed P-256",
        ),
        (
            "/subscriptions",
            r#"{ "answer": { "answer": "dropped" } }"#,
            400,
            "it has accepted, gone, not_found",
        ),
        ("/subscriptions", "{", 400, "EOF"),
        ("/subscriptions/none/answer", "{}", 404, "no subscription"),
    ] {
        let url = format!("{control}{path}");
        let request = if status == 404 {
            world.client.put(url)
        } else {
            world.client.post(url)
        };
        let response = request.body(body).send().await.unwrap();
        assert_eq!(response.status(), status);
        let told = text(response).await;
        assert!(told.contains(sentence), "{told}");
    }
}

#[tokio::test]
async fn a_restart_with_state_keeps_authority_and_subscriptions() {
    let state = tempfile::tempdir().unwrap();
    let settings = |listen| Settings {
        listen: vec![listen],
        state: Some(state.path().to_owned()),
        ..Settings::default()
    };
    let first = world_of(settings("127.0.0.1:0".parse().unwrap())).await;
    let to = first.subscribe(json!({}));
    assert_eq!(first.push(&to, "before").await.unwrap().status(), 201);
    let address = first.sandbox.origins()[0].replace("https://", "");
    let ca = first.sandbox.ca_pem().to_owned();
    first.sandbox.stop().await;
    let mut second = world_of(settings(address.parse().unwrap())).await;
    second.client = client(&ca, true);
    assert_eq!(second.push(&to, "after").await.unwrap().status(), 201);
    assert_eq!(second.last(&to).text.as_deref(), Some("after"));
}

#[tokio::test]
async fn a_stopped_sandbox_ends_every_connection_and_frees_its_port() {
    let world = world().await;
    let to = world.subscribe(json!({ "fault": "hang" }));
    let mut arrivals = world.sandbox.arrivals();
    let pushing = world.push(&to, "hello");
    let (sandbox, origin) = (&world.sandbox, world.sandbox.origins()[0].clone());
    let (pushed, ()) = tokio::join!(pushing, async {
        arrivals.recv().await.unwrap();
        sandbox.stop.cancel();
        sandbox.tasks.wait().await;
    });
    assert!(pushed.is_err());
    let address = origin.replace("https://", "");
    tokio::net::TcpListener::bind(address).await.unwrap();
}

#[tokio::test]
async fn without_decryption_the_head_alone_is_checked() {
    let world = world_of(Settings {
        decrypt: false,
        keep: 0,
        ..Settings::default()
    })
    .await;
    let to = world.subscribe(json!({}));
    assert_eq!(world.push(&to, "hello").await.unwrap().status(), 201);
    let wrong = |headers: &mut HeaderMap| {
        headers.insert(HeaderName::from_static("ttl"), "x".parse().unwrap());
    };
    assert_eq!(
        world.push_with(&to, "hello", wrong).await.unwrap().status(),
        400
    );
    assert!(world.sandbox.messages(None).is_empty());
}
