//! Why a push is refused.

use http::status::StatusCode;

use super::decrypt::DecryptError;
use super::vapid::VapidError;

/// The longest body that is taken, in bytes: what every service takes (RFC 8030 §7.2).
pub(crate) const BODY_LIMIT: usize = 4096;

/// Why a push is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such push resource.
    #[error("there is no such push resource")]
    NotFound,
    /// Not a POST.
    #[error("a push resource takes POST alone")]
    Method,
    /// No `TTL`.
    #[error("TTL is missing (RFC 8030 §5.2)")]
    TtlMissing,
    /// Not an integer.
    #[error("TTL must be a number of seconds, digits alone; it is {0:?}")]
    Ttl(String),
    /// Something about VAPID.
    #[error(transparent)]
    Vapid(#[from] VapidError),
    /// No `Content-Length`.
    #[error("Content-Length is missing")]
    LengthMissing,
    /// Not a topic.
    #[error("Topic must be 1 to 32 characters of A-Z a-z 0-9 - _ (RFC 8030 §5.4); it is {0:?}")]
    Topic(String),
    /// A topic that is no base64url of anything: Apple refuses it.
    #[error("Topic must have a length that base64url can have (not 5, 9, 13, …); it is {0:?}")]
    TopicUndecodable(String),
    /// A TTL that says not to keep a push that may be kept: WNS refuses it.
    #[error("TTL 0 needs X-WNS-Cache-Policy: no-cache")]
    TtlConflict,
    /// A contact that leads nowhere: Apple refuses it.
    #[error("the claim sub must be a mailto: or https: URL on a public domain; it is {0:?}")]
    Subject(String),
    /// Not an urgency.
    #[error("Urgency must be very-low, low, normal or high (RFC 8030 §5.3); it is {0:?}")]
    Urgency(String),
    /// More bytes than every service takes; carries how many came.
    #[error("the body is longer than {BODY_LIMIT} bytes")]
    TooLarge(usize),
    /// No `Content-Encoding`.
    #[error("Content-Encoding is missing: a body must be encrypted (RFC 8291)")]
    CodingMissing,
    /// Another content coding.
    #[error("Content-Encoding must be aes128gcm, or aesgcm of before the RFC; it is {0:?}")]
    Coding(String),
    /// A header of the draft codings.
    #[error("with aes128gcm the header {0} has no place: salt and key are in the body")]
    LegacyHeader(&'static str),
    /// One key for two purposes.
    #[error("the VAPID key must not be the key the message is encrypted with (RFC 8292 §3.2)")]
    SharedKey,
    /// Something about the encryption.
    #[error(transparent)]
    Decrypt(#[from] DecryptError),
    /// Sent twice.
    #[error("the header {0} must be sent once")]
    Repeated(&'static str),
    /// Not ASCII.
    #[error("the header {0} has bytes that are not visible ASCII")]
    NotText(&'static str),
}

impl Refusal {
    /// Returns the status that goes with it.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::LengthMissing => StatusCode::LENGTH_REQUIRED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Vapid(VapidError::Absent) => StatusCode::UNAUTHORIZED,
            Self::Vapid(_) | Self::Subject(_) => StatusCode::FORBIDDEN,
            Self::TtlMissing
            | Self::Ttl(_)
            | Self::TtlConflict
            | Self::Topic(_)
            | Self::TopicUndecodable(_)
            | Self::Urgency(_)
            | Self::CodingMissing
            | Self::Coding(_)
            | Self::LegacyHeader(_)
            | Self::SharedKey
            | Self::Decrypt(_)
            | Self::Repeated(_)
            | Self::NotText(_) => StatusCode::BAD_REQUEST,
        }
    }
}
