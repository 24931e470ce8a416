//! Ends that are nobody's answer: what the broker gave up on, what is too large, our own faults.

use crate::broker::{DEPTH_LIMIT, Inbound, Source, Unreadable};
use crate::outcome::Reason;
use crate::wire::Kind;
use crate::wire::fault::Fault;
use crate::wire::headers::{Death, DeathCause};

/// Says why an event is refused, however good its body is.
pub(super) fn refused(inbound: &Inbound) -> Option<Fault> {
    let unreadable = inbound.unreadable.map(not_readable);
    unreadable.or_else(|| given_up(inbound))
}

/// Names what could not be read of a message, and the mend.
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

/// Says why the broker gave up on a message, if it did.
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

/// Refuses an AMQP `type` that is not an event's (examples/README.md, "The event").
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
