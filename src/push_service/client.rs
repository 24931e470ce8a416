//! One exchange: a request goes out, the beginning of an answer comes back, in time.
//!
//! What can go wrong is a [`Failure`]. The deadline covers everything, waiting for a
//! connection included; of the answer no more is read than is wanted, and the rest is reset, not
//! drained.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::time::{Instant, timeout_at};
use url::Host;

use crate::clock::{Clock, SystemClock};
use crate::guard;
use crate::outcome::{Answer, Attempt, Failure};
use crate::subscription::Endpoint;

use super::connections::{Connections, Lease, OriginConnections};
use super::connector::{OriginProtocol, Version};
use super::dialer::{Dialer, HEADER_LIMIT};
use super::failure::{self, Unanswered};
use super::tls::TrustError;
use super::{PushRequest, Settings, Transport};

/// How much of a body is read.
const EXCERPT_LIMIT: usize = 4 * 1024;

/// The longest deadline there is.
const DEADLINE_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Sends push requests over TLS and HTTP, to addresses the guard permits.
pub struct Client {
    connections: Connections,
    dialer: Dialer,
    guard: Arc<guard::Rules>,
}

/// Why no push request can be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No certificate could be checked.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The HTTP library refuses what is asked of it.
    #[error("the HTTP client cannot be set up: {0}")]
    Unusable(#[source] reqwest::Error),
}

impl Client {
    /// Creates a client, which connects nowhere before the first request.
    ///
    /// # Errors
    /// If the CA text is not PEM, there is no certificate to trust, or the HTTP library refuses
    /// the settings.
    pub fn new(settings: &Settings) -> Result<Self, ClientError> {
        Self::with(Dialer::new(settings)?, settings)
    }

    pub(super) fn with(dialer: Dialer, settings: &Settings) -> Result<Self, ClientError> {
        // What cannot be built later cannot be built now.
        for version in [Version::Http1, Version::Http2] {
            let client = dialer.client(version, Arc::new(OriginProtocol::none()));
            client.map_err(ClientError::Unusable)?;
        }
        Ok(Self {
            connections: Connections::new(settings),
            dialer,
            guard: Arc::clone(&settings.guard),
        })
    }

    async fn exchange(&self, request: PushRequest, until: Instant) -> Result<Answer, Failure> {
        self.judge_literal(&request.endpoint)?;
        let endpoint = request.endpoint.clone();
        let origin = self.connections.of(endpoint.origin());
        let head = timeout_at(until, self.head(&origin, request)).await;
        let (response, _lease) = head.map_err(|_elapsed| Failure::Timeout)??;
        if response.status() == StatusCode::MISDIRECTED_REQUEST {
            self.connections.forget(endpoint.origin(), &origin);
        }
        read(response, until).await
    }

    /// Judges an address that no resolver will see.
    fn judge_literal(&self, endpoint: &Endpoint) -> Result<(), Failure> {
        let permitted = match endpoint.host() {
            Host::Domain(_) => true,
            Host::Ipv4(address) => self.guard.permits_address(address.into()),
            Host::Ipv6(address) => self.guard.permits_address(address.into()),
        };
        permitted.then_some(()).ok_or(Failure::ForbiddenAddress)
    }

    /// Waits for the head of the answer. A request that was called back before it was seen goes
    /// out once more: over HTTP/1.1, or over a connection of its own making.
    async fn head<'a>(
        &self,
        origin: &'a OriginConnections,
        request: PushRequest,
    ) -> Result<(reqwest::Response, Lease<'a>), Failure> {
        let protocol = origin.protocol();
        let spare = (!protocol.speaks_http2()).then(|| request.clone());
        match (self.send(origin, request).await, spare) {
            (Err(Unanswered::WantsHttp1), spare) => {
                protocol.wants_http1(SystemClock.now().mono);
                let spare = spare.ok_or(Failure::NotProcessed)?;
                Ok(self.send(origin, spare).await?)
            }
            (Err(Unanswered::Unconnected), Some(spare)) => Ok(self.send(origin, spare).await?),
            (sent, _) => Ok(sent?),
        }
    }

    async fn send<'a>(
        &self,
        origin: &'a OriginConnections,
        request: PushRequest,
    ) -> Result<(reqwest::Response, Lease<'a>), Unanswered> {
        let now = SystemClock.now().mono;
        let lease = origin.lease(&self.dialer, now).await;
        let lease = lease.map_err(Unanswered::Failed)?;
        match lease.client.execute(post(request, &lease)).await {
            Ok(response) => Ok((response, lease)),
            Err(error) => Err(match failure::of_exchange(&error) {
                Unanswered::Unconnected => origin.protocol().unconnected(now),
                known @ (Unanswered::Failed(_) | Unanswered::WantsHttp1) => known,
            }),
        }
    }
}

impl Transport for Client {
    async fn post(&self, request: PushRequest, deadline: Duration) -> Attempt {
        let until = SystemClock.now().mono + deadline.min(DEADLINE_LIMIT);
        match self.exchange(request, until).await {
            Ok(answer) => Attempt::Answered(answer),
            Err(failure) => Attempt::Failed(failure),
        }
    }
}

fn post(request: PushRequest, lease: &Lease<'_>) -> reqwest::Request {
    let mut post = reqwest::Request::new(Method::POST, request.endpoint.url().clone());
    *post.headers_mut() = request.headers;
    if request.body.is_empty() {
        // HTTP/1.1 says nothing about a body that is not there; some push services insist.
        let none = HeaderValue::from_static("0");
        post.headers_mut().insert(CONTENT_LENGTH, none);
    }
    *post.body_mut() = Some(lease.body(request.body));
    post
}

/// Reads the beginning of an answer.
///
/// A message that was taken stays taken, whatever becomes of the words about it; any other
/// answer is read to its end or to [`EXCERPT_LIMIT`], since the words may decide what it means.
async fn read(mut response: reqwest::Response, until: Instant) -> Result<Answer, Failure> {
    let status = response.status();
    let headers = mem::take(response.headers_mut());
    if size(&headers) > HEADER_LIMIT as usize {
        return Err(Failure::Protocol);
    }
    let mut excerpt = Vec::new();
    let read = timeout_at(until, read_excerpt(&mut response, &mut excerpt)).await;
    let read = read.unwrap_or(Err(Failure::Timeout));
    if !status.is_success() {
        read?;
    }
    Ok(Answer {
        status,
        headers,
        excerpt: Bytes::from(excerpt),
    })
}

async fn read_excerpt(
    response: &mut reqwest::Response,
    excerpt: &mut Vec<u8>,
) -> Result<(), Failure> {
    while excerpt.len() < EXCERPT_LIMIT {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let wanted = chunk.len().min(EXCERPT_LIMIT - excerpt.len());
                excerpt.extend_from_slice(&chunk[..wanted]);
            }
            Ok(None) => break,
            Err(error) => return Err(failure::of_body(&error)),
        }
    }
    Ok(())
}

fn size(headers: &HeaderMap) -> usize {
    let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 32;
    headers.iter().map(field).sum()
}
