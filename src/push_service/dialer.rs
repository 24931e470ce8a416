//! How a connection is set up: one client of the HTTP library per HTTP/2 connection.
//!
//! A client that speaks HTTP/2 alone keeps one connection per origin and makes everyone wait for
//! it, where a client that speaks both opens a connection per waiting request until the first
//! has agreed on a version. So the number of clients is the number of connections.
//!
//! What can go wrong: whatever a client does unasked. Redirects, proxies of the environment,
//! repeated requests, cookies and decompression are off or not compiled in; windows and header
//! lists are as small as the little that is read; a connection that has died without a word is
//! found out while there are requests on it, and by TCP while there are none.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{ClientBuilder, redirect, retry};

use super::Settings;
use super::connector::{ConnectLayer, OriginProtocol, Version};
use super::proxy::Proxy;
use super::resolver::GuardedResolver;
use super::tls::{self, TrustError};

/// How large the headers of an answer may be, counted as RFC 9113 §6.5.2 does.
pub(super) const HEADER_LIMIT: u32 = 16 * 1024;

/// How many HTTP/1.1 connections an origin may have; each carries one request at a time.
pub(super) const HTTP1_CONNECTIONS: usize = 64;

/// What a push service may send ahead of being read: per answer, and per connection.
const STREAM_WINDOW: u32 = 16 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// How long a connection with requests on it may be silent before it is asked for a sign of
/// life, and how long it then has.
const SILENCE: Duration = Duration::from_secs(5);

/// How long an unused connection is silent before TCP probes it, and between probes.
const TCP_PROBE_AFTER: Duration = Duration::from_secs(30);
const TCP_PROBE_EVERY: Duration = Duration::from_secs(10);
const TCP_PROBES: u32 = 3;

/// How long what was sent may stay unacknowledged.
const TCP_UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// Creates clients that share trust roots, TLS sessions and the resolver.
pub(super) struct Dialer {
    http1: rustls::ClientConfig,
    http2: rustls::ClientConfig,
    resolver: Arc<GuardedResolver>,
    proxy: Option<Proxy>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    silence: Duration,
}

impl Dialer {
    /// Creates a dialer.
    ///
    /// # Errors
    /// If no certificate could be checked.
    pub(super) fn new(settings: &Settings) -> Result<Self, TrustError> {
        let http2 = tls::configure(settings.ca.as_deref())?;
        let mut http1 = http2.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            http1,
            http2,
            resolver: Arc::new(GuardedResolver::new(Arc::clone(&settings.guard))),
            proxy: settings.proxy.clone(),
            connect_timeout: settings.connect_timeout,
            idle_timeout: settings.idle_timeout,
            silence: SILENCE,
        })
    }

    /// Creates the client of one HTTP/2 connection, or of an origin's HTTP/1.1 connections.
    ///
    /// # Errors
    /// If the HTTP library refuses the settings.
    pub(super) fn client(
        &self,
        version: Version,
        protocol: Arc<OriginProtocol>,
    ) -> reqwest::Result<reqwest::Client> {
        let layer = ConnectLayer {
            version,
            within: self.connect_timeout,
            proxy: self.proxy.as_ref().map(|proxy| Arc::clone(proxy.place())),
            protocol,
        };
        let builder = ClientBuilder::new()
            .connector_layer(layer)
            // The connect time-out fires first; this one divides the time among a name's addresses.
            .connect_timeout(self.connect_timeout + Duration::from_secs(1))
            .pool_idle_timeout(self.idle_timeout)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(retry::never())
            .tcp_keepalive(TCP_PROBE_AFTER)
            .tcp_keepalive_interval(TCP_PROBE_EVERY)
            .tcp_keepalive_retries(TCP_PROBES)
            .tcp_user_timeout(TCP_UNACKNOWLEDGED);
        self.versioned(self.routed(builder), version).build()
    }

    /// The only name that is resolved on the way to a proxy is the proxy's own, which the operator
    /// names and the guard does not judge.
    fn routed(&self, builder: ClientBuilder) -> ClientBuilder {
        match &self.proxy {
            Some(proxy) => builder.proxy(proxy.library()),
            None => builder.dns_resolver(Arc::clone(&self.resolver)),
        }
    }

    fn versioned(&self, builder: ClientBuilder, version: Version) -> ClientBuilder {
        match version {
            Version::Http1 => builder
                .tls_backend_preconfigured(self.http1.clone())
                .http1_only()
                .pool_max_idle_per_host(HTTP1_CONNECTIONS),
            Version::Http2 => builder
                .tls_backend_preconfigured(self.http2.clone())
                .http2_prior_knowledge()
                .http2_initial_stream_window_size(STREAM_WINDOW)
                .http2_initial_connection_window_size(CONNECTION_WINDOW)
                .http2_max_header_list_size(HEADER_LIMIT)
                .http2_keep_alive_interval(self.silence)
                .http2_keep_alive_timeout(self.silence),
        }
    }

    /// Suspects silence sooner, for tests that cannot wait.
    #[cfg(test)]
    pub(super) fn impatient(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }
}
