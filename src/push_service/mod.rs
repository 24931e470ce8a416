//! Sends requests to push services. No other module sends.
//!
//! What can go wrong here is anything that the server of an unlisted host can do: every limit and every
//! deadline is this side's, and every end of a round trip is an [`Attempt`], never an error.
//!
//! [`build`] and [`build_draft`] create a [`PushRequest`] from a message. [`Client`] sends it over one of the
//! few connections that its origin may have, to an address that the guard permits, and reads the beginning of
//! the answer. Nothing here retries, follows, decompresses or remembers a message.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use crate::guard;
use crate::outcome::Attempt;
use crate::subscription::Endpoint;

mod body;
mod client;
mod connections;
mod connector;
mod dialer;
mod failure;
mod handshake;
mod proxy;
mod request;
mod resolver;
mod streams;
mod tls;
mod verifier;

#[cfg(test)]
mod tests;

pub use client::{Client, ClientError};
pub use proxy::{Proxy, ProxyError};
pub use request::{build, build_draft};
pub use tls::TrustError;

/// One POST to a push resource, complete to the last header.
#[derive(Clone)]
pub struct PushRequest {
    /// Where to.
    pub endpoint: Endpoint,
    /// Every header but `Host` and `Content-Length`, which the client adds.
    pub headers: HeaderMap,
    /// The encrypted body; empty for a push without one.
    pub body: Bytes,
}

/// Headers hold the token and the URL is a capability, so only the fingerprint is shown.
impl fmt::Debug for PushRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushRequest")
            .field("endpoint", &self.endpoint)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Sends push requests.
pub trait Transport: Send + Sync + 'static {
    /// Sends one request and reads the beginning of the answer, all before `deadline` has passed.
    fn post(
        &self,
        request: PushRequest,
        deadline: Duration,
    ) -> impl Future<Output = Attempt> + Send;
}

/// What an operator decides about sending.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long making a connection may take, TLS included.
    pub connect_timeout: Duration,
    /// Certificates (PEM) trusted besides the system's.
    pub ca: Option<String>,
    /// The proxy that connects to push services; it resolves their names.
    pub proxy: Option<Proxy>,
    /// How many HTTP/2 connections an origin may have.
    pub connections_per_origin: usize,
    /// How many requests are in flight on one HTTP/2 connection before another is opened.
    pub requests_per_connection: usize,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Which addresses may be connected to.
    pub guard: Arc<guard::Rules>,
}
