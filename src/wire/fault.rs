//! What is wrong with a message: where, and what was expected there.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use super::json::{self, Object};
use crate::outcome::Reason;
use crate::words::nearest;

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
    /// Records a fault of our own part of an event.
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

    /// Records that a value is of another kind than `expected`.
    pub(super) fn kind(path: impl Into<Cow<'static, str>>, expected: &str, raw: &RawValue) -> Self {
        Self::malformed(
            path,
            format!("expected {expected}; got {}", json::kind(raw)),
        )
    }

    /// Records an unknown member, and the known one that was probably meant.
    pub(super) fn unknown(name: &str, known: &[&'static str]) -> Self {
        let name = Some(name).filter(|name| is_plain(name));
        let hint = match name.and_then(|name| meant(name, known)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected one of {}", known.join(", ")),
        };
        Self::malformed(
            name.unwrap_or_default().to_owned(),
            format!("unknown member; {hint}"),
        )
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

/// The first fault of several readings, so that the rest can be read all the same.
#[derive(Default)]
pub(super) struct Faults(Option<Fault>);

impl Faults {
    /// Records a fault unless there is one already.
    pub(super) fn note(&mut self, fault: Fault) {
        self.0.get_or_insert(fault);
    }

    /// Records the members of an object that are unknown or come twice.
    pub(super) fn note_unknown<const N: usize>(
        &mut self,
        object: &Object<'_, N>,
        known: &[&'static str; N],
    ) {
        if let Some(name) = &object.unknown {
            self.note(Fault::unknown(name, known));
        }
        if let Some(name) = object.twice {
            self.note(Fault::malformed(name, "expected once; it is there twice"));
        }
    }

    /// Returns the first fault.
    pub(super) fn first(self) -> Option<Fault> {
        self.0
    }

    /// Reads a member if it is there.
    pub(super) fn read<'a, T>(
        &mut self,
        path: &'static str,
        raw: Option<&'a RawValue>,
        reader: impl FnOnce(&'static str, &'a RawValue) -> Result<T, Fault>,
    ) -> Option<T> {
        reader(path, raw?).map_err(|fault| self.note(fault)).ok()
    }
}

/// Returns whether a name is worth repeating: short, and no place for a secret.
fn is_plain(name: &str) -> bool {
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=32).contains(&name.len()) && name.bytes().all(alphabet)
}

/// What other libraries of the field call our members.
const ALIASES: [(&str, &str); 20] = [
    ("body", "payload"),
    ("data", "payload"),
    ("message", "payload"),
    ("content", "payload"),
    ("text", "payload"),
    ("title", "notification"),
    ("icon", "notification"),
    ("url", "navigate"),
    ("subscriptions", "recipients"),
    ("endpoint", "subscription"),
    ("keys", "subscription"),
    ("p256dh", "subscription"),
    ("auth", "subscription"),
    ("push_subscription", "subscription"),
    ("pushsubscription", "subscription"),
    ("application", "app"),
    ("send_at", "deliver_at"),
    ("quiet_hours", "deliver_between"),
    ("send_window", "deliver_between"),
    ("campaign", "group"),
];

/// Finds the member that was probably meant.
fn meant(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let folded = name.to_ascii_lowercase().replace('-', "_");
    let alias = ALIASES.iter().find(|(alias, _)| *alias == folded);
    if let Some((_, member)) = alias
        && known.contains(member)
    {
        return Some(member);
    }
    nearest(&folded, known.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 7] = [
        "id",
        "ttl",
        "payload",
        "created_at",
        "payload_base64",
        "subscription",
        "notification",
    ];

    #[test]
    fn a_misspelt_member_is_told_what_was_meant() {
        for (name, meant) in [
            ("tll", "ttl"),
            ("TTL", "ttl"),
            ("createdAt", "created_at"),
            ("created-at", "created_at"),
            ("payloadBase64", "payload_base64"),
            ("paylod", "payload"),
            ("data", "payload"),
            ("title", "notification"),
            ("endpoint", "subscription"),
            ("Endpoint", "subscription"),
            ("p256dh", "subscription"),
            ("pushSubscription", "subscription"),
        ] {
            let fault = Fault::unknown(name, &KNOWN);
            assert_eq!(fault.path, name);
            assert_eq!(
                fault.expected,
                format!("unknown member; did you mean `{meant}`?")
            );
        }
        assert_eq!(
            Fault::unknown("colour", &KNOWN).to_string(),
            "colour: unknown member; expected one of id, ttl, payload, created_at, payload_base64, \
             subscription, notification"
        );
    }

    #[test]
    fn a_member_that_may_be_a_secret_is_not_repeated() {
        for name in ["https://push.example.net/x", "", &"x".repeat(33), "a b"] {
            let fault = Fault::unknown(name, &KNOWN);
            assert!(
                fault
                    .to_string()
                    .starts_with("unknown member; expected one of id"),
                "{fault}"
            );
        }
    }

    #[test]
    fn paths_grow_from_the_inside() {
        let fault = Fault::malformed("auth", "expected x");
        assert_eq!(
            fault.clone().under("keys").under("subscription").path,
            "subscription.keys.auth"
        );
        assert_eq!(
            Fault::malformed("", "x").under("recipients[3]").path,
            "recipients[3]"
        );
        assert_eq!(fault.to_string(), "auth: expected x");
    }
}
