//! The closed sets of the contract: how a recipient ends, and why (examples/README.md, "The result").

use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::words::words;

words!(Outcome, Reason, DeferralReason);

/// The end of a recipient; closed for version 1 of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// A push service took it.
    Accepted,
    /// The push service said that the subscription is dead.
    Gone,
    /// Permanent, and not the subscription's end.
    Rejected,
    /// Its time ran out first.
    Expired,
    /// Its producer took it back.
    Cancelled,
    /// The attempts ran out.
    Failed,
}

/// Why a recipient ended as it did: one closed set for every output (examples/README.md, "The result").
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    VariantArray,
    IntoStaticStr,
    EnumString,
)]
#[strum(serialize_all = "snake_case")]
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
    /// Its event was cancelled.
    Cancelled,
    /// Its subscription or its recipient is to be forgotten.
    Forgotten,
    /// The service asks to be left alone.
    Throttled,
    /// The service is down or overloaded.
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
    /// Returns the reason that a header's word names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        word.parse().ok()
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
            Self::Cancelled | Self::Forgotten => Outcome::Cancelled,
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
    /// It is not within the recipient's delivery hours.
    QuietHours,
    /// Too many requests are under way; no attempt was used up.
    Busy,
    /// An attempt failed for this reason.
    Retry(Reason),
}

impl Waiting {
    /// Every reason to wait.
    pub const ALL: [Self; 11] = [
        Self::Scheduled,
        Self::QuietHours,
        Self::Busy,
        Self::Retry(Reason::Throttled),
        Self::Retry(Reason::ServiceUnavailable),
        Self::Retry(Reason::Timeout),
        Self::Retry(Reason::Network),
        Self::Retry(Reason::Tls),
        Self::Retry(Reason::Dns),
        Self::Retry(Reason::VapidRejected),
        Self::Retry(Reason::KeyMismatch),
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
            Self::QuietHours => "quiet_hours",
            Self::Busy => "busy",
            Self::Retry(reason) => reason.name(),
        }
    }
}

/// Why a recipient was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum DeferralReason {
    /// There was no permit within the time to wait for one.
    Busy,
    /// The origin's breaker is open.
    BreakerOpen,
    /// The push service asked the origin, or the key at the origin, to pause.
    Paused,
    /// The rate of the key at the origin is used up.
    Rate,
}

impl DeferralReason {
    /// Returns the detail of a recipient that expires before it is admitted.
    #[must_use]
    pub fn outlasts(self) -> &'static str {
        match self {
            Self::Busy => "its time ran out while it waited for room to send",
            Self::BreakerOpen => {
                "its time runs out before the push service, which is down, is tried again"
            }
            Self::Paused => "its time runs out in the pause that the push service asked for",
            Self::Rate => "its time runs out before its turn at the rate that is configured",
        }
    }
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

    #[test]
    fn the_words_of_outcomes_and_deferrals_are_public_names() {
        let outcomes: Vec<_> = Outcome::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(
            outcomes,
            [
                "accepted",
                "gone",
                "rejected",
                "expired",
                "cancelled",
                "failed"
            ]
        );
        let deferrals: Vec<_> = DeferralReason::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(deferrals, ["busy", "breaker_open", "paused", "rate"]);
    }

    #[test]
    fn every_reason_to_wait_is_read_from_its_word() {
        for waiting in Waiting::ALL {
            assert_eq!(Waiting::parse(waiting.name()), Some(waiting));
        }
        for &reason in Reason::ALL {
            let is_listed = Waiting::ALL.contains(&Waiting::Retry(reason));
            assert_eq!(
                Waiting::parse(reason.name()).is_some(),
                is_listed,
                "{}",
                reason.name()
            );
        }
    }
}
