//! Who an event is for: one `subscription`, or many `recipients`.

use serde_json::value::RawValue;

use super::fault::{Fault, Faults};
use super::json::List;

/// The most recipients an event may have.
pub const RECIPIENT_LIMIT: usize = 10_000;

/// Who an event is for.
pub(super) enum Audience<'a> {
    /// `subscription`, with `recipient_id`.
    One {
        subscription: &'a RawValue,
        id: Option<&'a RawValue>,
    },
    /// `recipients`: the text of each.
    Many(Vec<&'a RawValue>),
}

impl<'a> Audience<'a> {
    /// Reads the recipients of an event; none if that cannot be read.
    pub(super) fn read(
        subscription: Option<&'a RawValue>,
        id: Option<&'a RawValue>,
        recipients: Option<&'a RawValue>,
        faults: &mut Faults,
    ) -> Self {
        let found = match (subscription, recipients) {
            (Some(subscription), None) => return Self::One { subscription, id },
            (None, Some(list)) => {
                if id.is_some() {
                    faults.note(Fault::malformed(
                        "recipient_id",
                        "goes with `subscription`; each of `recipients` has an `id` of its own",
                    ));
                }
                let recipients = faults.read("recipients", Some(list), recipients_of);
                return Self::Many(recipients.unwrap_or_default());
            }
            (Some(_), Some(_)) => "both",
            (None, None) => "neither",
        };
        faults.note(Fault::malformed(
            "",
            format!("expected either `subscription` or `recipients`; got {found}"),
        ));
        Self::Many(Vec::new())
    }
}

fn recipients_of<'a>(path: &'static str, raw: &'a RawValue) -> Result<Vec<&'a RawValue>, Fault> {
    let expected = || format!("an array of 1 to {RECIPIENT_LIMIT} objects");
    let Some(list) = List::of(raw, RECIPIENT_LIMIT) else {
        return Err(Fault::kind(path, &expected(), raw));
    };
    if (1..=RECIPIENT_LIMIT).contains(&list.count) {
        return Ok(list.elements);
    }
    let sentence = format!("expected {}; got {} of them", expected(), list.count);
    Err(Fault::malformed(path, sentence))
}
