//! A push service for the tests of this module: real TLS, its own CA, and every fault a server can
//! have, chosen by the path of the request.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::fake_http1::serve_http1;

/// How long an answer takes that is slow.
pub(super) const LATENCY: Duration = Duration::from_millis(100);

/// What the service speaks on its next connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP/2, and HTTP/1.1 for a client that asks for it.
    Both,
    /// HTTP/1.1, by ALPN.
    Http1,
    /// HTTP/1.1, without knowing ALPN.
    Http1Silently,
    /// HTTP/2, of which it takes so many streams at once.
    Streams(u32),
    /// TLS with `h2`, and then nothing at all.
    Nothing,
    /// TLS with `h2`, and these frames once the first request has arrived.
    Frames(&'static [u8]),
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// `HTTP/2.0` or `HTTP/1.1`.
    pub(super) version: &'static str,
    /// The path and query on the wire.
    pub(super) target: String,
    /// The headers.
    pub(super) headers: HeaderMap,
    /// The body.
    pub(super) body: Vec<u8>,
}

/// What the service has counted.
#[derive(Default)]
pub(super) struct Log {
    /// TCP connections accepted.
    pub(super) accepted: AtomicUsize,
    /// Connections on which HTTP was spoken.
    pub(super) spoken: AtomicUsize,
    /// The most HTTP/1.1 requests there were at a time.
    pub(super) busiest: AtomicUsize,
    pub(super) busy: AtomicUsize,
    /// Bytes of huge bodies handed to HTTP/2.
    pub(super) sent: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
}

impl Log {
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub(super) fn note(&self, seen: Seen) {
        self.seen.lock().push(seen);
    }
}

/// A running push service; it ends with the runtime of its test.
pub(super) struct FakeService {
    pub(super) address: SocketAddr,
    pub(super) ca: String,
    pub(super) log: Arc<Log>,
    speaks: Arc<Mutex<Speaks>>,
}

impl FakeService {
    pub(super) async fn start(speaks: Speaks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ca, chain, key) = certificates();
        let service = Self {
            address: listener.local_addr().unwrap(),
            ca,
            log: Arc::default(),
            speaks: Arc::new(Mutex::new(speaks)),
        };
        let (log, speaks) = (Arc::clone(&service.log), Arc::clone(&service.speaks));
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                log.accepted.fetch_add(1, Ordering::SeqCst);
                let speaks = *speaks.lock();
                let tls = acceptor(&chain, &key, speaks);
                tokio::spawn(serve(tls, tcp, speaks, Arc::clone(&log)));
            }
        });
        service
    }

    pub(super) fn now_speaks(&self, speaks: Speaks) {
        *self.speaks.lock() = speaks;
    }

    /// Connections on which HTTP was spoken.
    pub(super) fn connections(&self) -> usize {
        self.log.spoken.load(Ordering::SeqCst)
    }
}

/// A CA, and a certificate of it for `localhost` and `127.0.0.1`.
fn certificates() -> (String, Vec<u8>, Vec<u8>) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let issuer = Issuer::new(ca, ca_key);
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    (
        ca_certificate.pem(),
        certificate.der().to_vec(),
        key.serialize_der(),
    )
}

fn acceptor(chain: &[u8], key: &[u8], speaks: Speaks) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(key.to_vec()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain.to_vec().into()], key)
        .unwrap();
    let protocols: &[&[u8]] = match speaks {
        Speaks::Both => &[b"h2", b"http/1.1"],
        Speaks::Streams(_) | Speaks::Nothing | Speaks::Frames(_) => &[b"h2"],
        Speaks::Http1 => &[b"http/1.1"],
        Speaks::Http1Silently => &[],
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(tls: TlsAcceptor, tcp: TcpStream, speaks: Speaks, log: Arc<Log>) {
    let Ok(mut io) = tls.accept(tcp).await else {
        return;
    };
    match speaks {
        Speaks::Nothing => pending().await,
        Speaks::Frames(frames) => {
            // Empty SETTINGS first, or the client finds fault with the rest.
            io.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            let mut arrived = Vec::new();
            // The preface, SETTINGS and WINDOW_UPDATE make 70 bytes; then comes the request.
            while arrived.len() <= 100 {
                assert_ne!(io.read_buf(&mut arrived).await.unwrap(), 0);
            }
            io.write_all(frames).await.unwrap();
            pending().await
        }
        Speaks::Streams(most) => return serve_http2(io, Some(most), log).await,
        Speaks::Both | Speaks::Http1 | Speaks::Http1Silently => {}
    }
    if io.get_ref().1.alpn_protocol() == Some(b"h2") {
        serve_http2(io, None, log).await;
    } else {
        serve_http1(io, log).await;
    }
}

async fn serve_http2(io: TlsStream<TcpStream>, streams: Option<u32>, log: Arc<Log>) {
    let mut settings = h2::server::Builder::new();
    if let Some(most) = streams {
        settings.max_concurrent_streams(most);
    }
    let mut connection = settings.handshake(io).await.unwrap();
    log.spoken.fetch_add(1, Ordering::SeqCst);
    while let Some(Ok((request, respond))) = connection.accept().await {
        match request.uri().path() {
            "/cut" => return,
            "/freeze" => pending().await,
            "/goaway" => connection.graceful_shutdown(),
            _ => {}
        }
        tokio::spawn(answer(request, respond, Arc::clone(&log)));
    }
}

async fn answer(request: Request<RecvStream>, respond: SendResponse<Bytes>, log: Arc<Log>) {
    let (head, mut body) = request.into_parts();
    let mut seen = Seen {
        version: "HTTP/2.0",
        target: head.uri.path_and_query().unwrap().to_string(),
        headers: head.headers,
        body: Vec::new(),
    };
    while let Some(Ok(chunk)) = body.data().await {
        body.flow_control().release_capacity(chunk.len()).unwrap();
        seen.body.extend_from_slice(&chunk);
    }
    let path = head.uri.path().to_owned();
    log.note(seen);
    // A stream that is given up on ends the task, and only the task.
    let _ended = misbehave(&path, respond, &log).await;
}

async fn misbehave(
    path: &str,
    mut respond: SendResponse<Bytes>,
    log: &Log,
) -> Result<(), h2::Error> {
    let mut parts = path.split('/').skip(1);
    let fault = parts.next().unwrap_or("");
    let status = parts.next().and_then(|status| status.parse().ok());
    let head = Response::builder().status(status.unwrap_or(StatusCode::CREATED));
    match fault {
        "refused" => respond.send_reset(Reason::REFUSED_STREAM),
        "http1-required" => respond.send_reset(Reason::HTTP_1_1_REQUIRED),
        "broken" => respond.send_reset(Reason::INTERNAL_ERROR),
        "hang" => pending().await,
        "slow" => {
            sleep(LATENCY).await;
            respond.send_response(head.body(()).unwrap(), true)?;
        }
        "headers" => {
            let head = head.header("x-long", "x".repeat(20_000));
            respond.send_response(head.body(()).unwrap(), true)?;
        }
        "trickle" => {
            let mut stream = respond.send_response(head.body(()).unwrap(), false)?;
            stream.send_data(Bytes::from_static(b"slow"), false)?;
            pending().await
        }
        "huge" => {
            let stream = respond.send_response(head.body(()).unwrap(), false)?;
            send_huge(stream, log).await?;
        }
        "says" => {
            let mut stream = respond.send_response(head.body(()).unwrap(), false)?;
            stream.send_data(Bytes::from_static(b"its own words"), true)?;
        }
        _ => {
            let head = head.header("location", "/elsewhere");
            respond.send_response(head.body(()).unwrap(), true)?;
        }
    }
    Ok(())
}

/// Sends a hundred megabytes as fast as flow control lets it.
async fn send_huge(mut stream: SendStream<Bytes>, log: &Log) -> Result<(), h2::Error> {
    let chunk = Bytes::from(vec![b'x'; 16 * 1024]);
    for _ in 0..6400 {
        stream.reserve_capacity(chunk.len());
        while stream.capacity() < chunk.len() {
            let more = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
            more.unwrap_or(Err(Reason::CANCEL.into()))?;
        }
        stream.send_data(chunk.clone(), false)?;
        log.sent.fetch_add(chunk.len(), Ordering::SeqCst);
    }
    stream.send_data(Bytes::new(), true)
}
