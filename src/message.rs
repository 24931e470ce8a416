//! What is pushed, and the words that name it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::subscription::{Subscription, encode_base64url, hex};
use crate::words::words;

words!(MediaType, Urgency, Coding);

/// Four weeks in seconds: the longest TTL every push service takes (classify/README.md §1.4).
pub const TTL_LIMIT: u32 = 2_419_200;

/// The largest plaintext that fits one RFC 8291 record of 4096 bytes.
pub const PLAINTEXT_LIMIT: usize = 3993;

/// One push message, ready to be encrypted and signed.
#[derive(Clone, Debug)]
pub struct PushMessage {
    /// Where to, and with which keys.
    pub subscription: Subscription,
    /// The plaintext; `None` pushes without a body.
    pub content: Option<Bytes>,
    /// How the plaintext is encrypted.
    pub coding: Coding,
    /// How long the push service may keep it.
    pub ttl: Ttl,
    /// How eagerly it is delivered to a device that saves power.
    pub urgency: Urgency,
    /// Which undelivered message it replaces.
    pub topic: Option<Topic>,
    /// What the content is said to be.
    pub media_type: MediaType,
}

/// What the `Content-Type` of a message says; no push service asks (classify/README.md §7).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    IntoStaticStr,
    serde::Serialize,
    serde::Deserialize,
    VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum MediaType {
    /// Bytes that only the user agent can read.
    #[default]
    #[strum(serialize = "application/octet-stream")]
    #[serde(rename = "application/octet-stream")]
    OctetStream,
    /// A declarative message, as the first drafts of Declarative Web Push had it.
    #[strum(serialize = "application/notification+json")]
    #[serde(rename = "application/notification+json")]
    Notification,
}

/// How long a push service may keep a message (RFC 8030 §5.2): 0 to [`TTL_LIMIT`] seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl(u32);

impl Ttl {
    /// One second.
    pub const ONE: Self = Self(1);

    /// Clamps a number of seconds to what every service takes.
    #[must_use]
    pub fn clamped(seconds: u64) -> Self {
        Self(u32::try_from(seconds).map_or(TTL_LIMIT, |seconds| seconds.min(TTL_LIMIT)))
    }

    /// Returns what is left of a lifetime, rounded up to whole seconds.
    #[must_use]
    pub fn remaining(left: Duration) -> Self {
        Self::clamped(
            left.as_secs()
                .saturating_add(u64::from(left.subsec_nanos() > 0)),
        )
    }

    /// Returns the number of seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.0
    }
}

/// How eagerly a message is delivered (RFC 8030 §5.3).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, VariantArray, IntoStaticStr, EnumString,
)]
#[strum(serialize_all = "snake_case")]
pub enum Urgency {
    /// Only on power and Wi-Fi.
    #[strum(serialize = "very-low")]
    VeryLow,
    /// On power or Wi-Fi.
    Low,
    /// On neither.
    #[default]
    Normal,
    /// Even on low battery.
    High,
}

impl Urgency {
    /// Finds the urgency a word names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        word.parse().ok()
    }
}

/// The topic of a message (RFC 8030 §5.4) in a form every push service takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Parses a topic.
    ///
    /// `None` if some service would refuse it: 1 to 32 characters of the base64url alphabet, and,
    /// for Apple, a length that base64url can have (classify/README.md §1.3).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=32).contains(&text.len()) && text.len() % 4 != 1;
        let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (fits && text.bytes().all(alphabet)).then(|| Self(text.into()))
    }

    /// Derives a topic from any text: equal texts give equal topics.
    #[must_use]
    pub fn hashed(text: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        Self::derived(&bytes)
    }

    /// Creates a topic from a digest.
    #[must_use]
    pub fn derived(digest: &[u8; 32]) -> Self {
        Self(encode_base64url(&digest[..24]).into())
    }

    /// Returns the header's value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How a message is encrypted.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, IntoStaticStr, EnumString, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Coding {
    /// RFC 8291.
    #[default]
    #[strum(serialize = "aes128gcm")]
    Aes128Gcm,
    /// draft-ietf-webpush-encryption-04, for user agents that predate the RFC.
    #[strum(serialize = "aesgcm")]
    AesGcm,
}

impl Coding {
    /// Finds the coding a word names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        word.parse().ok()
    }
}

/// The name of an event in every result: 1 to 128 bytes of printable ASCII.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, derive_more::Debug, derive_more::Display)]
#[serde(transparent)]
#[debug("{_0}")]
pub struct EventId(Arc<str>);

impl EventId {
    /// The longest name, in bytes.
    pub const LIMIT: usize = 128;

    /// Parses a producer's id; `None` if it is too long or not printable ASCII.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=Self::LIMIT).contains(&text.len());
        (fits && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))).then(|| Self(text.into()))
    }

    /// Names an event after what it says, so that a redelivery has the same name.
    #[must_use]
    pub fn derived(digest: &[u8; 32]) -> Self {
        Self(hex(&digest[..16]).into())
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of an application, a lane, a label or a key: `[a-z0-9_-]{1,64}`, safe in a routing key
/// and in a metric's label.
#[derive(
    Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, derive_more::Debug, derive_more::Display,
)]
#[serde(transparent)]
#[debug("{_0}")]
pub struct Name(Arc<str>);

impl Name {
    /// Parses a name; `None` if it is empty, too long or has another character.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let alphabet = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        ((1..=64).contains(&text.len()) && text.bytes().all(alphabet)).then(|| Self(text.into()))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names a copy of an event that a daemon publishes: a retry, a schedule or a chunk.
///
/// A publication that is repeated after a lost confirm has the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, derive_more::Display)]
#[display("{_0:032x}")]
pub struct CopyId(u128);

impl CopyId {
    /// Reads 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_hex)?;
        Some(Self(number))
    }

    /// Returns it as a number.
    #[must_use]
    pub fn number(self) -> u128 {
        self.0
    }
}

/// Creates ids that no other process creates: a random number and a count.
#[derive(Debug)]
pub struct CopyIds {
    drawn: u64,
    count: AtomicU64,
}

impl CopyIds {
    /// Creates ids that begin with the random number `drawn`.
    #[must_use]
    pub fn new(drawn: u64) -> Self {
        Self {
            drawn,
            count: AtomicU64::new(0),
        }
    }

    /// Returns the next id.
    #[must_use]
    pub fn make(&self) -> CopyId {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        CopyId(u128::from(self.drawn) << 64 | u128::from(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_clamped_and_rounded_up() {
        assert_eq!(Ttl::clamped(1 << 40).seconds(), TTL_LIMIT);
        assert_eq!(Ttl::clamped(60).seconds(), 60);
        assert_eq!(Ttl::remaining(Duration::from_millis(59_001)).seconds(), 60);
        assert_eq!(Ttl::remaining(Duration::from_secs(59)).seconds(), 59);
        assert_eq!(Ttl::remaining(Duration::MAX).seconds(), TTL_LIMIT);
    }

    #[test]
    fn a_topic_that_a_service_would_refuse_is_not_one() {
        for good in ["ab", "abcd", "a-_9", &"x".repeat(32)] {
            assert_eq!(Topic::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a", "abcde", "a b", "a=", "\u{fc}b", &"x".repeat(33)] {
            assert_eq!(Topic::parse(bad), None, "{bad}");
            let stand_in = Topic::hashed(bad);
            assert_eq!(Topic::parse(stand_in.as_str()), Some(stand_in), "{bad}");
        }
        assert_ne!(Topic::hashed("order/1"), Topic::hashed("order/2"));
    }

    #[test]
    fn names_are_safe_in_routing_keys() {
        for good in ["shop", "a-b_c", "0", &"x".repeat(64)] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "Shop", "a.b", "a*", "#", "a b", &"x".repeat(65)] {
            assert_eq!(Name::parse(bad), None, "{bad}");
        }
        assert!(EventId::parse(&"x".repeat(128)).is_some());
        for bad in ["", "a\n", "\u{e9}", &"x".repeat(129), &"x".repeat(300)] {
            assert_eq!(EventId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_words_of_headers_are_those_of_the_standards() {
        let urgencies: Vec<_> = Urgency::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(urgencies, ["very-low", "low", "normal", "high"]);
        assert_eq!(
            [Coding::Aes128Gcm, Coding::AesGcm].map(Coding::name),
            ["aes128gcm", "aesgcm"]
        );
        let types = [MediaType::OctetStream, MediaType::Notification].map(MediaType::name);
        assert_eq!(
            types,
            ["application/octet-stream", "application/notification+json"]
        );
    }
}
