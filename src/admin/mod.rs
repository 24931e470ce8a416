//! The admin listener: metrics, health, public keys.
//!
//! What can go wrong here: the port is taken, which is found before anything else starts; someone
//! opens connections and says nothing, so their number, the time to send a request and the time of
//! a whole connection are bounded, and the oldest makes room for a new one: a client that asks is
//! answered at once, so the oldest is one that does not ask or does not read. A connection serves one
//! request, its head is short, its body is never read, and nothing that can be asked for is a secret.

mod answer;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::answer::Answers;
pub(crate) use self::answer::ApplicationServerKey;
use crate::clock::{Clock, SystemClock};
use crate::health::Health;
use crate::metrics::Metrics;

/// How many connections are served at once; the next one ends the oldest.
const CONNECTION_LIMIT: usize = 128;

/// The longest head of a request in bytes; hyper takes no smaller bound.
const HEAD_LIMIT: usize = 8192;

/// How many header fields a request may have.
const FIELD_LIMIT: usize = 64;

/// How long a client may take to send its request.
const HEADER_LIMIT: Duration = Duration::from_secs(5);

/// How long a connection may take from its beginning to its end.
const CONNECTION_AGE: Duration = Duration::from_secs(20);

/// The pause after the operating system refused a connection (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What an operator decides about the admin listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The address to listen on; `None` for no listener.
    pub listen: Option<SocketAddr>,
}

/// A bound socket that is not served yet.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Returns the address it listens on, with the port the system chose for port 0.
    #[must_use]
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Why there can be no admin listener.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for metrics and health: {source}; admin.listen chooses the address"
)]
pub(crate) struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// Binds the admin listener, if one is wanted; early, so that a taken port is found at start.
///
/// # Errors
/// If the address cannot be listened on.
pub(crate) async fn bind(settings: &Settings) -> Result<Option<Listener>, BindError> {
    let Some(address) = settings.listen else {
        return Ok(None);
    };
    let bound = async {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Listener { socket, address })
    };
    bound
        .await
        .map(Some)
        .map_err(|source| BindError { address, source })
}

/// Serves metrics, health and the primary key of each application until `stop`.
pub(crate) async fn serve(
    listener: Listener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    keys: watch::Receiver<Vec<ApplicationServerKey>>,
    stop: CancellationToken,
) {
    let answers = Arc::new(Answers {
        metrics,
        health,
        keys,
    });
    let mut connections = Connections::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_ended) = connections.tasks.join_next() => {}
            accepted = listener.socket.accept() => match accepted {
                Ok((stream, _peer)) => connections.serve(stream, Arc::clone(&answers)),
                Err(error) => {
                    warn!(%error, "the admin listener cannot take a connection");
                    connections.end_oldest();
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// The connections that are served; they end with this.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    oldest_first: VecDeque<AbortHandle>,
}

impl Connections {
    /// Serves one more connection, and ends the oldest if there are too many.
    fn serve(&mut self, stream: TcpStream, answers: Arc<Answers>) {
        self.oldest_first.retain(|task| !task.is_finished());
        if self.oldest_first.len() >= CONNECTION_LIMIT {
            self.end_oldest();
        }
        let task = self.tasks.spawn(converse(stream, answers));
        self.oldest_first.push_back(task);
    }

    fn end_oldest(&mut self) {
        if let Some(oldest) = self.oldest_first.pop_front() {
            oldest.abort();
        }
    }
}

/// Serves one request.
async fn converse(stream: TcpStream, answers: Arc<Answers>) {
    let service = service_fn(|request| {
        let response = answers.answer(&request, SystemClock.now().mono);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(FIELD_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_AGE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection to the admin listener ended badly"),
        Err(_elapsed) => debug!("a connection to the admin listener took too long"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn start(settings: &Settings) -> (SocketAddr, CancellationToken, JoinSet<()>) {
        let listener = bind(settings).await.unwrap().unwrap();
        let address = listener.address();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(
            listener,
            Arc::new(Metrics::new().unwrap()),
            Arc::new(Health::new(SystemClock.now().mono)),
            watch::Sender::default().subscribe(),
            stop.clone(),
        ));
        (address, stop, tasks)
    }

    fn anywhere() -> Settings {
        Settings {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        }
    }

    async fn exchange(stream: &mut TcpStream, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_request_is_answered_over_a_real_socket_until_the_listener_stops() {
        let (address, stop, mut tasks) = start(&anywhere()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let answer = exchange(&mut stream, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_taken_port_is_a_failure_at_start_and_no_address_is_no_listener() {
        let listener = bind(&anywhere()).await.unwrap().unwrap();
        let taken = Settings {
            listen: Some(listener.address()),
        };
        let error = bind(&taken).await.unwrap_err();
        assert!(error.to_string().contains("admin.listen"), "{error}");
        assert!(bind(&Settings { listen: None }).await.unwrap().is_none());
    }

    const REQUEST: &str = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";

    #[tokio::test]
    async fn a_new_client_ends_the_oldest_connection_when_there_are_too_many() {
        let (address, _stop, _tasks) = start(&anywhere()).await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTION_LIMIT {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        let answer = exchange(&mut stream, REQUEST).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let mut rest = Vec::new();
        silent[0].read_to_end(&mut rest).await.unwrap();
        let second = exchange(&mut silent[1], REQUEST).await;
        assert!(second.starts_with("HTTP/1.1 200 OK\r\n"), "{second}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_no_request_is_ended_after_a_few_seconds() {
        let (address, _stop, _tasks) = start(&anywhere()).await;
        for beginning in ["", "GET /livez HTTP/1.1\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(beginning.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            let begun = SystemClock.now().mono;
            stream.read_to_end(&mut rest).await.unwrap();
            let lasted = SystemClock.now().mono - begun;
            assert!(lasted < HEADER_LIMIT * 2, "{beginning}: {lasted:?}");
        }
    }

    #[tokio::test]
    async fn a_long_head_is_refused() {
        let (address, _stop, _tasks) = start(&anywhere()).await;
        let long = format!("A: {}", "a".repeat(HEAD_LIMIT - 20));
        let many = "A: a\r\n".repeat(FIELD_LIMIT + 1);
        for fields in [long, many] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!("GET /livez HTTP/1.1\r\n{fields}\r\n\r\n");
            let answer = exchange(&mut stream, &head).await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        }
    }
}
