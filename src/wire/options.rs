//! What may be said for a whole event, and otherwise for one recipient (examples/README.md, "The event").

use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::delivery_hours::delivery_hours;
use super::fault::{Fault, Faults};
use super::json;
use super::member;
use super::notification::notification;
use crate::delivery_hours::DeliveryHours;
use crate::message::{Coding, Name, Topic};

/// The members that say what is sent, of which there is one at most.
const CONTENT: [&str; 3] = ["payload", "payload_base64", "notification"];

/// What is pushed and how, as far as an event or a recipient says.
#[derive(Clone, Default)]
pub struct PushOptions {
    /// The plaintext; `None` pushes without a body.
    pub payload: Option<Bytes>,
    /// Which undelivered message it replaces.
    pub topic: Option<Topic>,
    /// Whether the topic stands in for one that some service would refuse.
    pub topic_replaced: bool,
    /// The key that is to sign.
    pub vapid_key: Option<Name>,
    /// The coding that is asked for.
    pub coding: Option<Coding>,
    /// When it may be pushed.
    pub hours: Option<DeliveryHours>,
}

impl PushOptions {
    /// Reads `payload`, `payload_base64`, `notification`, `topic`, `vapid_key`, `content_encoding` and
    /// `deliver_between`, which all stand in `body`.
    pub(super) fn read(
        body: &Bytes,
        [content @ .., topic, vapid_key, coding, hours]: [Option<&RawValue>; 7],
        faults: &mut Faults,
    ) -> Self {
        let (topic, topic_replaced) = faults.read("topic", topic, member::topic).flatten().unzip();
        Self {
            payload: payload_of(body, content, faults),
            topic,
            topic_replaced: topic_replaced.unwrap_or_default(),
            vapid_key: faults.read("vapid_key", vapid_key, member::name),
            coding: faults.read("content_encoding", coding, member::coding),
            hours: faults.read("deliver_between", hours, delivery_hours),
        }
    }

    /// Fills in what is not said here with what is said there.
    pub(super) fn or(self, event: &Self) -> Self {
        let topic_replaced = match self.topic {
            Some(_) => self.topic_replaced,
            None => event.topic_replaced,
        };
        Self {
            payload: self.payload.or_else(|| event.payload.clone()),
            topic: self.topic.or_else(|| event.topic.clone()),
            topic_replaced,
            vapid_key: self.vapid_key.or_else(|| event.vapid_key.clone()),
            coding: self.coding.or(event.coding),
            hours: self.hours.or_else(|| event.hours.clone()),
        }
    }
}

/// Reads the plaintext from the one of its members that is there.
fn payload_of(
    body: &Bytes,
    [payload, payload_base64, notified]: [Option<&RawValue>; 3],
    faults: &mut Faults,
) -> Option<Bytes> {
    let [text, binary, shown] = CONTENT;
    let present = [(text, payload), (binary, payload_base64), (shown, notified)];
    let mut present = present.iter().filter(|(_, raw)| raw.is_some());
    if let (Some((first, _)), Some((second, _))) = (present.next(), present.next()) {
        let sentence = format!("expected either `{first}` or `{second}`; got both");
        faults.note(Fault::malformed(*second, sentence));
    }
    faults
        .read(text, payload, |path, raw| member::payload(body, path, raw))
        .or_else(|| faults.read(binary, payload_base64, member::payload_base64))
        .or_else(|| faults.read(shown, notified, notification))
}

/// Describes a payload of more than `limit` bytes; `most` says what the limit is. Many JSON libraries
/// escape all but ASCII unless they are told not to, which makes Cyrillic text three times as long.
#[must_use]
pub fn too_long(payload: &[u8], limit: usize, most: &str) -> String {
    let length = payload.len();
    let sentence = format!("the payload is {length} bytes long; {most}");
    let without_escapes = json::len_without_escapes(payload);
    if without_escapes == length || without_escapes > limit {
        return sentence;
    }
    format!(
        "{sentence}; without its \\u escapes it has {without_escapes}: write characters as UTF-8 \
         (ensure_ascii=False in Python, JSON_UNESCAPED_UNICODE in PHP)"
    )
}

/// Shows no payload.
impl fmt::Debug for PushOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushOptions")
            .field("payload", &self.payload.as_ref().map(Bytes::len))
            .field("topic", &self.topic)
            .field("vapid_key", &self.vapid_key)
            .field("coding", &self.coding)
            .finish_non_exhaustive()
    }
}
