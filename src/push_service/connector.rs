//! What happens while a connection is made: the time it may take, the HTTP version it turns out
//! to have, and what waiters for it get.
//!
//! Why a layer of our own around the client's connector: which version an origin speaks is known
//! as soon as TLS has agreed on it (ALPN), long before anything is answered. So a request that
//! wants HTTP/2 never has to wait for another request's answer to learn it, and one that would
//! go out over the wrong version is called back before a byte of it is sent.
//!
//! What can go wrong: an origin that cannot be reached has many requests waiting for its connection,
//! and the client's pool reports the error only to the request that made the connection. The others ask the
//! [`OriginProtocol`].

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::Connection;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tower::{BoxError, Layer, Service};

use crate::clock::{Clock, SystemClock};
use crate::outcome::{Failure, ProxyFailure, ProxyFault};

use super::failure::{self, ConnectError, Unanswered};

/// How long an origin without HTTP/2 is not asked for it again.
const HTTP1_FOR: Duration = Duration::from_secs(3600);

/// The version of HTTP a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What connecting to one origin has taught, shared by all its connections.
#[derive(Debug)]
pub(super) struct OriginProtocol(Mutex<Learned>);

#[derive(Debug, Default)]
struct Learned {
    speaks_http2: bool,
    http1_until: Option<Instant>,
    failed: Option<(Failure, Instant)>,
}

impl OriginProtocol {
    /// Creates the state of an origin that was not connected to.
    pub(super) fn none() -> Self {
        Self(Mutex::default())
    }

    /// Returns the version to try at `now`: HTTP/2, unless the origin is known not to speak it.
    pub(super) fn version(&self, now: Instant) -> Version {
        match self.0.lock().http1_until {
            Some(until) if now < until => Version::Http1,
            Some(_) | None => Version::Http2,
        }
    }

    /// Returns whether the origin has been connected to over HTTP/2.
    pub(super) fn speaks_http2(&self) -> bool {
        self.0.lock().speaks_http2
    }

    /// Records that the origin speaks HTTP/1.1.
    pub(super) fn wants_http1(&self, now: Instant) {
        self.change(|learned| {
            learned.speaks_http2 = false;
            learned.http1_until = Some(now + HTTP1_FOR);
        });
    }

    /// Returns why a request that has waited for another's connection since `since` got none.
    pub(super) fn unconnected(&self, since: Instant) -> Unanswered {
        let learned = self.0.lock();
        match &learned.failed {
            _ if learned.http1_until.is_some_and(|until| since < until) => Unanswered::WantsHttp1,
            Some((failure, at)) if *at >= since => Unanswered::Failed(failure.clone()),
            // Whoever was connecting ran out of time.
            Some(_) | None => Unanswered::Unconnected,
        }
    }

    fn failed(&self, version: Version, failure: Failure, now: Instant) -> ConnectError {
        self.change(|learned| {
            learned.failed = Some((failure.clone(), now));
            // A server that has moved on to HTTP/2 alone refuses the handshake.
            if version == Version::Http1 && matches!(failure, Failure::Tls(_)) {
                learned.http1_until = None;
            }
        });
        ConnectError::Failed(failure)
    }

    fn change(&self, change: impl FnOnce(&mut Learned)) {
        change(&mut self.0.lock());
    }
}

/// Wraps a client's connector.
#[derive(Clone)]
pub(super) struct ConnectLayer {
    /// What is wanted.
    pub(super) version: Version,
    /// How long it may take, names and TLS included.
    pub(super) within: Duration,
    /// The place of the proxy that makes the connection, if there is one.
    pub(super) proxy: Option<Arc<str>>,
    /// Where what happens is noted.
    pub(super) protocol: Arc<OriginProtocol>,
}

impl<S> Layer<S> for ConnectLayer {
    type Service = ConnectService<S>;

    fn layer(&self, connector: S) -> ConnectService<S> {
        ConnectService(Arc::new(SharedConnector {
            connector: Mutex::new(connector),
            terms: self.clone(),
        }))
    }
}

/// A connector under the terms of [`ConnectLayer`].
///
/// The client clones its connector several times for every request, so a clone is a counter.
pub(super) struct ConnectService<S>(Arc<SharedConnector<S>>);

struct SharedConnector<S> {
    connector: Mutex<S>,
    terms: ConnectLayer,
}

impl<S> Clone for ConnectService<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S, Target> Service<Target> for ConnectService<S>
where
    S: Service<Target, Error = BoxError>,
    S::Future: Send + 'static,
    S::Response: Connection + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.connector.lock().poll_ready(cx)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let terms = self.0.terms.clone();
        let wanted = terms.protocol.version(SystemClock.now().mono);
        if (terms.version, wanted) == (Version::Http2, Version::Http1) {
            return Box::pin(ready(Err(ConnectError::NotHttp2.into())));
        }
        let connecting = timeout(terms.within, self.0.connector.lock().call(target));
        Box::pin(async move {
            let made = match connecting.await {
                Ok(Ok(connection)) => Ok(connection),
                Ok(Err(error)) => Err(failure::of_connecting(&*error, terms.proxy.as_ref())),
                Err(_elapsed) => Err(terms.late()),
            };
            terms.judge(made).map_err(BoxError::from)
        })
    }
}

impl ConnectLayer {
    /// Returns why a connection was not made in time.
    fn late(&self) -> Failure {
        match &self.proxy {
            Some(place) => Failure::Proxy(ProxyFailure {
                place: Arc::clone(place),
                fault: ProxyFault::Late,
            }),
            None => Failure::Connect,
        }
    }

    fn judge<C: Connection>(&self, made: Result<C, Failure>) -> Result<C, ConnectError> {
        let now = SystemClock.now().mono;
        let connection =
            made.map_err(|failure| self.protocol.failed(self.version, failure, now))?;
        if self.version == Version::Http1 {
            return Ok(connection);
        }
        if !connection.connected().is_negotiated_h2() {
            self.protocol.wants_http1(now);
            return Err(ConnectError::NotHttp2);
        }
        self.protocol.change(|learned| learned.speaks_http2 = true);
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{TlsFailure, TlsFault};

    #[test]
    fn who_waited_for_a_connection_learns_why_there_is_none() {
        let protocol = OriginProtocol::none();
        let start = SystemClock.now().mono;
        let later = start + Duration::from_secs(1);
        assert_eq!(protocol.unconnected(start), Unanswered::Unconnected);
        protocol.failed(Version::Http2, Failure::Dns, start);
        let shared = Unanswered::Failed(Failure::Dns);
        assert_eq!(protocol.unconnected(start), shared);
        assert_eq!(protocol.unconnected(later), Unanswered::Unconnected);
        protocol.wants_http1(start);
        assert_eq!(protocol.unconnected(start), Unanswered::WantsHttp1);
    }

    #[test]
    fn an_origin_may_change_its_mind_both_ways() {
        let protocol = OriginProtocol::none();
        let now = SystemClock.now().mono;
        assert_eq!(protocol.version(now), Version::Http2);
        protocol.wants_http1(now);
        assert_eq!(protocol.version(now), Version::Http1);
        assert_eq!(protocol.version(now + HTTP1_FOR), Version::Http2);

        protocol.failed(Version::Http1, Failure::Connect, now);
        assert_eq!(protocol.version(now), Version::Http1);
        let refused = Failure::Tls(TlsFailure {
            fault: TlsFault::NothingInCommon,
            words: "received fatal alert: NoApplicationProtocol".into(),
        });
        protocol.failed(Version::Http1, refused, now);
        assert_eq!(protocol.version(now), Version::Http2);
    }
}
