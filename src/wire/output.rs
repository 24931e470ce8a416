//! What the outputs have in common: times, recipients, names that repeat with what they name.

use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::recipient::RecipientRef;
use crate::app::EndpointForm;
use crate::message::Name;
use crate::subscription::hex;

/// A time as RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(pub(super) SystemTime);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Timestamp::try_from(self.0) {
            Ok(time) => serializer.collect_str(&format_args!("{time:.3}")),
            // Beyond the year 9999 there is no RFC 3339.
            Err(_) => serializer.serialize_none(),
        }
    }
}

/// The member `recipient`.
#[derive(Serialize)]
pub(super) struct RecipientMember<'a> {
    id: Option<&'a RawValue>,
    endpoint: Option<&'a str>,
    fingerprint: Option<String>,
    metadata: Option<&'a RawValue>,
}

impl<'a> RecipientMember<'a> {
    pub(super) fn of(recipient: &'a RecipientRef<'_>, form: EndpointForm) -> Self {
        Self {
            id: recipient.id,
            endpoint: match form {
                EndpointForm::Full => recipient.endpoint.as_deref(),
                EndpointForm::Fingerprint => None,
            },
            fingerprint: recipient.fingerprint.map(|it| it.to_hex()),
            metadata: recipient.metadata.as_deref(),
        }
    }
}

/// Returns the word for an application in routing keys: any that is not configured is `_unknown`.
pub(super) fn app_word(app: Option<&Name>) -> &str {
    app.map_or("_unknown", Name::as_str)
}

/// Returns the word for a label in routing keys and results.
pub(super) fn label_word(label: Option<&Name>) -> &str {
    label.map_or("_", Name::as_str)
}

/// Names a publication after what it is about: equal for equal parts.
pub(super) fn message_id(parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    hex(&context.finish().as_ref()[..16])
}

/// Writes an output, in no more memory than it needs: many may wait for the broker.
pub(super) fn write(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value)
        .expect("texts, numbers and JSON that was read before can be written")
        .into_boxed_slice()
        .into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_have_milliseconds_and_no_offset() {
        for (millis, text) in [
            (0, "\"1970-01-01T00:00:00.000Z\""),
            (1_700_000_000_250, "\"2023-11-14T22:13:20.250Z\""),
            (u64::MAX / 2000, "null"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(write(&Time(time)), text);
        }
    }

    #[test]
    fn message_ids_repeat_only_with_their_parts() {
        assert_eq!(message_id(&[b"a", b"bc"]), message_id(&[b"a", b"bc"]));
        assert_ne!(message_id(&[b"a", b"bc"]), message_id(&[b"ab", b"c"]));
        assert_eq!(message_id(&[]).len(), 32);
    }
}
