//! Listeners that are no RabbitMQ: what a wrong port leads to.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A listener on loopback; it ends with the value.
pub(crate) struct Listener {
    /// Its port.
    pub(crate) port: u16,
    _tasks: JoinSet<()>,
}

impl Listener {
    /// An HTTP server.
    pub(crate) async fn http() -> Self {
        Self::serve(|stream| async move {
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            let _ended = connection.await;
        })
        .await
    }

    /// A TLS server with a certificate of these parameters, and the CA of it in PEM.
    pub(crate) async fn tls(certificate: CertificateParams) -> (Self, String) {
        Self::tls_for(certificate, |_| Arc::new(NoClientAuth)).await
    }

    /// The same, but clients must have a certificate of the same CA.
    pub(crate) async fn mutual_tls(certificate: CertificateParams) -> (Self, String) {
        Self::tls_for(certificate, |ca| {
            let mut roots = RootCertStore::empty();
            roots.add(ca.clone()).unwrap();
            let provider = Arc::new(default_provider());
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .unwrap()
        })
        .await
    }

    async fn tls_for(
        certificate: CertificateParams,
        clients: impl FnOnce(&CertificateDer<'static>) -> Arc<dyn ClientCertVerifier>,
    ) -> (Self, String) {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let ca_pem = ca_certificate.pem();
        let key = KeyPair::generate().unwrap();
        let signed = certificate
            .signed_by(&key, &Issuer::new(ca, ca_key))
            .unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients(ca_certificate.der()))
            .with_single_cert(vec![signed.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = Self::serve(move |stream| {
            let accepting = acceptor.accept(stream);
            async move {
                // What is closed with bytes unread is reset, and the client loses the alert.
                if let Err((_refused, mut stream)) = accepting.into_fallible().await {
                    let _ended = stream.read_to_end(&mut Vec::new()).await;
                }
            }
        })
        .await;
        (listener, ca_pem)
    }

    async fn serve<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
        });
        Self {
            port,
            _tasks: tasks,
        }
    }
}

async fn answer(_request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    Ok(Response::default())
}
