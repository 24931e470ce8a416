//! What is wrong with a message: where, and what was expected there.

use std::borrow::Cow;
use std::fmt;

use crate::outcome::Reason;

/// One fault of an event or of a recipient: a place and a sentence.
///
/// `Display` is the `detail` of the result: `ttl: expected …`. Neither part repeats a value that
/// may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The reason of the result.
    pub reason: Reason,
    /// Where, as a JSON path such as `recipients[3].subscription.keys.p256dh`; empty for the whole
    /// body.
    pub path: Cow<'static, str>,
    /// What was expected there, and what was found.
    pub expected: Cow<'static, str>,
}

impl Fault {
    /// Notes a fault of our own part of an event.
    #[must_use]
    pub fn malformed(
        path: impl Into<Cow<'static, str>>,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            reason: Reason::MalformedEvent,
            path: path.into(),
            expected: expected.into(),
        }
    }

    /// Puts the fault below a place of the enclosing value.
    #[must_use]
    pub(super) fn under(mut self, place: &str) -> Self {
        self.path = match &*self.path {
            "" => place.to_owned().into(),
            path => format!("{place}.{path}").into(),
        };
        self
    }

    /// Gives the fault another reason.
    #[must_use]
    pub(super) fn because(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.path {
            "" => f.write_str(&self.expected),
            path => write!(f, "{path}: {}", self.expected),
        }
    }
}
