//! Copies of an event: it is written again with some of its recipients.
//!
//! What a copy repeats for each part of the recipients has a bound, or an event would become many times its
//! size.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Event, MEMBERS, RECIPIENTS, SCHEMA};
use crate::message::PLAINTEXT_LIMIT;
use crate::outcome::Reason;
use crate::wire::audience::Audience;
use crate::wire::fault::Fault;
use crate::wire::options;

/// The most bytes of JSON that the payload of many recipients may take: room for the largest
/// plaintext with each byte written as an escape.
const PAYLOAD_TEXT_LIMIT: usize = 32 << 10;

/// The most bytes of JSON that the topic of many recipients may take.
const TOPIC_TEXT_LIMIT: usize = 1 << 10;

/// The members that are sent, or decide what a message replaces.
const CONTENT: [&str; 4] = ["payload", "payload_base64", "notification", "topic"];

impl<'a> Event<'a> {
    /// Finds content that is too large to be repeated for many recipients; `None` for an event of
    /// one.
    #[must_use]
    pub fn oversized(&self) -> Option<Fault> {
        if !self.is_fan_out() {
            return None;
        }
        let payload = self.options.payload.as_deref().unwrap_or_default();
        if payload.len() > PLAINTEXT_LIMIT {
            let most = format!("at most {PLAINTEXT_LIMIT} fit");
            let sentence = options::too_long(payload, PLAINTEXT_LIMIT, &most);
            return Some(Fault::malformed("", sentence).because(Reason::PayloadTooLarge));
        }
        let [payload, payload_base64, notification, topic] =
            CONTENT.map(|name| self.text_len(name));
        let length = payload.max(payload_base64).max(notification);
        if length > PAYLOAD_TEXT_LIMIT {
            let sentence = format!(
                "the payload takes {length} bytes of JSON; at most {PAYLOAD_TEXT_LIMIT} are read"
            );
            return Some(Fault::malformed("", sentence).because(Reason::PayloadTooLarge));
        }
        (topic > TOPIC_TEXT_LIMIT).then(|| {
            let expected = format!("expected at most {TOPIC_TEXT_LIMIT} bytes; got {topic}");
            Fault::malformed("topic", expected)
        })
    }

    /// Removes what is sent, so that neither the event nor a copy of it has a payload or a topic.
    #[must_use]
    pub fn without_content(mut self) -> Self {
        for (name, text) in MEMBERS.iter().zip(&mut self.members) {
            if CONTENT.contains(name) {
                *text = None;
            }
        }
        self.options.payload = None;
        self.options.topic = None;
        self
    }

    /// Returns how many bytes [`Event::subset`] writes besides the recipients.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        let members = self.frame().map(|(name, text)| name.len() + text.len() + 4);
        RECIPIENTS.len() + 7 + members.sum::<usize>()
    }

    /// Writes the event again with only the recipients at `indices` of this body. Every value keeps
    /// its bytes; white space between members, `$schema`, and members that are `null`, are left out.
    /// An event of one `subscription` comes back whole.
    #[must_use]
    pub fn subset(&self, indices: &[usize]) -> Bytes {
        let Audience::Many(recipients) = &self.audience else {
            return self.body.clone();
        };
        let chosen = || indices.iter().filter_map(|index| recipients.get(*index));
        let length: usize = chosen().map(|recipient| recipient.get().len() + 1).sum();
        let mut body = BytesMut::with_capacity(self.frame_len() + length);
        body.put_u8(b'{');
        for (name, text) in self.frame() {
            for piece in ["\"", name, "\":", text, ","] {
                body.put_slice(piece.as_bytes());
            }
        }
        for piece in ["\"", RECIPIENTS, "\":["] {
            body.put_slice(piece.as_bytes());
        }
        for (position, recipient) in chosen().enumerate() {
            if position > 0 {
                body.put_u8(b',');
            }
            body.put_slice(recipient.get().as_bytes());
        }
        body.put_slice(b"]}");
        body.freeze()
    }

    /// Walks through what every subset repeats: the name and the text of each member but the
    /// recipients and the schema.
    fn frame(&self) -> impl Iterator<Item = (&'static str, &'a str)> + '_ {
        let members = MEMBERS.into_iter().zip(self.members);
        members
            .filter(|(name, _)| ![SCHEMA, RECIPIENTS].contains(name))
            .filter_map(|(name, text)| Some((name, text?.get())))
    }

    fn text_len(&self, member: &str) -> usize {
        let mut frame = self.frame();
        let found = frame.find(|(name, _)| *name == member);
        found.map_or(0, |(_, text)| text.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::event::decode;
    use crate::wire::event::tests::{SUBSCRIPTION, decoded};
    use crate::wire::recipient::RecipientRef;

    #[test]
    fn a_subset_keeps_the_bytes_of_every_value_and_nothing_between_them() {
        let event = decoded(
            r#"{ "id":"a" , "recipients" : [ {"id":0}, {"id":1} ,{"id":2}], "topic":null, "payload": [1, 2] }"#,
        );
        let subset = event.subset(&[0, 2]);
        assert_eq!(
            subset,
            r#"{"id":"a","payload":[1, 2],"recipients":[{"id":0},{"id":2}]}"#
        );
        let listed = r#"{"id":0},{"id":2}"#.len();
        assert_eq!(event.frame_len(), subset.len() - listed);
        assert_eq!(
            event.without_content().subset(&[1]),
            r#"{"id":"a","recipients":[{"id":1}]}"#
        );
        let single = format!("{{{SUBSCRIPTION}}} ");
        assert_eq!(decoded(&single).subset(&[0]), single);
    }

    #[test]
    fn content_for_many_is_measured_at_the_edge() {
        let oversized =
            |members: &str| decoded(&format!(r#"{{"recipients":[{{}}],{members}}}"#)).oversized();
        let payload = |length: usize| format!(r#""payload":"{}""#, "x".repeat(length));
        let topic = |length: usize| format!(r#""topic":"{}""#, "x".repeat(length - 2));
        let base64 = |length: usize| format!(r#""payload_base64":"aGk{}""#, "=".repeat(length - 5));
        for fine in [payload(3993), topic(1024), base64(32 << 10)] {
            assert_eq!(oversized(&fine), None);
        }
        let escaped = format!(r#""payload":"{}""#, r"\u0001".repeat(3993));
        assert_eq!(oversized(&escaped), None);
        for (members, reason, sentence) in [
            (
                payload(3994),
                Reason::PayloadTooLarge,
                "the payload is 3994 bytes long; at most 3993 fit",
            ),
            (
                base64((32 << 10) + 1),
                Reason::PayloadTooLarge,
                "the payload takes 32769 bytes of JSON; at most 32768 are read",
            ),
            (
                topic(1025),
                Reason::MalformedEvent,
                "topic: expected at most 1024 bytes; got 1025",
            ),
        ] {
            let fault = oversized(&members).unwrap();
            assert_eq!(
                (fault.reason, fault.to_string()),
                (reason, sentence.to_owned())
            );
            let single = decoded(&format!("{{{SUBSCRIPTION},{members}}}"));
            assert_eq!(single.oversized(), None);
        }
    }

    #[test]
    fn what_every_copy_repeats_is_small_whatever_an_event_says() {
        let large = 1 << 20;
        let (space, digits) = (" ".repeat(large), "1".repeat(large));
        let values = [
            format!(r#""{}""#, "x".repeat(large)),
            format!(r#""{}""#, r"\n".repeat(large)),
            format!(r#""{}""#, "=".repeat(large)),
            format!(
                r#""2026-01-01T00:00:00{}""#,
                "[u-ca=iso8601]".repeat(large / 14)
            ),
            format!(r#""2026-01-01T00:00:00.{digits}Z""#),
            format!("[{space}]"),
            format!("{{{space}}}"),
            format!("-0{space}"),
            format!("0.{digits}"),
            digits,
        ];
        for member in MEMBERS.into_iter().filter(|name| *name != RECIPIENTS) {
            for value in &values {
                let body = format!(r#"{{"recipients":[{{}}],"{member}":{value}}}"#);
                let body = Bytes::from(body);
                let Ok(event) = decode(&body) else {
                    continue;
                };
                let event = match event.oversized() {
                    Some(_) => event.without_content(),
                    None => event,
                };
                assert!(event.frame_len() < 64 << 10, "{member}: {}", &value[..40]);
            }
        }
    }

    proptest! {
        #[test]
        fn a_subset_has_the_chosen_recipients(chosen in prop::collection::btree_set(0..20usize, 1..20)) {
            let recipients: Vec<String> = (0..20).map(|id| format!(r#"{{"id":{id}}}"#)).collect();
            let body = Bytes::from(format!(r#"{{"recipients":[{}],"ttl":5}}"#, recipients.join(" , ")));
            let chosen: Vec<usize> = chosen.into_iter().collect();
            let subset = decode(&body).unwrap().subset(&chosen);
            let event = decode(&subset).unwrap();
            let ids: Vec<String> = event
                .recipients()
                .map(|raw| RecipientRef::of(raw).id.unwrap().get().to_owned())
                .collect();
            prop_assert_eq!(ids, chosen.iter().map(usize::to_string).collect::<Vec<_>>());
            prop_assert_eq!(event.ttl, Some(5));
        }
    }
}
