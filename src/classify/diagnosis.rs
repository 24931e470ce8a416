//! What a recognized answer means for the recipient.
//!
//! The modules of the services say what the service said. What follows from it is decided here, once for
//! every service.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::outcome::{Again, Meaning, Reason, Scope, Verdict};

use super::answer_view::AnswerView;
use super::context::Context;

/// A text that a service says with one of some statuses, and what it says by it.
pub(super) struct Marker(
    pub(super) &'static [u16],
    pub(super) &'static str,
    pub(super) Diagnosis,
);

impl Marker {
    /// Returns whether `status` is one that the text is said with; none listed means any.
    pub(super) fn goes_with(&self, status: u16) -> bool {
        self.0.is_empty() || self.0.contains(&status)
    }

    /// Returns the sign of the first marker that the body holds.
    pub(super) fn in_body(markers: &[Self], view: &AnswerView<'_>) -> Option<Diagnosis> {
        let found = |marker: &&Self| marker.goes_with(view.status) && view.holds(marker.1);
        markers.iter().find(found).map(|marker| marker.2)
    }
}

/// What a push service says by an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Diagnosis {
    /// The subscription is dead.
    Gone(Reason),
    /// The subscription was made with another key.
    KeyMismatch,
    /// The VAPID token has expired, or ends too late.
    TokenExpired,
    /// The VAPID token is at fault in some other way.
    TokenRefused,
    /// The VAPID key, or how it is sent, is at fault.
    KeyRefused,
    /// The endpoint may be at fault; services say so in error now and then.
    EndpointDoubted,
    /// The body is too large.
    TooLarge,
    /// The body is too large for the device behind the subscription.
    TooLargeForDevice,
    /// The `Topic` is at fault.
    TopicRefused,
    /// The `TTL` is at fault.
    TtlRefused,
    /// The content coding is at fault.
    CodingRefused,
    /// The request is at fault in some other way.
    BadRequest,
    /// The server wants credentials of its own.
    Guarded,
    /// Too many requests.
    Throttled(Throttle),
    /// The service is in trouble, all of it.
    Down,
    /// The server does not answer for the origin on this connection.
    Misdirected,
    /// Something behind the service is in trouble; others may fare better.
    PartlyDown,
    /// Taken by the service and dropped.
    NotDelivered,
    /// Taken by the service, and not said to have been received, in unknown words.
    PerhapsNotDelivered,
}

/// How a service throttles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Throttle {
    /// What must pause besides the recipient.
    pub(super) pause: Option<Scope>,
    /// How long it is left alone.
    pub(super) cooldown: Cooldown,
}

/// How long a service that throttles is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cooldown {
    /// As long as it asks for, else by backing off.
    AsAsked,
    /// As long as it asks for, and so long at least.
    AtLeast(Duration),
    /// As long as it asks for, else so long after the first attempt, twice as long after the next
    /// one and so on up to the cap.
    Doubling { first: Duration, cap: Duration },
}

impl Cooldown {
    /// Returns how long, after the `attempt`th attempt was answered.
    pub(super) fn after(self, retry_after: Option<Duration>, attempt: u32) -> Option<Duration> {
        match self {
            Self::AsAsked => retry_after,
            Self::AtLeast(least) => retry_after.max(Some(least)),
            Self::Doubling { first, cap } => retry_after
                .or_else(|| Some(Backoff::new(first, cap).wait(attempt.saturating_sub(1)))),
        }
    }
}

/// The age from which a token that is refused may be signed anew: Apple minds more than one an
/// hour (classify/README.md §1.3), and one that others have refused is refused again.
const TOKEN_RENEWABLE: Duration = Duration::from_secs(3600);

/// How long an endpoint in doubt is left to settle.
const DOUBT_SETTLES: Duration = Duration::from_secs(1200);

/// How often a doubt must be raised to be believed: three retries over an hour.
const DOUBT_BELIEVED: u32 = 4;

/// How long after the first a doubt is believed that several messages met.
const DOUBT_LASTS: Duration = Duration::from_secs(3600);

impl Diagnosis {
    /// Returns what the diagnosis means for the recipient; `retry_after` is the wait that the service
    /// asked for.
    pub(super) fn verdict(self, context: Context, retry_after: Option<Duration>) -> Verdict {
        match self {
            Self::Gone(reason) => Verdict::of(Meaning::Gone, reason),
            Self::KeyMismatch => Verdict {
                again: offered(Again::AnotherKey, context.tried),
                ..Verdict::of(Meaning::Rejected, Reason::KeyMismatch)
            },
            Self::TokenExpired => token_expired(context, retry_after),
            Self::TokenRefused if context.token_untimely => token_expired(context, retry_after),
            Self::TokenRefused if context.token_age < TOKEN_RENEWABLE => vapid_fault(retry_after),
            Self::TokenRefused => token_expired(context, retry_after),
            Self::KeyRefused => vapid_fault(retry_after),
            Self::EndpointDoubted => doubted(context, retry_after),
            Self::TooLarge => too_large(context),
            Self::TooLargeForDevice => too_large_for_device(context),
            Self::TopicRefused => refused(Again::WithoutTopic, context),
            Self::TtlRefused => refused(Again::TtlOfOne, context),
            Self::CodingRefused => refused(Again::OtherCoding, context),
            Self::BadRequest => Verdict::of(Meaning::Rejected, Reason::BadRequest),
            Self::Guarded => guarded(context),
            Self::Throttled(throttle) => throttled(throttle, context, retry_after),
            Self::Down => unavailable(true, retry_after),
            Self::Misdirected => Verdict {
                again: offered(Again::NewConnection, context.tried),
                ..unavailable(false, retry_after)
            },
            Self::PartlyDown => unavailable(false, retry_after),
            Self::NotDelivered => Verdict::of(Meaning::Accepted, Reason::NotDelivered),
            Self::PerhapsNotDelivered => Verdict {
                unfamiliar: true,
                ..Verdict::of(Meaning::Accepted, Reason::NotDelivered)
            },
        }
    }
}

/// Offers a second request that makes `change`, if that has not been tried.
///
/// A second request is the last, so that no answer keeps us asking; but keys are tried until the
/// ring is through, each like the first, and a request that was not processed does not count.
pub(super) fn offered(change: Again, tried: Option<Again>) -> Option<Again> {
    let may = match tried {
        None | Some(Again::AnotherKey) => true,
        Some(Again::AsItWas) => change != Again::AsItWas,
        Some(Again::NewConnection) => !matches!(change, Again::AsItWas | Again::NewConnection),
        Some(Again::FreshToken | Again::WithoutTopic | Again::TtlOfOne | Again::OtherCoding) => {
            change == Again::AnotherKey
        }
    };
    may.then_some(change)
}

/// A fresh token may do; one that was signed just now and is refused too is a fault of the key, of
/// the subject, of our clock, or of the endpoint.
fn token_expired(context: Context, retry_after: Option<Duration>) -> Verdict {
    if context.tried == Some(Again::FreshToken) {
        return vapid_fault(retry_after);
    }
    Verdict {
        after: retry_after,
        again: offered(Again::FreshToken, context.tried),
        ..Verdict::of(Meaning::Retryable, Reason::VapidRejected)
    }
}

/// Whether the key or the endpoint is at fault does not show by one answer (`mismatch`).
fn vapid_fault(retry_after: Option<Duration>) -> Verdict {
    Verdict {
        after: retry_after,
        ..Verdict::of(Meaning::Retryable, Reason::VapidRejected)
    }
}

fn doubted(context: Context, retry_after: Option<Duration>) -> Verdict {
    let in_this_message = context.last_status == Some(403) && context.attempt >= DOUBT_BELIEVED;
    let in_earlier_ones = context
        .earlier_answers
        .is_some_and(|word| word.times >= DOUBT_BELIEVED - 1 && word.age >= DOUBT_LASTS);
    if in_this_message || in_earlier_ones {
        return Verdict::of(Meaning::Gone, Reason::NotFound);
    }
    Verdict {
        after: retry_after.max(Some(DOUBT_SETTLES)),
        unconfirmed: true,
        ..Verdict::of(Meaning::Retryable, Reason::ServiceUnavailable)
    }
}

fn too_large(context: Context) -> Verdict {
    let detail = format!("the request's body had {} bytes", context.body_len);
    Verdict {
        detail: Some(detail.into()),
        ..Verdict::of(Meaning::Rejected, Reason::PayloadTooLarge)
    }
}

/// Firefox on Android is behind a bridge whose own messages hold 4096 bytes of JSON
/// (classify/README.md §1.1).
fn too_large_for_device(context: Context) -> Verdict {
    let detail = format!(
        "the request's body had {} bytes; a payload of at most 2744 reaches every device: \
         apps.<app>.payload_limits = {{ mozilla = \"2744B\" }}",
        context.body_len
    );
    Verdict {
        detail: Some(detail.into()),
        ..Verdict::of(Meaning::Rejected, Reason::PayloadTooLarge)
    }
}

fn refused(change: Again, context: Context) -> Verdict {
    Verdict {
        again: offered(change, context.tried),
        ..Verdict::of(Meaning::Rejected, Reason::BadRequest)
    }
}

/// A server that checks tokens and says so in words of its own cannot be distinguished from one that wants
/// credentials, unless its clock shows that the token cannot be good there.
fn guarded(context: Context) -> Verdict {
    let fresh = || offered(Again::FreshToken, context.tried);
    Verdict {
        again: context.token_untimely.then(fresh).flatten(),
        detail: Some("the server lets us in only with credentials of its own".into()),
        ..Verdict::of(Meaning::Rejected, Reason::BadRequest)
    }
}

fn throttled(throttle: Throttle, context: Context, retry_after: Option<Duration>) -> Verdict {
    Verdict {
        after: throttle.cooldown.after(retry_after, context.attempt),
        pause: throttle.pause,
        ..Verdict::of(Meaning::Retryable, Reason::Throttled)
    }
}

fn unavailable(down: bool, after: Option<Duration>) -> Verdict {
    Verdict {
        after,
        down,
        ..Verdict::of(Meaning::Retryable, Reason::ServiceUnavailable)
    }
}
