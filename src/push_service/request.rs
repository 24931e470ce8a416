//! What a push request says: the headers of RFC 8030 §5, and what one service wants besides.
//!
//! As little as is asked for: a header that states the default (`Urgency: normal`) or that nobody
//! reads is bytes on every push.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::message::{PushMessage, Urgency};
use crate::origin::Service;

use super::PushRequest;

const TTL: HeaderName = HeaderName::from_static("ttl");
const URGENCY: HeaderName = HeaderName::from_static("urgency");
const TOPIC: HeaderName = HeaderName::from_static("topic");
const WNS_CACHE_POLICY: HeaderName = HeaderName::from_static("x-wns-cache-policy");

/// What a push has at most, with the two or three headers the client adds: one allocation.
const HEADERS: usize = 12;

/// Builds the request that pushes `message` with `body`, its encrypted content.
///
/// `body` is `None` for a push without one; `authorization` is the whole value of the header
/// (RFC 8292 §3). The draft coding `aesgcm` also needs `Encryption` and `Crypto-Key`, which are
/// the caller's to add.
#[must_use]
pub fn build(
    message: &PushMessage,
    body: Option<Bytes>,
    authorization: &HeaderValue,
) -> PushRequest {
    let endpoint = message.subscription.endpoint.clone();
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(AUTHORIZATION, sensitive(authorization));
    headers.insert(TTL, HeaderValue::from(message.ttl.seconds()));
    headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
    if message.urgency != Urgency::default() {
        headers.insert(URGENCY, HeaderValue::from_static(message.urgency.name()));
    }
    let topic = message.topic.as_ref().map(|topic| topic.as_str());
    // A topic is base64url, so it is always a value.
    if let Some(Ok(topic)) = topic.map(HeaderValue::from_str) {
        headers.insert(TOPIC, topic);
    }
    // WNS refuses `TTL: 0` by itself (push-services.md §1.4).
    if message.ttl.seconds() == 0 && endpoint.service() == Service::Wns {
        headers.insert(WNS_CACHE_POLICY, HeaderValue::from_static("no-cache"));
    }
    if body.is_some() {
        let coding = HeaderValue::from_static(message.coding.name());
        headers.insert(CONTENT_ENCODING, coding);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(OCTET_STREAM));
    }
    PushRequest {
        endpoint,
        headers,
        body: body.unwrap_or_default(),
    }
}

const OUR_NAME: &str = concat!("pushrider/", env!("CARGO_PKG_VERSION"));
const OCTET_STREAM: &str = "application/octet-stream";

/// Marks a value as one that no log shows and no HPACK table keeps (RFC 7541 §7.1.3).
fn sensitive(value: &HeaderValue) -> HeaderValue {
    let mut value = value.clone();
    value.set_sensitive(true);
    value
}
