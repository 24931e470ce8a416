//! Servers with which TLS fails, each on a real listener, and the fault that is reported for each.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::clock::{Clock, SystemClock};
use crate::outcome::{Failure, TlsFault};
use crate::push_service::{Client, Settings, Transport};

use super::fake_service::{FakeService, Speaks};
use super::{AMPLE, failed, request_to, settings};

/// A CA, and what its certificates have in common.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = ca.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(ca, key);
        Self { pem, issuer }
    }

    /// Signs a certificate.
    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], key)
    }

    /// Signs a certificate by an authority of its own, which this one has signed.
    fn sign_by_intermediate(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut intermediate = CertificateParams::new(Vec::new()).unwrap();
        intermediate.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = rcgen::DnType::CommonName;
        intermediate.distinguished_name.push(name, "intermediate");
        let between = intermediate.signed_by(&key, &self.issuer).unwrap();
        let between = between.der().clone();
        let issuer = Issuer::new(intermediate, key);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (vec![certificate.der().clone(), between], key)
    }
}

/// What a server shows of itself, and the key of the first certificate.
type Identity = (Vec<CertificateDer<'static>>, KeyPair);

fn named(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).unwrap()
}

fn self_signed(params: &CertificateParams) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (vec![certificate.der().clone()], key)
}

/// A server that shows `identity`; returns its endpoint.
async fn serve_tls((chain, key): Identity) -> String {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { acceptor.accept(tcp).await.is_ok() });
        }
    });
    format!("https://localhost:{port}/capability")
}

/// A server that reads the client's first message and answers with `bytes`; returns its endpoint.
async fn serve_bytes(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut hello = [0; 16 * 1024];
                let _count = tcp.read(&mut hello).await;
                tcp.write_all(bytes).await
            });
        }
    });
    format!("https://localhost:{port}/capability")
}

/// What a push to `endpoint` fails with, where `ca` is trusted.
async fn fault_at(endpoint: &str, ca: &str) -> TlsFault {
    let attempt = client(ca).await.post(request_to(endpoint), AMPLE).await;
    let failure = failed(attempt);
    let Failure::Tls(failure) = failure else {
        panic!("{failure:?}");
    };
    failure.fault
}

async fn client(ca: &str) -> Client {
    let base = settings(&FakeService::start(Speaks::Both).await);
    let ca = Some(ca.to_owned());
    Client::new(&Settings { ca, ..base }).unwrap()
}

#[tokio::test]
async fn plain_http_on_the_port_is_told_as_such() {
    let ca = Authority::new().pem;
    let service = serve_bytes(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
    assert_eq!(fault_at(&service, &ca).await, TlsFault::NotTls);
}

/// The alert `protocol_version` (RFC 8446 §6.2), which a server of TLS 1.1 answers with.
const ALERT_PROTOCOL_VERSION: &[u8] = &[0x15, 3, 3, 0, 2, 2, 70];

#[tokio::test]
async fn a_server_of_tls_1_1_is_told_as_such() {
    let ca = Authority::new().pem;
    let service = serve_bytes(ALERT_PROTOCOL_VERSION).await;
    assert_eq!(fault_at(&service, &ca).await, TlsFault::NothingInCommon);
}

#[tokio::test]
async fn each_fault_of_a_certificate_is_told_apart() {
    let ca = Authority::new();
    let day = Duration::from_secs(24 * 3600);
    let whole_seconds = SystemClock
        .now()
        .wall
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let now = UNIX_EPOCH + Duration::from_secs(whole_seconds);
    let mut expired = named(&["localhost"]);
    (expired.not_before, expired.not_after) = ((now - 2 * day).into(), (now - day).into());
    let mut early = named(&["localhost"]);
    (early.not_before, early.not_after) = ((now + day).into(), (now + 2 * day).into());
    let mut authority = named(&["localhost"]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (mut chain, key) = ca.sign_by_intermediate(&named(&["localhost"]));
    chain.truncate(1);
    for (identity, fault) in [
        (ca.sign(&expired), TlsFault::Expired(Some(now - day))),
        (ca.sign(&early), TlsFault::NotYetValid(Some(now + day))),
        (
            ca.sign(&named(&["push.example.org", "b.example.org"])),
            TlsFault::OtherName("push.example.org, b.example.org".into()),
        ),
        (
            Authority::new().sign(&named(&["localhost"])),
            TlsFault::UnknownIssuer,
        ),
        ((chain, key), TlsFault::UnknownIssuer),
        (self_signed(&named(&["localhost"])), TlsFault::SelfSigned),
        (self_signed(&authority), TlsFault::SelfSignedAuthority),
    ] {
        let endpoint = serve_tls(identity).await;
        assert_eq!(fault_at(&endpoint, &ca.pem).await, fault);
    }
}

/// What the text of [`TlsFault::SelfSigned`] says to do is enough.
#[tokio::test]
async fn a_self_signed_certificate_that_push_ca_file_names_is_accepted() {
    let identity = self_signed(&named(&["localhost"]));
    let pem = pem_of(&identity.0[0]);
    let endpoint = serve_tls(identity).await;
    let attempt = client(&pem).await.post(request_to(&endpoint), AMPLE).await;
    // The server ends the connection after the handshake.
    assert!(!matches!(failed(attempt), Failure::Tls(_)));
}

fn pem_of(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn a_server_that_closes_instead_of_a_handshake_is_told_as_such() {
    let service = serve_bytes(b"").await;
    let ca = Authority::new().pem;
    assert_eq!(fault_at(&service, &ca).await, TlsFault::Closed);
}

#[tokio::test]
async fn the_names_of_a_certificate_are_told_in_part() {
    let ca = Authority::new();
    let long = ["a"; 100].join(".");
    let names = [
        &long,
        "b.example.org",
        "c.example.org",
        "d.example.org",
        "e.example.org",
    ];
    let endpoint = serve_tls(ca.sign(&named(&names))).await;
    let fault = fault_at(&endpoint, &ca.pem).await.to_string();
    assert!(
        fault.contains("b.example.org, c.example.org, 2 more"),
        "{fault}"
    );
    assert!(!fault.contains(&long) && fault.len() < 400, "{fault}");
}
