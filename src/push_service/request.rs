//! What a push request says: the headers of RFC 8030 §5, and what one service wants besides.
//!
//! As little as is asked for: a header that states the default (`Urgency: normal`) or that no service
//! reads is bytes on every push.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::ece::aesgcm;
use crate::message::{PushMessage, Urgency};
use crate::origin::Service;
use crate::subscription::encode_base64url;

use super::PushRequest;

const TTL: HeaderName = HeaderName::from_static("ttl");
const URGENCY: HeaderName = HeaderName::from_static("urgency");
const TOPIC: HeaderName = HeaderName::from_static("topic");
const ENCRYPTION: HeaderName = HeaderName::from_static("encryption");
const CRYPTO_KEY: HeaderName = HeaderName::from_static("crypto-key");
const WNS_CACHE_POLICY: HeaderName = HeaderName::from_static("x-wns-cache-policy");

/// What a push has at most, with the two or three headers the client adds: one allocation.
const HEADERS: usize = 12;

/// Builds the request that pushes `message` with `body`, its encrypted content.
///
/// `body` is `None` for a push without one; `authorization` is the whole value of the header
/// (RFC 8292 §3).
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
    // WNS refuses `TTL: 0` by itself (classify/README.md §1.4).
    if message.ttl.seconds() == 0 && endpoint.service() == Service::Wns {
        headers.insert(WNS_CACHE_POLICY, HeaderValue::from_static("no-cache"));
    }
    if body.is_some() {
        let coding = HeaderValue::from_static(message.coding.name());
        headers.insert(CONTENT_ENCODING, coding);
        let media_type = HeaderValue::from_static(message.media_type.name());
        headers.insert(CONTENT_TYPE, media_type);
    }
    PushRequest {
        endpoint,
        headers,
        body: body.unwrap_or_default(),
    }
}

/// Builds the request that pushes `message` in the draft coding, signed as the drafts had it:
/// `authorization` is the token alone (draft-ietf-webpush-vapid-01 §2), and `Crypto-Key` joins
/// the sender's key with `public_key`, the application server key in base64url.
///
/// Both are parameters of one key, parted by a semicolon: what all services read, and what
/// autopush and FCM were sent by everybody in their day (classify/README.md §5).
#[must_use]
pub fn build_draft(
    message: &PushMessage,
    sealed: aesgcm::Sealed,
    authorization: &HeaderValue,
    public_key: &str,
) -> PushRequest {
    let salt = format!("salt={}", encode_base64url(&sealed.salt));
    let sender = encode_base64url(&sealed.sender);
    let keys = format!("dh={sender};p256ecdsa={public_key}");
    let mut request = build(message, Some(sealed.body), authorization);
    for (name, value) in [(ENCRYPTION, salt), (CRYPTO_KEY, keys)] {
        // Base64url is always a value.
        let value = HeaderValue::try_from(value).ok();
        request.headers.extend(value.map(|value| (name, value)));
    }
    request
}

const OUR_NAME: &str = concat!("pushrider/", env!("CARGO_PKG_VERSION"));

/// Marks a value as one that no log shows and no HPACK table keeps (RFC 7541 §7.1.3).
fn sensitive(value: &HeaderValue) -> HeaderValue {
    let mut value = value.clone();
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use crate::message::{Coding, MediaType, Topic, Ttl};
    use crate::subscription::{Endpoint, Subscription};

    use super::*;

    const FCM: &str = "https://fcm.googleapis.com/fcm/send/capability";
    const WNS: &str = "https://wns2-par02p.notify.windows.com/w/?token=BQ%2bx%2f%3d";

    fn message(endpoint: &str, ttl: u64) -> PushMessage {
        PushMessage {
            subscription: Subscription {
                endpoint: Endpoint::parse(endpoint).unwrap(),
                keys: None,
            },
            content: None,
            coding: Coding::Aes128Gcm,
            ttl: Ttl::clamped(ttl),
            urgency: Urgency::Normal,
            topic: None,
            media_type: MediaType::OctetStream,
        }
    }

    fn built(message: &PushMessage, body: Option<&'static [u8]>) -> PushRequest {
        let authorization = HeaderValue::from_static("vapid t=token, k=key");
        build(message, body.map(Bytes::from_static), &authorization)
    }

    fn lines(request: &PushRequest) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<_> = request.headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_request_says_what_the_message_says_and_no_more() {
        let ours = format!("user-agent: pushrider/{}", env!("CARGO_PKG_VERSION"));
        let bare = built(&message(FCM, 0), None);
        let authorization = "authorization: vapid t=token, k=key";
        assert_eq!(lines(&bare), [authorization, "ttl: 0", &ours]);
        assert!(bare.body.is_empty());

        let full = PushMessage {
            urgency: Urgency::VeryLow,
            topic: Topic::parse("order-42"),
            ..message(FCM, 60)
        };
        let expected = [
            authorization,
            "content-encoding: aes128gcm",
            "content-type: application/octet-stream",
            "topic: order-42",
            "ttl: 60",
            "urgency: very-low",
            &ours,
        ];
        let full = built(&full, Some(b"sealed"));
        assert_eq!(lines(&full), expected);
        assert_eq!(&full.body[..], b"sealed");
    }

    #[test]
    fn the_draft_coding_is_explained_in_two_headers() {
        let legacy = PushMessage {
            coding: Coding::AesGcm,
            media_type: MediaType::Notification,
            ..message(FCM, 60)
        };
        let sealed = aesgcm::Sealed {
            body: Bytes::from_static(b"sealed"),
            salt: [0; 16],
            sender: [0xff; 65],
        };
        let token = HeaderValue::from_static("WebPush token");
        let request = build_draft(&legacy, sealed, &token, "BPub-_");
        assert_eq!(&request.body[..], b"sealed");
        assert!(request.headers[AUTHORIZATION].is_sensitive());
        let zeros = "A".repeat(22);
        let sender = format!("{}8", "_".repeat(86));
        for (name, value) in [
            ("authorization", "WebPush token"),
            ("content-encoding", "aesgcm"),
            ("content-type", "application/notification+json"),
            ("encryption", &format!("salt={zeros}")),
            ("crypto-key", &format!("dh={sender};p256ecdsa=BPub-_")),
        ] {
            let values: Vec<_> = request.headers.get_all(name).iter().collect();
            assert_eq!(values, [value], "{name}");
        }
    }

    #[test]
    fn only_wns_is_told_that_a_ttl_of_zero_means_no_cache() {
        for (endpoint, ttl, actual) in [(WNS, 0, true), (WNS, 1, false), (FCM, 0, false)] {
            let request = built(&message(endpoint, ttl), None);
            let policy = request.headers.get(WNS_CACHE_POLICY);
            assert_eq!(policy.is_some(), actual, "{endpoint} {ttl}");
            assert!(policy.is_none_or(|policy| policy == "no-cache"));
        }
    }

    #[test]
    fn the_token_is_marked_as_a_secret() {
        let request = built(&message(FCM, 60), None);
        assert!(request.headers[AUTHORIZATION].is_sensitive());
        let shown = format!("{request:?}{:?}", request.headers);
        assert!(
            !shown.contains("token") && !shown.contains("capability"),
            "{shown}"
        );
    }

    #[test]
    fn every_topic_is_a_header_value() {
        for text in ["order-42", "a_b-", &"x".repeat(32)] {
            let topic = Topic::parse(text);
            let message = PushMessage {
                topic,
                ..message(FCM, 60)
            };
            assert_eq!(built(&message, None).headers[TOPIC], text);
        }
    }
}
