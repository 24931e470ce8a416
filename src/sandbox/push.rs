//! What a push request must be (RFC 8030 §5, RFC 8188, RFC 8291, RFC 8292): pure functions over its
//! head and body.
//!
//! Real services let much pass that no browser will ever show: a body that cannot be decrypted is
//! answered with 201. The sandbox exists to find such faults, so whatever a sender could get wrong is
//! refused here with a sentence that names it.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap};

use super::decrypt::{POINT_LENGTH, ReceiverKeys};
use super::legacy;
use super::refusal::Refusal;
use super::vapid::{Credential, VapidError, Verifier};

/// The longest topic (RFC 8030 §5.4).
const TOPIC_LIMIT: usize = 32;

/// The body of a request, as far as it was read.
#[derive(Debug)]
pub(crate) enum Body {
    /// All of it, at most [`BODY_LIMIT`](super::refusal::BODY_LIMIT) bytes.
    Whole(Bytes),
    /// More than the limit; carries how many bytes came.
    TooLong(usize),
}

impl Body {
    /// Returns how many bytes it has, if it is not over the limit.
    pub(crate) fn length(&self) -> Option<usize> {
        match self {
            Self::Whole(body) => Some(body.len()),
            Self::TooLong(_) => None,
        }
    }

    /// Returns its bytes; none of them if it is over the limit.
    pub(crate) fn kept(&self) -> &[u8] {
        match self {
            Self::Whole(body) => body,
            Self::TooLong(_) => &[],
        }
    }
}

/// What a push is held against.
pub(crate) struct Terms<'a> {
    /// The origin it was sent to.
    pub(crate) origin: &'a str,
    /// The application server key of the subscription, where one was given.
    pub(crate) bound: Option<&'a [u8; POINT_LENGTH]>,
    /// Verifies credentials.
    pub(crate) verifier: &'a Verifier,
    /// When it came.
    pub(crate) now: SystemTime,
}

/// The head of a push that is right.
#[derive(Debug)]
pub(crate) struct Head {
    /// How long the message may be kept, in seconds.
    pub(crate) ttl: u64,
    /// The sender.
    pub(crate) credential: Arc<Credential>,
}

/// Checks the head of a push: TTL, credential, length, topic, urgency.
///
/// The credential comes first, as at every service that looks at more than one.
pub(crate) fn check_head(headers: &HeaderMap, terms: &Terms<'_>) -> Result<Head, Refusal> {
    let mut credentials = headers.get_all(AUTHORIZATION).iter();
    let value = credentials.next().ok_or(VapidError::Absent)?;
    if credentials.next().is_some() {
        return Err(VapidError::Several.into());
    }
    let credential = terms.verifier.verify(&*legacy::modern(value, headers)?)?;
    credential.admit(terms.origin, terms.bound, terms.now)?;
    let ttl = ttl(headers)?;
    if !headers.contains_key(CONTENT_LENGTH) {
        return Err(Refusal::LengthMissing);
    }
    check_topic(headers)?;
    check_urgency(headers)?;
    Ok(Head { ttl, credential })
}

/// Checks the body of a push and opens it; without `keys` it stays closed.
///
/// A push without a body has no content coding and nothing to open (RFC 8030 §5).
pub(crate) fn check_body(
    headers: &HeaderMap,
    body: &Body,
    credential: &Credential,
    keys: Option<&ReceiverKeys>,
) -> Result<Option<Vec<u8>>, Refusal> {
    let body = match body {
        Body::Whole(body) => body,
        Body::TooLong(length) => return Err(Refusal::TooLarge(*length)),
    };
    match single(headers, "content-encoding")? {
        None if body.is_empty() => return Ok(None),
        None => return Err(Refusal::CodingMissing),
        Some("aes128gcm") => {}
        Some(legacy::CODING) => return legacy::open(headers, body, credential, keys),
        Some(other) => return Err(Refusal::Coding(other.to_owned())),
    }
    check_legacy(headers)?;
    // The key that signs must not be the key that encrypts (RFC 8292 §3.2).
    if body.get(21..21 + POINT_LENGTH) == Some(&credential.point[..]) {
        return Err(Refusal::SharedKey);
    }
    match keys {
        Some(keys) => Ok(Some(keys.decrypt(body)?)),
        None => Ok(None),
    }
}

fn ttl(headers: &HeaderMap) -> Result<u64, Refusal> {
    let text = single(headers, "ttl")?.ok_or(Refusal::TtlMissing)?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::Ttl(text.to_owned()));
    }
    // Too many digits for u64 is still "as long as you can".
    Ok(text.parse().unwrap_or(u64::MAX))
}

fn check_topic(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(topic) = single(headers, "topic")? else {
        return Ok(());
    };
    let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=TOPIC_LIMIT).contains(&topic.len()) && topic.bytes().all(in_alphabet) {
        Ok(())
    } else {
        Err(Refusal::Topic(topic.to_owned()))
    }
}

fn check_urgency(headers: &HeaderMap) -> Result<(), Refusal> {
    match single(headers, "urgency")? {
        None | Some("very-low" | "low" | "normal" | "high") => Ok(()),
        Some(other) => Err(Refusal::Urgency(other.to_owned())),
    }
}

/// Refuses what belongs to `aesgcm`: with `aes128gcm` salt and key are in the body.
fn check_legacy(headers: &HeaderMap) -> Result<(), Refusal> {
    for (name, parameter) in [("encryption", "salt="), ("crypto-key", "dh=")] {
        let mut values = headers.get_all(name).iter();
        if values.any(|value| value.to_str().is_ok_and(|text| text.contains(parameter))) {
            return Err(Refusal::LegacyHeader(name));
        }
    }
    Ok(())
}

/// Returns the value of a header that may be there once.
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::Repeated(name));
    }
    value.to_str().map(Some).map_err(|_| Refusal::NotText(name))
}

/// Returns the value of a header for the record, whatever it holds.
pub(crate) fn shown(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::decrypt::DecryptError;
    use crate::sandbox::subscriptions::KeysJson;
    use crate::sandbox::tests::sender::Sender;

    const ORIGIN: &str = "https://push.example.net";

    fn receiver() -> ReceiverKeys {
        ReceiverKeys::new(&[7; 32], [9; 16]).unwrap()
    }

    fn head_of(headers: &HeaderMap, now: SystemTime) -> Result<Head, Refusal> {
        let verifier = Verifier::default();
        let terms = Terms {
            origin: ORIGIN,
            bound: None,
            verifier: &verifier,
            now,
        };
        check_head(headers, &terms)
    }

    #[test]
    fn a_right_push_is_taken_and_opened() {
        let (sender, receiver) = (Sender::new(), receiver());
        let (headers, body) = sender.request(ORIGIN, &KeysJson::of(&receiver), b"hello");
        let head = head_of(&headers, sender.now).unwrap();
        assert_eq!(head.ttl, 60);
        let body = Body::Whole(body);
        let opened = check_body(&headers, &body, &head.credential, Some(&receiver));
        assert_eq!(opened.unwrap().unwrap(), b"hello");
        let closed = check_body(&headers, &body, &head.credential, None);
        assert_eq!(closed.unwrap(), None);
    }

    #[test]
    fn every_header_is_held_to_its_rfc() {
        let sender = Sender::new();
        let (right, _) = sender.request(ORIGIN, &KeysJson::of(&receiver()), b"hello");
        let topic = "x".repeat(33);
        for (name, values, status) in [
            ("ttl", &[][..], 400),
            ("ttl", &[""][..], 400),
            ("ttl", &["-1"], 400),
            ("ttl", &["1.5"], 400),
            ("ttl", &["+1"], 400),
            ("ttl", &["1", "1"], 400),
            ("ttl", &["0"], 201),
            ("ttl", &["99999999999999999999999"], 201),
            ("authorization", &[], 401),
            ("authorization", &["Basic YTpi"], 403),
            ("authorization", &["vapid t=a, k=b", "vapid t=a, k=b"], 403),
            ("content-length", &[], 411),
            ("topic", &[], 201),
            ("topic", &["Az09-_"], 201),
            ("topic", &[&topic[1..]], 201),
            ("topic", &[&topic], 400),
            ("topic", &[""], 400),
            ("topic", &["a+b"], 400),
            ("topic", &["a", "b"], 400),
            ("urgency", &["very-low"], 201),
            ("urgency", &["High"], 400),
            ("urgency", &["normal", "normal"], 400),
        ] {
            let mut headers = right.clone();
            headers.remove(name);
            for value in values {
                headers.append(name, value.parse().unwrap());
            }
            let status_of = |refusal: Refusal| refusal.status().as_u16();
            let got = head_of(&headers, sender.now).map_or_else(status_of, |_| 201);
            assert_eq!(got, status, "{name}: {values:?}");
        }
    }

    #[test]
    fn a_body_must_be_what_its_headers_say() {
        let (sender, receiver) = (Sender::new(), receiver());
        let (right, body) = sender.request(ORIGIN, &KeysJson::of(&receiver), b"hello");
        let head = head_of(&right, sender.now).unwrap();
        let check = |headers: &HeaderMap, body: &Body| {
            check_body(headers, body, &head.credential, Some(&receiver))
        };
        let with = |name: &'static str, value: &str| {
            let mut headers = right.clone();
            headers.insert(name, value.parse().unwrap());
            headers
        };
        let whole = Body::Whole(body.clone());
        let mut plain = right.clone();
        plain.remove("content-encoding");
        assert_eq!(check(&plain, &Body::Whole(Bytes::new())), Ok(None));
        assert_eq!(check(&plain, &whole), Err(Refusal::CodingMissing));
        assert_eq!(
            check(&right, &Body::TooLong(4097)),
            Err(Refusal::TooLarge(4097))
        );
        assert_eq!(
            check(&with("content-encoding", "gzip"), &whole),
            Err(Refusal::Coding("gzip".to_owned()))
        );
        assert_eq!(
            check(&with("crypto-key", "dh=BAAA"), &whole),
            Err(Refusal::LegacyHeader("crypto-key"))
        );
        assert!(check(&with("crypto-key", "p256ecdsa=BAAA"), &whole).is_ok());
        let mut shared = body.to_vec();
        shared[21..86].copy_from_slice(&head.credential.point);
        let shared = Body::Whole(shared.into());
        assert_eq!(check(&right, &shared), Err(Refusal::SharedKey));
        let other = ReceiverKeys::new(&[8; 32], [9; 16]).unwrap();
        let refused = check_body(&right, &whole, &head.credential, Some(&other));
        assert_eq!(refused, Err(DecryptError::Authentication(0).into()));
    }
}
