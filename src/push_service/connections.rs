//! A few connections per origin, for a bounded number of origins.
//!
//! Why count: HTTP/2 carries a hundred requests at once and one connection is the cheapest, but
//! one alone stalls on a lost packet and on the peer's stream limit. So requests fill the first
//! connection before the second is opened, as far as its server takes them ([`super::streams`]), and
//! when all are full they share the load. An origin that speaks only HTTP/1.1 has a bounded number
//! of connections, and requests take turns.
//!
//! What can go wrong: origins are chosen by outsiders. Only so many are held; the least used is
//! forgotten with its connections, and one that is forgotten while in use finishes first.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use moka::sync::Cache;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::origin::Origin;
use crate::outcome::Failure;

use super::Settings;
use super::body::{InFlight, Shared};
use super::connector::{OriginProtocol, Version};
use super::dialer::{Dialer, HTTP1_CONNECTIONS};
use super::streams::Load;

/// How many origins have connections at a time.
const ORIGINS: u64 = 512;

/// The connections to every origin.
pub(super) struct Connections {
    origins: Cache<Origin, Arc<OriginConnections>>,
    size: Size,
}

#[derive(Clone, Copy)]
struct Size {
    connections: usize,
    requests: usize,
}

impl Connections {
    /// Creates the state of an origin without connections.
    pub(super) fn new(settings: &Settings) -> Self {
        let kept = settings.idle_timeout.max(Duration::from_millis(1));
        Self {
            origins: Cache::builder()
                .max_capacity(ORIGINS)
                .time_to_idle(kept)
                .build(),
            size: Size {
                connections: settings.connections_per_origin.max(1),
                requests: settings.requests_per_connection.max(1),
            },
        }
    }

    /// Returns the connections to one origin.
    pub(super) fn of(&self, origin: &Origin) -> Arc<OriginConnections> {
        let fresh = || Arc::new(OriginConnections::new(origin, self.size));
        self.origins
            .get(origin)
            .unwrap_or_else(|| self.origins.get_with(origin.clone(), fresh))
    }

    /// Forgets the connections to an origin, so that the next request makes a new one. Requests
    /// under way finish; connections that have taken their place already are kept.
    pub(super) fn forget(&self, origin: &Origin, connections: &Arc<OriginConnections>) {
        let current = self.origins.get(origin);
        if current.is_some_and(|current| Arc::ptr_eq(&current, connections)) {
            self.origins.invalidate(origin);
        }
    }
}

/// The connections to one origin.
pub(super) struct OriginConnections {
    /// Plain `http` has no handshake in which to agree on HTTP/2.
    plain: bool,
    protocol: Arc<OriginProtocol>,
    load: Arc<Shared>,
    /// Of each at most one HTTP/2 connection.
    http2: Box<[OnceLock<reqwest::Client>]>,
    http1: OnceLock<reqwest::Client>,
    http1_turns: Semaphore,
}

impl OriginConnections {
    fn new(origin: &Origin, size: Size) -> Self {
        Self {
            plain: origin.as_str().starts_with("http:"),
            protocol: Arc::new(OriginProtocol::none()),
            load: Arc::new(Shared::new(Load::new(size.connections, size.requests))),
            http2: (0..size.connections).map(|_| OnceLock::new()).collect(),
            http1: OnceLock::new(),
            http1_turns: Semaphore::new(HTTP1_CONNECTIONS),
        }
    }

    /// Returns what connecting to the origin has taught.
    pub(super) fn protocol(&self) -> &OriginProtocol {
        &self.protocol
    }

    /// Finds a connection for one request, waiting for a turn where there are only so many.
    ///
    /// # Errors
    /// If no client can be made, which the first one at start would have shown.
    pub(super) async fn lease(&self, dialer: &Dialer, now: Instant) -> Result<Lease<'_>, Failure> {
        if self.plain || self.protocol.version(now) == Version::Http1 {
            let turn = self.http1_turns.acquire().await;
            return Ok(Lease {
                client: self.client(&self.http1, Version::Http1, dialer)?,
                share: Share::Turn(turn.map_err(|_closed| Failure::Connect)?),
            });
        }
        let (connection, in_flight) = self.load.enter(now);
        Ok(Lease {
            client: self.client(&self.http2[connection], Version::Http2, dialer)?,
            share: Share::Stream(in_flight),
        })
    }

    fn client<'a>(
        &self,
        cell: &'a OnceLock<reqwest::Client>,
        version: Version,
        dialer: &Dialer,
    ) -> Result<&'a reqwest::Client, Failure> {
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let made = dialer.client(version, Arc::clone(&self.protocol));
        let made = made.map_err(|_refused| Failure::Connect)?;
        Ok(cell.get_or_init(|| made))
    }
}

/// The right to send one request over one connection.
pub(super) struct Lease<'a> {
    /// The client that holds the connection.
    pub(super) client: &'a reqwest::Client,
    share: Share<'a>,
}

/// What a request takes up until it is dropped.
enum Share<'a> {
    Stream(InFlight),
    Turn(#[expect(dead_code, reason = "held for its `Drop`")] SemaphorePermit<'a>),
}

impl Lease<'_> {
    /// Creates the body of the request.
    pub(super) fn body(&self, bytes: Bytes) -> reqwest::Body {
        match &self.share {
            Share::Stream(in_flight) => in_flight.body(bytes),
            Share::Turn(_) => bytes.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    #[test]
    fn unlisted_origins_cannot_make_the_table_grow() {
        let settings = Settings {
            connect_timeout: Duration::from_secs(1),
            ca: None,
            proxy: None,
            connections_per_origin: 1,
            requests_per_connection: 1,
            idle_timeout: Duration::from_secs(60),
            guard: Arc::default(),
        };
        let all = Connections::new(&settings);
        for number in 0..3 * ORIGINS {
            let url = Url::parse(&format!("https://push{number}.example.net/")).unwrap();
            all.of(&Origin::of(&url));
        }
        all.origins.run_pending_tasks();
        assert!(all.origins.entry_count() <= ORIGINS);
    }
}
