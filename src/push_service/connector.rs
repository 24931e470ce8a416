//! What happens while a connection is made: the time it may take, the HTTP version it turns out
//! to have, and what is told to those who wait for it.
//!
//! Why a layer of our own around the client's connector: which version an origin speaks is known
//! as soon as TLS has agreed on it (ALPN), long before anything is answered. So a request that
//! wants HTTP/2 never has to wait for another request's answer to learn it, and one that would
//! go out over the wrong version is called back before a byte of it is sent.
//!
//! What can go wrong: an origin that cannot be reached has a crowd waiting for its connection.
//! The pool would let each of them try in turn; the crowd shares the first one's failure instead.

use std::future::ready;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::Connection;
use tokio::time::{Instant, timeout};
use tower::{BoxError, Layer, Service};

use crate::clock::{Clock, SystemClock};
use crate::outcome::Failure;

use super::failure;

/// How long a failure to connect is shared with those who come for the same connection.
const SHARED_FAILURE: Duration = Duration::from_millis(100);

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

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectError {
    /// It could not be made.
    #[error("no connection could be made: {0:?}")]
    Failed(Failure),
    /// It was made, and the origin chose HTTP/1.1.
    #[error("the origin does not speak HTTP/2")]
    NotHttp2,
}

/// What connecting to one origin has taught, shared by all its connections.
#[derive(Debug)]
pub(super) struct Lesson(Mutex<Learned>);

#[derive(Clone, Copy, Debug, Default)]
struct Learned {
    speaks_http2: bool,
    http1_until: Option<Instant>,
    failed: Option<(Failure, Instant)>,
}

impl Lesson {
    /// Knows nothing yet.
    pub(super) fn none() -> Self {
        Self(Mutex::default())
    }

    /// Returns the version to try at `now`: HTTP/2, unless the origin is known not to speak it.
    pub(super) fn version(&self, now: Instant) -> Version {
        match self.read().http1_until {
            Some(until) if now < until => Version::Http1,
            Some(_) | None => Version::Http2,
        }
    }

    /// Tells whether the origin has been connected to over HTTP/2.
    pub(super) fn speaks_http2(&self) -> bool {
        self.read().speaks_http2
    }

    /// Learns that the origin wants HTTP/1.1.
    pub(super) fn wants_http1(&self, now: Instant) {
        self.change(|learned| {
            learned.speaks_http2 = false;
            learned.http1_until = Some(now + HTTP1_FOR);
        });
    }

    /// Tells why it is no use to connect for `version` at `now`.
    fn refusal(&self, version: Version, now: Instant) -> Option<ConnectError> {
        if version == Version::Http2 && self.version(now) == Version::Http1 {
            return Some(ConnectError::NotHttp2);
        }
        let (failure, at) = self.read().failed?;
        (now.duration_since(at) < SHARED_FAILURE).then_some(ConnectError::Failed(failure))
    }

    fn failed(&self, version: Version, failure: Failure, now: Instant) -> ConnectError {
        self.change(|learned| {
            learned.failed = Some((failure, now));
            // A server that has moved on to HTTP/2 alone refuses the handshake.
            if version == Version::Http1 && failure == Failure::Tls {
                learned.http1_until = None;
            }
        });
        ConnectError::Failed(failure)
    }

    fn read(&self) -> Learned {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Learned)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Wraps a client's connector.
#[derive(Clone)]
pub(super) struct Supervised {
    /// What is wanted.
    pub(super) version: Version,
    /// How long it may take, names and TLS included.
    pub(super) within: Duration,
    /// Where what happens is noted.
    pub(super) lesson: Arc<Lesson>,
}

impl<S> Layer<S> for Supervised {
    type Service = Supervisor<S>;

    fn layer(&self, connector: S) -> Supervisor<S> {
        Supervisor {
            connector,
            terms: self.clone(),
        }
    }
}

/// A connector under the terms of [`Supervised`].
#[derive(Clone)]
pub(super) struct Supervisor<S> {
    connector: S,
    terms: Supervised,
}

impl<S, Target> Service<Target> for Supervisor<S>
where
    S: Service<Target, Error = BoxError>,
    S::Future: Send + 'static,
    S::Response: Connection + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let terms = self.terms.clone();
        if let Some(refusal) = terms.lesson.refusal(terms.version, SystemClock.now().mono) {
            return Box::pin(ready(Err(refusal.into())));
        }
        let connecting = timeout(terms.within, self.connector.call(target));
        Box::pin(async move {
            let made = match connecting.await {
                Ok(Ok(connection)) => Ok(connection),
                Ok(Err(error)) => Err(failure::of_connecting(&*error)),
                Err(_elapsed) => Err(Failure::Connect),
            };
            terms.judge(made).map_err(BoxError::from)
        })
    }
}

impl Supervised {
    fn judge<C: Connection>(&self, made: Result<C, Failure>) -> Result<C, ConnectError> {
        let now = SystemClock.now().mono;
        let connection = made.map_err(|failure| self.lesson.failed(self.version, failure, now))?;
        if self.version == Version::Http1 {
            return Ok(connection);
        }
        if !connection.connected().is_negotiated_h2() {
            self.lesson.wants_http1(now);
            return Err(ConnectError::NotHttp2);
        }
        self.lesson.change(|learned| learned.speaks_http2 = true);
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_shared_for_a_moment_and_no_longer() {
        let lesson = Lesson::none();
        let now = SystemClock.now().mono;
        assert_eq!(lesson.refusal(Version::Http2, now), None);
        lesson.failed(Version::Http2, Failure::Dns, now);
        let shared = Some(ConnectError::Failed(Failure::Dns));
        assert_eq!(lesson.refusal(Version::Http2, now), shared);
        let later = now + SHARED_FAILURE;
        assert_eq!(lesson.refusal(Version::Http2, later), None);
    }

    #[test]
    fn an_origin_may_change_its_mind_both_ways() {
        let lesson = Lesson::none();
        let now = SystemClock.now().mono;
        assert_eq!(lesson.version(now), Version::Http2);
        lesson.wants_http1(now);
        assert_eq!(lesson.version(now), Version::Http1);
        let refused = lesson.refusal(Version::Http2, now);
        assert_eq!(refused, Some(ConnectError::NotHttp2));
        assert_eq!(lesson.refusal(Version::Http1, now), None);
        assert_eq!(lesson.version(now + HTTP1_FOR), Version::Http2);

        lesson.failed(Version::Http1, Failure::Connect, now);
        assert_eq!(lesson.version(now), Version::Http1);
        lesson.failed(Version::Http1, Failure::Tls, now);
        assert_eq!(lesson.version(now), Version::Http2);
    }
}
