//! The end of one recipient, told in full.

use std::time::{Duration, SystemTime};

use crate::message::Name;

use super::{Again, Outcome, Reason};

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
    /// An endpoint that is not given as it is sent; shows the origin that it is sent to.
    #[error(
        "endpoint_normalized: scheme, host, port and empty path of the endpoint were brought into the \
         normal form, and white space around it was cut off ({0}); a table that holds both spellings \
         holds one subscription twice"
    )]
    EndpointNormalized(Box<str>),
    /// A moment that has not come yet.
    #[error("created_at_in_future: created_at is ahead of this machine's clock; now was used")]
    CreatedInFuture,
    /// An AMQP `type` that is none of ours.
    #[error(
        "foreign_type: the AMQP property type is not webpush.notification.v1; the message was read \
         as an event all the same"
    )]
    ForeignType,
    /// No id at all.
    #[error(
        "derived_id: the event has no id; one was derived from its body and timestamp, so equal events \
         share it"
    )]
    DerivedId,
    /// A routing key that names another application than the event does; shows that other one.
    #[error(
        "routing_key_mismatch: the routing key names the application {0}; the event is for the one \
         that it names in `app`"
    )]
    RoutingKeyMismatch(Name),
    /// `content_encoding: aesgcm`, which the app does not allow or the push service does not take.
    #[error(
        "aes128gcm_used: content_encoding aesgcm is obsolete; aes128gcm was sent instead, which \
         every browser of today reads (apps.<app>.aesgcm = true sends aesgcm to push services \
         that take it)"
    )]
    LegacyCoding,
    /// A declarative message that no user agent takes for one; says what is wrong.
    #[error(
        "declarative_invalid: {0}; user agents hand the payload to the service worker instead of \
         showing it themselves"
    )]
    NotDeclarative(Box<str>),
    /// A member of a declarative message that user agents ignore; says what is wrong.
    #[error("declarative_ignored: {0}; user agents ignore this member")]
    DeclarativeMember(Box<str>),
    /// The first request was refused for something that a second one, at once, left out or mended.
    #[error(
        "second_request: the push service refused the first request; a second one, sent at once, \
         differs in this: {}", .0.name()
    )]
    SecondRequest(Again),
}
