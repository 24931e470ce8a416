//! An end that is decided before any request is made.

use std::time::SystemTime;

use super::{Reason, Record};

/// An end without a request, of an event or of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// A sentence for people.
    pub detail: Box<str>,
}

impl Refusal {
    /// Refuses a recipient whose message another one of the event has been sent.
    #[must_use]
    pub fn repeated() -> Self {
        let detail = "the event has this endpoint more than once with the same payload; it is pushed \
                      to once";
        Self {
            reason: Reason::DuplicateRecipient,
            detail: detail.into(),
        }
    }

    /// Records the end.
    #[must_use]
    pub fn into_record(self, settled_at: SystemTime) -> Record {
        Record::unsent(self.reason, settled_at, self.detail)
    }
}
