//! Pushes through an HTTP proxy, and what is reported of a proxy that makes no connection.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::outcome::{Failure, ProxyFailure, ProxyFault};
use crate::push_service::{Client, Proxy, Settings, Transport};

use super::fake_service::{FakeService, Speaks};
use super::{AMPLE, BRIEF, answered, failed, post, request_to, settings};

/// What a proxy does with CONNECT.
#[derive(Clone, Copy)]
enum Answers {
    /// It connects to the port that is asked for, on loopback.
    Connects,
    /// It answers with these bytes and closes.
    With(&'static str),
    /// It reads and says nothing.
    Never,
}

/// A proxy on loopback; it ends with the runtime of its test.
struct FakeProxy {
    place: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl FakeProxy {
    async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, answers, Arc::clone(&seen)));
            }
        });
        Self { place, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(mut client: TcpStream, answers: Answers, heads: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(client.read_buf(&mut head).await, Ok(1..)) {
            return;
        }
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap();
    let port: u16 = target.rsplit(':').next().unwrap().parse().unwrap();
    heads.lock().unwrap().push(head.clone());
    match answers {
        Answers::Connects => {
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
            client.write_all(established).await.unwrap();
            let _ended = copy_bidirectional(&mut client, &mut server).await;
        }
        Answers::With(answer) => client.write_all(answer.as_bytes()).await.unwrap(),
        Answers::Never => std::future::pending().await,
    }
}

fn through(proxy: &str, service: &FakeService) -> Client {
    let settings = Settings {
        proxy: Some(Proxy::parse(proxy).unwrap()),
        connect_timeout: 2 * BRIEF,
        ..settings(service)
    };
    Client::new(&settings).unwrap()
}

#[tokio::test]
async fn a_push_goes_through_the_proxy_with_tls_and_http2_end_to_end() {
    for (speaks, version) in [(Speaks::Both, "HTTP/2.0"), (Speaks::Http1, "HTTP/1.1")] {
        let service = FakeService::start(speaks).await;
        let proxy = FakeProxy::start(Answers::Connects).await;
        let url = format!("http://us%40er:p%3Aw@{}", proxy.place);
        let client = through(&url, &service);
        let target = format!("localhost:{}", service.address.port());
        let request = request_to(&format!("https://{target}/capability"));
        answered(client.post(request, AMPLE).await);
        assert_eq!(service.log.seen()[0].version, version);
        for head in proxy.heads() {
            assert!(head.starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")));
            // us@er:p:w
            assert!(
                head.contains("\r\nProxy-Authorization: Basic dXNAZXI6cDp3\r\n")
                    || head.contains("\r\nproxy-authorization: Basic dXNAZXI6cDp3\r\n"),
                "{head}"
            );
            assert!(!head.contains("capability"), "{head}");
        }
        assert!(!proxy.heads().is_empty());
    }
}

#[tokio::test]
async fn the_proxy_resolves_the_names_of_endpoints() {
    let service = FakeService::start(Speaks::Both).await;
    let proxy = FakeProxy::start(Answers::Connects).await;
    let client = through(&format!("http://{}", proxy.place), &service);
    let target = format!("no-such-name.invalid:{}", service.address.port());
    let attempt = client
        .post(request_to(&format!("https://{target}/x")), AMPLE)
        .await;
    // The certificate of what the proxy connects to is for another name.
    assert!(matches!(failed(attempt), Failure::Tls(_)));
    assert!(proxy.heads()[0].starts_with(&format!("CONNECT {target} ")));
}

#[tokio::test]
async fn a_proxy_that_makes_no_connection_is_told_with_its_fault() {
    let service = FakeService::start(Speaks::Both).await;
    for (answers, fault) in [
        (
            Answers::With("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
            ProxyFault::Credentials,
        ),
        (
            Answers::With("HTTP/1.1 403 Forbidden\r\n\r\n"),
            ProxyFault::Refused,
        ),
        (
            Answers::With("HTTP/1.1 502 Bad Gateway\r\n\r\n"),
            ProxyFault::Refused,
        ),
        (Answers::With(""), ProxyFault::Broken),
        (Answers::Never, ProxyFault::Late),
    ] {
        let proxy = FakeProxy::start(answers).await;
        let url = format!("http://user:secret@{}", proxy.place);
        let attempt = post(&through(&url, &service), &service, "/201").await;
        let failure = failed(attempt);
        let place = proxy.place.as_str().into();
        assert_eq!(failure, Failure::Proxy(ProxyFailure { place, fault }));
        assert!(!format!("{failure:?}").contains("secret"));
    }
    assert_eq!(service.connections(), 0);
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_told_as_such() {
    let service = FakeService::start(Speaks::Both).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = free.local_addr().unwrap().to_string();
    drop(free);
    for (url, place) in [
        (format!("http://{place}"), place),
        (
            "http://no-such-proxy.invalid:3128".into(),
            "no-such-proxy.invalid:3128".into(),
        ),
    ] {
        let attempt = post(&through(&url, &service), &service, "/201").await;
        let Failure::Proxy(failure) = failed(attempt) else {
            panic!("it is the proxy's");
        };
        assert_eq!(
            (&*failure.place, failure.fault),
            (&*place, ProxyFault::Unreachable)
        );
    }
}

#[tokio::test]
async fn the_guard_still_refuses_private_addresses_before_the_proxy_sees_them() {
    let service = FakeService::start(Speaks::Both).await;
    let proxy = FakeProxy::start(Answers::Connects).await;
    let strict = Settings {
        proxy: Some(Proxy::parse(&format!("http://{}", proxy.place)).unwrap()),
        guard: Arc::default(),
        ..settings(&service)
    };
    let attempt = post(&Client::new(&strict).unwrap(), &service, "/201").await;
    assert_eq!(failed(attempt), Failure::ForbiddenAddress);
    assert_eq!(proxy.heads(), [""; 0]);
}
