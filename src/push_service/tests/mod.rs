//! The module as a whole, over real TLS on loopback: what goes out, and what never does.

use std::env;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use proptest::prelude::*;

use crate::guard;
use crate::outcome::{Answer, Attempt, Failure};
use crate::subscription::Endpoint;

use super::{Client, PushRequest, Settings, Transport};

mod connecting;
mod failing;
mod fake_http1;
mod fake_service;
mod proxies;
mod tls_faults;

use fake_service::{FakeService, Speaks};

/// Long enough for anything that is to happen.
const AMPLE: Duration = Duration::from_secs(20);

/// Long enough for loopback, short enough to wait for.
const BRIEF: Duration = Duration::from_millis(400);

fn settings(service: &FakeService) -> Settings {
    Settings {
        connect_timeout: Duration::from_secs(5),
        ca: Some(service.ca.clone()),
        proxy: None,
        connections_per_origin: 3,
        requests_per_connection: 100,
        idle_timeout: Duration::from_secs(60),
        guard: Arc::new(guard::Rules {
            allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            ..guard::Rules::default()
        }),
    }
}

fn client(service: &FakeService) -> Client {
    Client::new(&settings(service)).unwrap()
}

fn request(service: &FakeService, path: &str) -> PushRequest {
    request_to(&format!("https://{}{path}", service.address))
}

fn request_to(endpoint: &str) -> PushRequest {
    let mut headers = HeaderMap::new();
    headers.insert("ttl", HeaderValue::from_static("60"));
    PushRequest {
        endpoint: Endpoint::parse(endpoint).unwrap(),
        headers,
        body: Bytes::from_static(b"encrypted"),
    }
}

async fn post(client: &Client, service: &FakeService, path: &str) -> Attempt {
    client.post(request(service, path), AMPLE).await
}

#[track_caller]
fn answered(attempt: Attempt) -> Answer {
    match attempt {
        Attempt::Answered(answer) => answer,
        Attempt::Failed(failure) => panic!("failed: {failure:?}"),
    }
}

#[track_caller]
fn failed(attempt: Attempt) -> Failure {
    match attempt {
        Attempt::Answered(answer) => panic!("answered: {answer:?}"),
        Attempt::Failed(failure) => failure,
    }
}

#[tokio::test]
async fn a_push_arrives_over_http2_and_its_answer_comes_back() {
    let service = FakeService::start(Speaks::Both).await;
    let answer = answered(post(&client(&service), &service, "/says/403").await);
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(&answer.excerpt[..], b"its own words");

    let seen = service.log.seen().remove(0);
    assert_eq!(seen.version, "HTTP/2.0");
    assert_eq!(seen.body, b"encrypted");
    assert_eq!(seen.headers["ttl"], "60");
    assert_eq!(seen.headers["content-length"], "9");
    let mut names: Vec<_> = seen.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "content-length", "ttl"]);
}

#[tokio::test]
async fn a_push_without_a_body_says_that_it_has_none() {
    for speaks in [Speaks::Both, Speaks::Http1] {
        let service = FakeService::start(speaks).await;
        let mut request = request(&service, "/201");
        request.body = Bytes::new();
        answered(client(&service).post(request, AMPLE).await);
        let seen = service.log.seen().remove(0);
        assert_eq!(seen.headers["content-length"], "0", "{speaks:?}");
        assert_eq!(seen.headers.get("transfer-encoding"), None);
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let service = FakeService::start(Speaks::Both).await;
    let client = client(&service);
    for status in ["301", "302", "303", "307", "308"] {
        let answer = answered(post(&client, &service, &format!("/redirect/{status}")).await);
        assert_eq!(answer.status.as_str(), status);
        assert_eq!(answer.headers["location"], "/elsewhere");
    }
    assert_eq!(service.log.seen().len(), 5);
}

#[tokio::test]
async fn the_bytes_of_an_endpoint_are_the_bytes_on_the_wire() {
    for speaks in [Speaks::Both, Speaks::Http1] {
        let service = FakeService::start(speaks).await;
        let client = client(&service);
        for target in [
            "/w/?token=BQYAAACYuEB%2bMk%2fq%3d%3d",
            "/fcm/send/dV9:APA91b_-~.!$&'()*+,;=@",
            "/a%zz%2/b",
            "/x//y",
            "/|pipe[]\\?`{}|^[]\\%22",
            "/wpush/v2/gAAAAAB?",
            "/%F0%9F%94%94",
        ] {
            let endpoint = format!("https://{}{target}", service.address);
            let Ok(endpoint) = Endpoint::parse(&endpoint) else {
                // Its normal form is another one; `Endpoint` refuses it.
                assert!(target.contains('\\'), "{target}");
                continue;
            };
            let request = PushRequest {
                endpoint,
                ..request(&service, "/")
            };
            answered(client.post(request, AMPLE).await);
            let seen = service.log.seen().pop().unwrap();
            assert_eq!(seen.target, target, "{speaks:?}");
        }
    }
}

proptest! {
    /// The HTTP library is given the endpoint as text: it takes the very bytes or refuses.
    #[test]
    fn no_byte_of_an_endpoint_is_rewritten(target in "/([ -~]{0,40}[!-~])?") {
        if let Ok(endpoint) = Endpoint::parse(&format!("https://push.example.net{target}"))
            && let Ok(uri) = endpoint.as_str().parse::<Uri>()
        {
            prop_assert_eq!(uri.path_and_query().unwrap().as_str(), target);
        }
    }
}

#[tokio::test]
async fn a_byte_that_http_cannot_carry_is_found_at_the_request() {
    let service = FakeService::start(Speaks::Both).await;
    let refused = (' '..='~')
        .map(|byte| format!("https://{}/x{byte}x?{byte}", service.address))
        .filter_map(|text| Endpoint::parse(&text).ok())
        .filter(|endpoint| endpoint.as_str().parse::<Uri>().is_err());
    let client = client(&service);
    for endpoint in refused {
        let request = PushRequest {
            endpoint,
            ..request(&service, "/")
        };
        assert_eq!(failed(client.post(request, AMPLE).await), Failure::Protocol);
    }
    // A host may hold what an authority may not.
    let odd_host = request_to("https://push_{x}.example.net/");
    assert_eq!(
        failed(client.post(odd_host, AMPLE).await),
        Failure::Protocol
    );
    assert_eq!(service.log.seen().len(), 0);
}

#[test]
fn the_environment_has_no_say_in_where_pushes_go() {
    const TEST: &str = "push_service::tests::a_push_arrives_over_http2_and_its_answer_comes_back";
    let nowhere = "http://127.0.0.1:1";
    let run = Command::new(env::current_exe().unwrap())
        .args(["--exact", TEST])
        .envs(["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, nowhere)))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn debug_shows_neither_the_endpoint_nor_the_token() {
    let mut request = request_to("https://push.example.net/capability");
    let token = HeaderValue::from_static("vapid t=token, k=key");
    request.headers.insert("authorization", token);
    let shown = format!("{request:?}");
    assert!(
        !shown.contains("capability") && !shown.contains("token"),
        "{shown}"
    );
    assert!(shown.contains(&request.endpoint.fingerprint().to_hex()[..16]));
}
