//! One attempt, its meaning, and the end of a recipient.
//!
//! Three steps, each its own type. An [`Attempt`] is what happened on the wire. A [`Verdict`] is
//! what that means (`classify`). An [`Outcome`] with its [`Reason`] is final and is published.

mod proxy_failure;
mod reason;
mod record;
mod refusal;
mod tls_fault;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use strum::{IntoStaticStr, VariantArray};

pub use self::proxy_failure::{ProxyFailure, ProxyFault};
pub use self::reason::{DeferralReason, Outcome, Reason, Waiting};
pub use self::record::{Record, Warning};
pub use self::refusal::Refusal;
pub use self::tls_fault::{TlsFailure, TlsFault};
use crate::words::words;

words!(Again, Scope, BreakerState, Meaning);

/// One exchange with a push service.
#[derive(Clone, Debug)]
pub enum Attempt {
    /// The service answered.
    Answered(Answer),
    /// No answer came.
    Failed(Failure),
}

/// What a push service answered. Headers and body may hold capability URLs, so `Debug` shows only the
/// status.
#[derive(Clone, derive_more::Debug)]
#[debug("Answer({})", status.as_u16())]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The response headers.
    pub headers: HeaderMap,
    /// The beginning of the body, at most 4 KiB.
    pub excerpt: Bytes,
}

/// Why no answer came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The deadline passed. The service may have taken the message.
    Timeout,
    /// The name has no address.
    Dns,
    /// Every address of the name is in a range that must not be pushed to.
    ForbiddenAddress,
    /// No connection could be made.
    Connect,
    /// The proxy made no connection.
    Proxy(ProxyFailure),
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls(TlsFailure),
    /// The connection broke. The service may have taken the message.
    Interrupted,
    /// The service did not process the request: `REFUSED_STREAM`, or a stream above the last one
    /// named by `GOAWAY` (RFC 9113 §8.7).
    NotProcessed,
    /// The answer is not HTTP, or broke a limit.
    Protocol,
}

/// What one attempt means.
///
/// It is complete without a second request: [`Verdict::again`] only says that one, at once and
/// within the same attempt, may fare better. What the second brings is a verdict of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to do about it.
    pub meaning: Meaning,
    /// Why, in one word of the closed set.
    pub reason: Reason,
    /// How long the service asked to be left alone, or how long it is wise to.
    pub after: Option<Duration>,
    /// What must pause besides this recipient, if anything.
    pub pause: Option<Scope>,
    /// Whether the whole origin may be down, which counts towards its breaker.
    pub down: bool,
    /// What a second request would change.
    pub again: Option<Again>,
    /// Whether the answer calls the subscription dead and needs a second such answer to count.
    pub unconfirmed: bool,
    /// Whether `classify` does not recognize the answer.
    pub unfamiliar: bool,
    /// The service's own words, for people.
    pub detail: Option<Box<str>>,
}

impl Verdict {
    /// Creates a verdict that concerns this recipient alone.
    #[must_use]
    pub const fn of(meaning: Meaning, reason: Reason) -> Self {
        Self {
            meaning,
            reason,
            after: None,
            pause: None,
            down: false,
            again: None,
            unconfirmed: false,
            unfamiliar: false,
            detail: None,
        }
    }

    /// Returns whether the subscription belongs to another key than the one that signed.
    #[must_use]
    pub fn is_key_mismatch(&self) -> bool {
        self.reason == Reason::KeyMismatch
    }

    /// Returns whether the service refuses the VAPID token.
    #[must_use]
    pub fn is_vapid_refusal(&self) -> bool {
        self.reason == Reason::VapidRejected
    }
}

/// What a second request changes (classify/README.md §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Again {
    /// Nothing: the service has certainly not seen the first (row 36).
    AsItWas,
    /// The connection: the server does not answer for the origin on the one that was used (421, RFC
    /// 9110 §15.5.20).
    NewConnection,
    /// The VAPID token: signed anew (rows 16 to 21).
    FreshToken,
    /// The VAPID key: the next one of the ring, until none is left (rows 11 to 14).
    AnotherKey,
    /// The `Topic`: left out, for the service refuses one that it should take (row 24).
    WithoutTopic,
    /// The `TTL`: at least 1 second (row 25).
    TtlOfOne,
    /// The content coding: `aesgcm` instead of `aes128gcm` or the other way round, where the
    /// subscription allows it (row 26).
    OtherCoding,
}

/// How far a pause reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Scope {
    /// All requests to the origin.
    Origin,
    /// The requests to the origin with the same VAPID key.
    Key,
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum BreakerState {
    /// Nothing is sent to the origin.
    Open,
    /// One request probes it.
    HalfOpen,
    /// Requests go out.
    Closed,
}

/// What to do about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
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
