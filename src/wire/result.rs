//! The delivery result: what became of one recipient (contract.md §3).

use std::time::SystemTime;

use bytes::Bytes;

use super::event::EventRef;
use super::recipient::RecipientRef;
use crate::message::{EventId, Name};
use crate::outcome::{Outcome, Record};

/// Which delivery results are published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Results {
    /// One per recipient.
    #[default]
    All,
    /// All but `accepted`.
    Failures,
    /// None.
    None,
}

impl Results {
    /// Finds the choice a word names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "all" => Some(Self::All),
            "failures" => Some(Self::Failures),
            "none" => Some(Self::None),
            _ => None,
        }
    }

    /// Tells whether a result with this outcome is published.
    #[must_use]
    pub fn wants(self, outcome: Outcome) -> bool {
        match self {
            Self::All => true,
            Self::Failures => outcome != Outcome::Accepted,
            Self::None => false,
        }
    }
}

/// How results name endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointForm {
    /// In full.
    #[default]
    Full,
    /// By fingerprint alone.
    Fingerprint,
}

/// Writes the body of a delivery result.
///
/// An event that ends as a whole has the default recipient.
#[must_use]
pub fn body(
    _event: &EventRef<'_>,
    _created_at: Option<SystemTime>,
    _recipient: &RecipientRef<'_>,
    _record: &Record,
    _form: EndpointForm,
) -> Bytes {
    Bytes::new()
}

/// Returns the routing key `delivery.<app>.<outcome>.<label>`; `app` is the configured one, if any.
#[must_use]
pub fn routing_key(_app: Option<&Name>, _outcome: Outcome, _label: Option<&Name>) -> String {
    String::new()
}

/// Returns the AMQP `message_id`: equal for a repeat of this result, different for every other.
#[must_use]
pub fn message_id(_event: &EventId, _recipient: &RecipientRef<'_>, _record: &Record) -> String {
    String::new()
}
