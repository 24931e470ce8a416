//! The subscription event: what an application does to its table of subscriptions (contract.md §4).

use bytes::Bytes;

use super::event::EventRef;
use super::recipient::RecipientRef;
use super::result::EndpointForm;
use crate::message::{EventId, Name};
use crate::outcome::{Reason, Record};

/// What happened to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is dead: delete it.
    Gone,
    /// It belongs to an application server key that is not held here: subscribe it again.
    KeyMismatch,
}

impl Change {
    /// Returns what a reason says of the subscription; `None` if nothing.
    #[must_use]
    pub fn of(_reason: Reason) -> Option<Self> {
        None
    }

    /// Returns the word of the event and of its routing key.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::KeyMismatch => "key_mismatch",
        }
    }
}

/// Writes the body of a subscription event.
#[must_use]
pub fn body(
    _change: Change,
    _event: &EventRef<'_>,
    _recipient: &RecipientRef<'_>,
    _record: &Record,
    _form: EndpointForm,
) -> Bytes {
    Bytes::new()
}

/// Returns the routing key `subscription.<app>.<change>`.
#[must_use]
pub fn routing_key(_app: &Name, _change: Change) -> String {
    String::new()
}

/// Returns the AMQP `message_id`, equal for a repeat.
#[must_use]
pub fn message_id(_event: &EventId, _recipient: &RecipientRef<'_>, _change: Change) -> String {
    String::new()
}
