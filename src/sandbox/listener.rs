//! Connections: TLS, then HTTP/2 or HTTP/1.1, whichever ALPN settled on.
//!
//! What can go wrong here is what was asked for: scripts end connections in the rude ways that
//! servers have. A client that does not get through its handshake is dropped in silence.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Command, Connection};
use super::goaway::GoAway;
use super::service::PushService;
use super::stats::Gauge;

/// How long a client has for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The pause after an accept that failed, for want of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One origin: an address that is listened on.
pub(crate) struct Listener {
    pub(crate) origin: usize,
    pub(crate) socket: TcpListener,
    pub(crate) tls: TlsAcceptor,
    pub(crate) http: Builder<TokioExecutor>,
    pub(crate) service: Arc<PushService>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// Returns the HTTP server's settings.
pub(crate) fn http(max_concurrent_streams: u32) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(max_concurrent_streams)
        .max_pending_accept_reset_streams(None)
        .max_local_error_reset_streams(None);
    builder
}

impl Listener {
    /// Accepts connections until it is told to stop.
    pub(crate) async fn run(self) {
        let this = Arc::new(self);
        let accepting = async {
            loop {
                match this.socket.accept().await {
                    Ok((socket, _)) => {
                        this.tasks.spawn(Arc::clone(&this).serve(socket));
                    }
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                }
            }
        };
        this.stop.run_until_cancelled(accepting).await.unwrap_or(());
    }

    async fn serve(self: Arc<Self>, socket: TcpStream) {
        self.service.counters.connected(self.origin);
        let connected = self.stop.run_until_cancelled(self.secure(socket)).await;
        if let Some(Ok(stream)) = connected {
            self.converse(stream).await;
        }
    }

    async fn secure(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        socket.set_nodelay(true)?;
        timeout(HANDSHAKE, self.tls.accept(socket)).await?
    }

    async fn converse(&self, stream: TlsStream<TcpStream>) {
        let (commands, mut commanded) = mpsc::unbounded_channel();
        let connection = Arc::new(Connection {
            origin: self.origin,
            streams: Gauge::default(),
            commands,
        });
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let refuse = Arc::new(AtomicBool::new(false));
        let stream = TokioIo::new(GoAway::new(stream, Arc::clone(&refuse)));
        let service = service_fn(|request| {
            let (service, connection) = (Arc::clone(&self.service), Arc::clone(&connection));
            async move { service.respond(&connection, request).await }
        });
        let mut conversation = pin!(self.http.serve_connection(stream, service));
        loop {
            tokio::select! {
                _ended = &mut conversation => return,
                () = self.stop.cancelled() => return,
                command = commanded.recv() => match command {
                    Some(Command::Drain(done)) => {
                        conversation.as_mut().graceful_shutdown();
                        let _gone = done.send(());
                    }
                    Some(Command::Refuse) if http2 => refuse.store(true, Ordering::Release),
                    Some(Command::Refuse | Command::Cut) | None => return,
                },
            }
        }
    }
}
