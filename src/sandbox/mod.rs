//! A local push service: what a developer runs in place of a browser, and the double of all our
//! integration tests.
//!
//! It takes pushes over TLS with HTTP/2 or HTTP/1.1, holds them against the RFCs more strictly than
//! any real service, decrypts them with code of its own, and answers as its scripts say: statuses,
//! delays, endless bodies, resets, silence. A real service does not notice a push that no browser
//! can read; this one is there to tell. It may speak as one of the real services does, in paths,
//! headers, bodies and codes (`dialect`).
//!
//! [`start`] runs it inside a test; a control listener serves everybody else.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use url::Url;

use crate::origin::{Origin, Service};

mod answer_spec;
mod body;
mod ca;
mod connection;
mod control;
mod decrypt;
mod dialect;
mod goaway;
mod legacy;
mod listener;
mod messages;
mod page;
mod push;
mod refusal;
mod running;
mod same_host;
mod script;
mod service;
mod stats;
mod store;
mod subscribe;
mod subscriptions;
#[cfg(test)]
mod tests;
mod vapid;

pub use ca::CaError;
pub use decrypt::DecryptError;
pub use dialect::UnknownAnswer;
pub use messages::Message;
pub use refusal::Refusal;
pub use running::Running;
pub use script::{Act, Answer, Choice, Response, Script, ScriptError};
pub use stats::Stats;
pub use subscribe::{SUBSCRIPTIONS_LIMIT, SubscribeError, SubscribeRequest};
pub use subscriptions::{KeysJson, SubscriptionJson};
pub use vapid::{Claims, VapidError};

use ca::Authority;
use dialect::Dialect;
use messages::Messages;
use same_host::Hosts;
use service::PushService;
use stats::Counters;
use subscriptions::Subscriptions;
use vapid::Verifier;

/// What a sandbox shall be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen for pushes; each address is an origin of its own, port 0 finds a free one.
    pub listen: Vec<SocketAddr>,
    /// Which service each of them speaks as, in the same order; the last one holds for the rest,
    /// and without any they keep to the RFCs.
    pub services: Vec<Service>,
    /// How many seconds the clock of each of them is ahead of this machine's, in the same order;
    /// what is not given is 0.
    pub clocks: Vec<i64>,
    /// The host name in the endpoints' URLs; without one, the address listened on.
    pub host: Option<String>,
    /// More names and addresses for the certificate.
    pub names: Vec<String>,
    /// Where to serve the control requests, in plain HTTP; nowhere without.
    pub control: Option<SocketAddr>,
    /// Further host names by which control requests may come, besides the loopback's and the
    /// address.
    pub control_names: Vec<String>,
    /// Where the authority and the subscriptions are kept between runs.
    pub state: Option<PathBuf>,
    /// How long every answer is held back.
    pub latency: Duration,
    /// How many messages are kept.
    pub keep: usize,
    /// Whether bodies are decrypted; without it only heads are checked, which is a sixth of the
    /// work.
    pub decrypt: bool,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// How many streams a client may have open on one connection
    /// (`SETTINGS_MAX_CONCURRENT_STREAMS`).
    pub max_concurrent_streams: u32,
}

impl Default for Settings {
    /// One origin on loopback and no control listener: what a test wants.
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            services: Vec::new(),
            clocks: Vec::new(),
            host: None,
            names: Vec::new(),
            control: None,
            control_names: Vec::new(),
            state: None,
            latency: Duration::ZERO,
            keep: 1000,
            decrypt: true,
            http2: true,
            max_concurrent_streams: 1000,
        }
    }
}

/// Starts a sandbox; it accepts pushes as soon as this returns.
///
/// # Errors
/// If an address cannot be listened on, or the state directory not be used.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    if let Some(directory) = &settings.state {
        std::fs::create_dir_all(directory)
            .map_err(|error| StartError::State(directory.clone(), error))?;
    }
    let authority = Authority::open(settings.state.as_deref())?;
    let mut sockets = Vec::new();
    for address in &settings.listen {
        sockets.push(bind(*address).await?);
    }
    let control = match settings.control {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let tls = TlsAcceptor::from(Arc::new(
        authority.server(settings.certificate_names(), settings.http2)?,
    ));
    let service = settings.service(origins(&settings, &sockets)?)?;
    let control_address = control.as_ref().map(|(_, address)| *address);
    let running = Running::new(service, authority.pem(), control_address);
    for (origin, (socket, _)) in sockets.into_iter().enumerate() {
        running.listen(origin, socket, &tls, settings.max_concurrent_streams);
    }
    if let Some((socket, address)) = control {
        let names = settings.control_names;
        running.serve_control(socket, Hosts { address, names });
    }
    Ok(running)
}

/// Returns the names of the answers that a service has, by which scripts ask for them.
#[must_use]
pub fn answers(service: Service) -> Vec<&'static str> {
    Dialect::of(service).names()
}

impl Settings {
    fn certificate_names(&self) -> Vec<String> {
        let mut names: Vec<_> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        names.extend(self.listen.iter().map(|address| address.ip().to_string()));
        names.extend(self.host.iter().chain(&self.names).cloned());
        names.sort_unstable();
        names.dedup();
        names
    }

    fn service(&self, origins: Arc<[String]>) -> Result<PushService, StartError> {
        let state = self.state.as_deref();
        let subscriptions = Subscriptions::open(Arc::clone(&origins), state)
            .map_err(|error| StartError::State(state.unwrap_or("".as_ref()).into(), error))?;
        Ok(PushService {
            origins,
            services: self.services.clone(),
            clocks: self.clocks.clone(),
            subscriptions,
            messages: Messages::new(self.keep),
            counters: Counters::default(),
            verifier: Verifier::default(),
            latency: self.latency,
            decrypt: self.decrypt,
            last_message: AtomicU64::new(0),
        })
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen(address, error);
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    Ok((socket, address))
}

/// Names the origins as senders must name them in `aud`.
fn origins(
    settings: &Settings,
    sockets: &[(TcpListener, SocketAddr)],
) -> Result<Arc<[String]>, StartError> {
    let name = |(_, address): &(TcpListener, SocketAddr)| {
        let host = match (&settings.host, address.ip()) {
            (Some(host), _) => host.clone(),
            (None, ip) if ip.is_unspecified() => "localhost".to_owned(),
            (None, IpAddr::V4(ip)) => ip.to_string(),
            (None, IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        let url = Url::parse(&format!("https://{host}:{}/", address.port()));
        let url = url.map_err(|_| StartError::Host(host))?;
        Ok(Origin::of(&url).as_str().to_owned())
    };
    sockets.iter().map(name).collect()
}

/// Why a sandbox does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not ours.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The state directory cannot be used.
    #[error("cannot use the state directory {path}: {1}", path = .0.display())]
    State(PathBuf, #[source] io::Error),
    /// A host that no URL can have.
    #[error("{0:?} is no host name")]
    Host(String),
    /// No certificate.
    #[error(transparent)]
    Certificate(#[from] CaError),
}
