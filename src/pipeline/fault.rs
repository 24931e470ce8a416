//! Why a message ends without an answer of a push service: the broker gave up on it, it cannot be read,
//! or this daemon failed on it.

use crate::broker::{DEPTH_LIMIT, Inbound, Source, Unreadable};
use crate::outcome::Reason;
use crate::wire::Kind;
use crate::wire::fault::Fault;
use crate::wire::headers::{Death, DeathCause};

/// Returns why an event is refused whatever its body is, if it is.
pub(super) fn refused(inbound: &Inbound) -> Option<Fault> {
    let unreadable = inbound.unreadable.map(not_readable);
    unreadable.or_else(|| given_up(inbound))
}

/// Describes what could not be read of a message, and what to change.
fn not_readable(unreadable: Unreadable) -> Fault {
    const TEXT: &str = "expected UTF-8, as AMQP does; write text in UTF-8, and bytes such as a \
                        UUID's in hexadecimal";
    match unreadable {
        Unreadable::Text(property) => Fault::malformed(format!("AMQP {property}"), TEXT),
        Unreadable::HeaderName => Fault::malformed("AMQP headers, a name", TEXT),
        Unreadable::Depth => Fault::malformed(
            "AMQP headers",
            format!("expected at most {DEPTH_LIMIT} levels of tables and arrays"),
        ),
        Unreadable::Size => Fault::malformed(
            "AMQP headers",
            "expected headers that fit a frame together with what the broker adds to them",
        ),
    }
}

/// Returns why the broker gave up on a message, if it did.
fn given_up(inbound: &Inbound) -> Option<Fault> {
    if inbound.source != Source::Undeliverable {
        return None;
    }
    let death = inbound
        .properties
        .headers()
        .as_ref()
        .map(Death::read)
        .unwrap_or_default();
    let (reason, sentence) = match death.cause {
        DeathCause::Expired => (
            Reason::ProducerExpiration,
            "the event expired in its lane before it was taken: its AMQP expiration passed, or the \
             message-ttl that a policy gives the queue; use expires_at in the event, and keep such \
             policies off the queues (rabbitmqctl list_policies)",
        ),
        DeathCause::DeliveryLimit | DeathCause::Other => (
            Reason::Poison,
            "the broker gave up on the event: it was delivered too often without being settled",
        ),
    };
    Some(Fault {
        reason,
        path: "".into(),
        expected: sentence.into(),
    })
}

/// What an AMQP `type` says of a message (examples/README.md, "The event").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageType {
    /// An event of version 1, or nothing.
    Event,
    /// Another message of pushrider, or an event of another version.
    Other,
    /// What a library calls its messages.
    Foreign,
}

impl MessageType {
    pub(super) fn of(inbound: &Inbound) -> Self {
        const OURS: &str = "webpush.";
        let kind = inbound.properties.kind().as_ref();
        match kind.map_or("", |kind| kind.as_str()) {
            "" => Self::Event,
            _ if inbound.unreadable.is_some() => Self::Event,
            kind if Some(kind) == Kind::Retry.message_type() => Self::Event,
            kind if kind.starts_with(OURS) => Self::Other,
            _ => Self::Foreign,
        }
    }
}

/// Describes a message of pushrider that is no event of version 1.
pub(super) fn other_type() -> Fault {
    Fault {
        reason: Reason::UnsupportedVersion,
        path: "".into(),
        expected: "the AMQP property type must be webpush.notification.v1, or absent".into(),
    }
}

pub(super) fn internal_error() -> Fault {
    let expected = "pushrider failed on this; the original is in the quarantine queue";
    Fault {
        reason: Reason::InternalError,
        path: "".into(),
        expected: expected.into(),
    }
}
