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
            "the AMQP expiration passed before the event was taken; use expires_at in the event",
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

/// Returns why an AMQP `type` is refused, if it is not that of an event (examples/README.md, "The event").
pub(super) fn foreign_type(inbound: &Inbound) -> Option<Fault> {
    let ours = Kind::Retry.message_type();
    let theirs = inbound.properties.kind().as_ref()?.as_str();
    if theirs.is_empty() || Some(theirs) == ours || inbound.unreadable.is_some() {
        return None;
    }
    Some(Fault {
        reason: Reason::UnsupportedVersion,
        path: "".into(),
        expected: "the AMQP property type must be webpush.notification.v1, or absent".into(),
    })
}

pub(super) fn internal_error() -> Fault {
    let expected = "pushrider failed on this; the original is in the quarantine queue";
    Fault {
        reason: Reason::InternalError,
        path: "".into(),
        expected: expected.into(),
    }
}
