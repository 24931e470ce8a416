//! What became of it: one attempt, what it means, and the end of a recipient.
//!
//! Three steps, each its own type. An [`Attempt`] is what happened on the wire. A [`Verdict`] is
//! what that means (`classify`). An [`Outcome`] with its [`Reason`] is final and is published.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::message::Name;

/// One exchange with a push service.
#[derive(Clone, Debug)]
pub enum Attempt {
    /// The service answered.
    Answered(Answer),
    /// No answer came.
    Failed(Failure),
}

/// What a push service answered.
#[derive(Clone)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The response headers.
    pub headers: HeaderMap,
    /// The beginning of the body, at most 4 KiB.
    pub excerpt: Bytes,
}

/// Headers and body may hold capability URLs, so only the status is shown.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({})", self.status.as_u16())
    }
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The deadline passed. The service may have taken the message.
    Timeout,
    /// The name has no address.
    Dns,
    /// Every address of the name is in a range that must not be pushed to.
    ForbiddenAddress,
    /// No connection could be made.
    Connect,
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls,
    /// The connection broke. The service may have taken the message.
    Interrupted,
    /// The service did not process the request: `REFUSED_STREAM`, or a stream above the last one
    /// named by `GOAWAY` (RFC 9113 §8.7).
    NotProcessed,
    /// The answer is not HTTP, or broke a limit.
    Protocol,
}

/// What one attempt means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to do about it.
    pub meaning: Meaning,
    /// Why, in one word of the closed set.
    pub reason: Reason,
    /// How long the service asked to be left alone.
    pub after: Option<Duration>,
    /// Whether another attempt may be made at once, within the same attempt, because the service
    /// has certainly not seen this one.
    pub again_at_once: bool,
    /// The service's own words, for people.
    pub detail: Option<Box<str>>,
}

/// What to do about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The push service has taken the message.
    Accepted,
    /// The subscription is dead.
    Gone,
    /// It will never be taken, and the subscription lives.
    Rejected,
    /// It may be taken later.
    Retryable,
}

impl Meaning {
    /// Every meaning.
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Gone, Self::Rejected, Self::Retryable];

    /// Returns the word of the metrics' label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Gone => "gone",
            Self::Rejected => "rejected",
            Self::Retryable => "retryable",
        }
    }
}

/// The end of a recipient; closed for version 1 of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// A push service took it.
    Accepted,
    /// The push service said that the subscription is dead.
    Gone,
    /// Permanent, and not the subscription's end.
    Rejected,
    /// Its time ran out first.
    Expired,
    /// The attempts ran out.
    Failed,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 5] = [
        Self::Accepted,
        Self::Gone,
        Self::Rejected,
        Self::Expired,
        Self::Failed,
    ];

    /// Returns the word of results, routing keys, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Gone => "gone",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }
}

/// Why a recipient ended as it did: one closed set for every output (contract.md §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Taken.
    Accepted,
    /// Taken and dropped by the service (WNS).
    NotDelivered,
    /// 410: the user agent unsubscribed.
    Unsubscribed,
    /// 404: no such subscription.
    NotFound,
    /// The service says that the subscription expired.
    ExpiredSubscription,
    /// The browser itself replaced the endpoint by one that leads nowhere.
    RemovedByBrowser,
    /// The body is not an event.
    MalformedEvent,
    /// A version of the contract that this daemon does not speak.
    UnsupportedVersion,
    /// More bytes than an event may have.
    EventTooLarge,
    /// No such application is configured.
    UnknownApp,
    /// Keys or endpoint cannot be right.
    InvalidSubscription,
    /// `deliver_at` is too far ahead.
    InvalidSchedule,
    /// The guard refuses the endpoint's scheme, port, host or address.
    EndpointForbidden,
    /// More plaintext than fits, or than this service takes.
    PayloadTooLarge,
    /// The service finds fault with the request.
    BadRequest,
    /// The service redirects, which is never followed.
    Redirected,
    /// The subscription belongs to another application server key.
    KeyMismatch,
    /// The same endpoint twice in one event.
    DuplicateRecipient,
    /// The broker gave up on the event: it was delivered too often without being settled.
    Poison,
    /// Our own fault; the original is in quarantine.
    InternalError,
    /// `ttl` ran out.
    TtlElapsed,
    /// `expires_at` passed.
    ExpiresAtPassed,
    /// The producer's AMQP `expiration` passed in the broker.
    ProducerExpiration,
    /// The service asks to be left alone.
    Throttled,
    /// The service is in trouble.
    ServiceUnavailable,
    /// No answer in time.
    Timeout,
    /// The connection failed or broke.
    Network,
    /// The TLS handshake failed.
    Tls,
    /// The name has no address.
    Dns,
    /// The service finds fault with our VAPID token.
    VapidRejected,
}

impl Reason {
    /// Every reason, in the order of the contract's table.
    pub const ALL: [Self; 30] = [
        Self::Accepted,
        Self::NotDelivered,
        Self::Unsubscribed,
        Self::NotFound,
        Self::ExpiredSubscription,
        Self::RemovedByBrowser,
        Self::MalformedEvent,
        Self::UnsupportedVersion,
        Self::EventTooLarge,
        Self::UnknownApp,
        Self::InvalidSubscription,
        Self::InvalidSchedule,
        Self::EndpointForbidden,
        Self::PayloadTooLarge,
        Self::BadRequest,
        Self::Redirected,
        Self::KeyMismatch,
        Self::DuplicateRecipient,
        Self::Poison,
        Self::InternalError,
        Self::TtlElapsed,
        Self::ExpiresAtPassed,
        Self::ProducerExpiration,
        Self::Throttled,
        Self::ServiceUnavailable,
        Self::Timeout,
        Self::Network,
        Self::Tls,
        Self::Dns,
        Self::VapidRejected,
    ];

    /// Returns the word of results, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::NotDelivered => "not_delivered",
            Self::Unsubscribed => "unsubscribed",
            Self::NotFound => "not_found",
            Self::ExpiredSubscription => "expired_subscription",
            Self::RemovedByBrowser => "removed_by_browser",
            Self::MalformedEvent => "malformed_event",
            Self::UnsupportedVersion => "unsupported_version",
            Self::EventTooLarge => "event_too_large",
            Self::UnknownApp => "unknown_app",
            Self::InvalidSubscription => "invalid_subscription",
            Self::InvalidSchedule => "invalid_schedule",
            Self::EndpointForbidden => "endpoint_forbidden",
            Self::PayloadTooLarge => "payload_too_large",
            Self::BadRequest => "bad_request",
            Self::Redirected => "redirected",
            Self::KeyMismatch => "key_mismatch",
            Self::DuplicateRecipient => "duplicate_recipient",
            Self::Poison => "poison",
            Self::InternalError => "internal_error",
            Self::TtlElapsed => "ttl_elapsed",
            Self::ExpiresAtPassed => "expires_at_passed",
            Self::ProducerExpiration => "producer_expiration",
            Self::Throttled => "throttled",
            Self::ServiceUnavailable => "service_unavailable",
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::VapidRejected => "vapid_rejected",
        }
    }

    /// Returns the outcome under which the reason is published.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Accepted | Self::NotDelivered => Outcome::Accepted,
            Self::Unsubscribed
            | Self::NotFound
            | Self::ExpiredSubscription
            | Self::RemovedByBrowser => Outcome::Gone,
            Self::MalformedEvent
            | Self::UnsupportedVersion
            | Self::EventTooLarge
            | Self::UnknownApp
            | Self::InvalidSubscription
            | Self::InvalidSchedule
            | Self::EndpointForbidden
            | Self::PayloadTooLarge
            | Self::BadRequest
            | Self::Redirected
            | Self::KeyMismatch
            | Self::DuplicateRecipient
            | Self::Poison
            | Self::InternalError => Outcome::Rejected,
            Self::TtlElapsed | Self::ExpiresAtPassed | Self::ProducerExpiration => Outcome::Expired,
            Self::Throttled
            | Self::ServiceUnavailable
            | Self::Timeout
            | Self::Network
            | Self::Tls
            | Self::Dns
            | Self::VapidRejected => Outcome::Failed,
        }
    }
}

/// Why a recipient waits in the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Waiting {
    /// Its time has not come.
    Scheduled,
    /// Too many requests are under way; no attempt was used up.
    Busy,
    /// An attempt failed for this reason.
    Retry(Reason),
}

impl Waiting {
    /// Every reason to wait.
    pub const ALL: [Self; 9] = [
        Self::Scheduled,
        Self::Busy,
        Self::Retry(Reason::Throttled),
        Self::Retry(Reason::ServiceUnavailable),
        Self::Retry(Reason::Timeout),
        Self::Retry(Reason::Network),
        Self::Retry(Reason::Tls),
        Self::Retry(Reason::Dns),
        Self::Retry(Reason::VapidRejected),
    ];

    /// Finds the reason a header's word names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|waiting| waiting.name() == word)
    }

    /// Returns the word of headers, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Busy => "busy",
            Self::Retry(reason) => reason.name(),
        }
    }
}

/// The end of one recipient: what its result, its log line and its metrics say.
#[derive(Clone, Debug)]
pub struct Record {
    /// What became of it.
    pub reason: Reason,
    /// The status code of the last answer.
    pub status: Option<u16>,
    /// Tries that used one up.
    pub attempts: u32,
    /// HTTP requests, second tries at once included.
    pub requests: u32,
    /// Where the push service keeps the message.
    pub message_url: Option<Box<str>>,
    /// The name of the key that signed.
    pub vapid_key: Option<Name>,
    /// When the last request was sent.
    pub sent_at: Option<SystemTime>,
    /// When the outcome was known.
    pub settled_at: SystemTime,
    /// How long the last request took.
    pub elapsed: Option<Duration>,
    /// What was changed or ignored on the way.
    pub warnings: Vec<Warning>,
    /// For people: the push service's own words, or a sentence of ours.
    pub detail: Option<Box<str>>,
}

impl Record {
    /// Records an end that no request was made for.
    #[must_use]
    pub fn unsent(reason: Reason, settled_at: SystemTime, detail: impl Into<Box<str>>) -> Self {
        Self {
            reason,
            status: None,
            attempts: 0,
            requests: 0,
            message_url: None,
            vapid_key: None,
            sent_at: None,
            settled_at,
            elapsed: None,
            warnings: Vec::new(),
            detail: Some(detail.into()),
        }
    }

    /// Returns the outcome that goes with the reason.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.reason.outcome()
    }
}

/// Something that was changed or ignored, told in the result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// More than every push service takes.
    #[error("ttl_clamped: ttl {0} is above 2419200 seconds (28 days), which was sent instead")]
    TtlClamped(u64),
    /// A topic that some service would refuse.
    #[error(
        "topic_replaced: the topic must be 1 to 32 characters of A-Z a-z 0-9 - _ with a length \
         base64url can have; a hash of it was sent instead"
    )]
    TopicReplaced,
    /// A moment that has not come yet.
    #[error("created_at_in_future: created_at is ahead of this machine's clock; now was used")]
    CreatedInFuture,
    /// `content_encoding: aesgcm`, which the app does not allow.
    #[error("aes128gcm_used: content_encoding aesgcm is obsolete; aes128gcm was sent instead")]
    LegacyCoding,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let words: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
    }

    #[test]
    fn only_the_service_or_the_browser_end_a_subscription() {
        let gone: Vec<_> = Reason::ALL
            .iter()
            .filter(|reason| reason.outcome() == Outcome::Gone)
            .map(|reason| reason.name())
            .collect();
        assert_eq!(
            gone,
            [
                "unsubscribed",
                "not_found",
                "expired_subscription",
                "removed_by_browser"
            ]
        );
    }
}
