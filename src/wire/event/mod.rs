//! The notification event: from the bytes of a message to what they ask for (examples/README.md, "The event").

mod copies;

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::app::Results;
use crate::message::{EventId, Name, Urgency};
use crate::outcome::{Reason, Warning};
use crate::wire::audience::Audience;
pub use crate::wire::audience::RECIPIENT_LIMIT;
use crate::wire::fault::{Fault, Faults};
use crate::wire::json::Object;
use crate::wire::member;
use crate::wire::options::PushOptions;
use crate::wire::recipient::{
    RawRecipient, Recipient, RecipientError, RecipientRef, RecipientText,
};

/// The most bytes an event may have, unless an operator says otherwise.
pub const EVENT_LIMIT: usize = 4 << 20;

/// One notification event, borrowing from the body it was read from.
///
/// Recipients stay text until each is decoded by itself, so that one bad recipient fails alone.
pub struct Event<'a> {
    /// What its results repeat.
    pub about: EventRef<'a>,
    /// The TTL in seconds as asked for, not yet clamped.
    pub ttl: Option<u64>,
    /// How eagerly it is delivered.
    pub urgency: Urgency,
    /// When the producer made it.
    pub created_at: Option<SystemTime>,
    /// When it is due.
    pub deliver_at: Option<SystemTime>,
    /// After when it is worthless.
    pub expires_at: Option<SystemTime>,
    /// How many of its recipients are pushed to in a second, at most.
    pub max_per_second: Option<NonZeroU32>,
    /// Which delivery results it wants.
    pub results: Option<Results>,
    /// What recipients may say otherwise.
    pub options: PushOptions,
    body: &'a Bytes,
    /// The texts of its members, in the order of [`MEMBERS`].
    members: [Option<&'a RawValue>; MEMBERS.len()],
    audience: Audience<'a>,
}

/// What every output repeats of the event it belongs to, as far as it could be read.
#[derive(Clone, Default)]
pub struct EventRef<'a> {
    /// Its name.
    pub id: Option<EventId>,
    /// The application it names, configured or not.
    pub app: Option<Name>,
    /// Routes its results.
    pub label: Option<Name>,
    /// Names a campaign.
    pub group: Option<Cow<'a, str>>,
    /// The producer's own, returned byte for byte but for escapes that are no character.
    pub metadata: Option<Cow<'a, RawValue>>,
    /// What its results say of the message that it came in.
    pub warnings: Vec<Warning>,
}

/// Why a body is not an event, and what could be read of it all the same.
#[derive(Clone, Debug)]
pub struct EventError<'a> {
    /// The first fault.
    pub fault: Fault,
    /// For its result.
    pub about: EventRef<'a>,
    /// Its one recipient, if that much could be read.
    pub recipient: RecipientRef<'a>,
}

/// The member by which editors find the schema; copies leave it out.
const SCHEMA: &str = "$schema";

/// The member that lists many recipients.
const RECIPIENTS: &str = "recipients";

/// The members of an event, grouped as they are read.
pub const MEMBERS: [&str; 24] = [
    SCHEMA,
    "version",
    "subscription",
    "recipient_id",
    RECIPIENTS,
    "id",
    "app",
    "label",
    "group",
    "metadata",
    "urgency",
    "results",
    "ttl",
    "created_at",
    "deliver_at",
    "expires_at",
    "max_per_second",
    "payload",
    "payload_base64",
    "notification",
    "topic",
    "vapid_key",
    "content_encoding",
    "deliver_between",
];

/// Reads an event.
///
/// # Errors
/// If the body is not an event of version 1. What is wrong with single recipients is found when
/// they are decoded.
pub fn decode(body: &Bytes) -> Result<Event<'_>, Box<EventError<'_>>> {
    let mut faults = Faults::default();
    let text = text_of(body).unwrap_or_else(|fault| {
        faults.note(fault);
        "{}"
    });
    let (object, read) = Object::read(text, &MEMBERS);
    if let Err(error) = read {
        faults.note(Fault::malformed(
            "",
            format!("the body is not valid JSON: {error}"),
        ));
    }
    let event = Event::read(&object, body, &mut faults);
    match faults.first() {
        None => Ok(event),
        Some(fault) => Err(Box::new(EventError {
            fault,
            recipient: event.only_recipient(),
            about: event.about,
        })),
    }
}

/// Records that a body has more bytes than an event may have; [`decode`] leaves that to its caller,
/// who knows what is configured.
#[must_use]
pub fn too_large(length: usize, limit: usize) -> Fault {
    let sentence = format!("an event has at most {limit} bytes; this one has {length}");
    Fault::malformed("", sentence).because(Reason::EventTooLarge)
}

/// Reads a body as the text of one JSON object. What it is instead, [`describe`](crate::wire::foreign::describe)
/// says.
fn text_of(body: &[u8]) -> Result<&str, Fault> {
    if !body.trim_ascii().starts_with(b"{") {
        return Err(Fault::malformed("", "the body is not a JSON object"));
    }
    str::from_utf8(body).map_err(|error| {
        let sentence = format!(
            "the body is not UTF-8 from byte {} on; JSON is written in UTF-8",
            error.valid_up_to()
        );
        Fault::malformed("", sentence)
    })
}

impl<'a> Event<'a> {
    /// Reads every member, whatever is wrong with the others.
    fn read(object: &Object<'a, { MEMBERS.len() }>, body: &'a Bytes, faults: &mut Faults) -> Self {
        let [
            _,
            version,
            subscription,
            recipient_id,
            recipients,
            rest @ ..,
        ] = object.values;
        let [id, app, label, group, metadata, urgency, results, rest @ ..] = rest;
        let [
            ttl,
            created_at,
            deliver_at,
            expires_at,
            max_per_second,
            options @ ..,
        ] = rest;
        // A later version may well have members that this one does not know: it is judged first.
        faults.read("version", version, member::version);
        faults.note_unknown(object, &MEMBERS);
        Self {
            about: EventRef {
                id: faults.read("id", id, member::event_id),
                app: faults.read("app", app, member::name),
                label: faults.read("label", label, member::name),
                group: faults.read("group", group, member::group),
                metadata: faults.read("metadata", metadata, member::metadata),
                warnings: Vec::new(),
            },
            urgency: faults
                .read("urgency", urgency, member::urgency)
                .unwrap_or_default(),
            results: faults.read("results", results, member::results),
            ttl: faults.read("ttl", ttl, member::seconds),
            created_at: faults.read("created_at", created_at, member::time),
            deliver_at: faults.read("deliver_at", deliver_at, member::time),
            expires_at: faults.read("expires_at", expires_at, member::time),
            max_per_second: faults.read("max_per_second", max_per_second, member::per_second),
            options: PushOptions::read(body, options, faults),
            audience: Audience::read(subscription, recipient_id, recipients, faults),
            members: object.values,
            body,
        }
    }

    /// Returns the body it was read from.
    #[must_use]
    pub fn body(&self) -> &'a Bytes {
        self.body
    }

    /// Returns whether it has `recipients`, and so a summary.
    #[must_use]
    pub fn is_fan_out(&self) -> bool {
        matches!(self.audience, Audience::Many(_))
    }

    /// Returns the number of recipients.
    #[must_use]
    pub fn recipient_count(&self) -> usize {
        match &self.audience {
            Audience::One { .. } => 1,
            Audience::Many(recipients) => recipients.len(),
        }
    }

    /// Returns the recipient at `index` of this body; `None` beyond the last.
    #[must_use]
    pub fn recipient(&self, index: usize) -> Option<RawRecipient<'a>> {
        let text = match &self.audience {
            Audience::One { subscription, id } if index == 0 => RecipientText::Single {
                subscription,
                id: *id,
            },
            Audience::One { .. } => return None,
            Audience::Many(recipients) => RecipientText::Listed(recipients.get(index)?),
        };
        Some(RawRecipient { index, text })
    }

    /// Walks through the recipients as text, in the order of the body.
    pub fn recipients(&self) -> impl Iterator<Item = RawRecipient<'a>> + '_ {
        (0..self.recipient_count()).filter_map(|index| self.recipient(index))
    }

    /// Decodes one of its recipients; `position` is its position in the event as it was published, if
    /// that is known.
    ///
    /// # Errors
    /// If a member of ours is wrong (`malformed_event`), or the browser's subscription has no usable
    /// endpoint (`invalid_subscription`).
    pub fn decode_recipient(
        &self,
        raw: RawRecipient<'a>,
        position: Option<u32>,
    ) -> Result<Recipient<'a>, Box<RecipientError<'a>>> {
        let position = position.filter(|_| self.is_fan_out());
        Recipient::decode(raw, self.body(), &self.options, position)
    }

    /// Returns what a result repeats of the one recipient; nothing, if there are many.
    #[must_use]
    pub fn only_recipient(&self) -> RecipientRef<'a> {
        match self.audience {
            Audience::One { .. } => self.recipient(0).map(RecipientRef::of).unwrap_or_default(),
            Audience::Many(_) => RecipientRef::default(),
        }
    }
}

/// Shows no endpoint, payload or key.
impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("about", &self.about)
            .field("recipients", &self.recipient_count())
            .finish_non_exhaustive()
    }
}

/// Shows what is ours, not what the producer keeps in it.
impl fmt::Debug for EventRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventRef")
            .field("id", &self.id)
            .field("app", &self.app)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    pub(super) const SUBSCRIPTION: &str =
        r#""subscription":{"endpoint":"https://push.example.net/x"}"#;

    pub(super) fn decoded(body: &str) -> Event<'static> {
        let body = Box::leak(Box::new(Bytes::copy_from_slice(body.as_bytes())));
        decode(body).unwrap()
    }

    fn fault(body: impl AsRef<[u8]>) -> Fault {
        decode(&Bytes::copy_from_slice(body.as_ref()))
            .unwrap_err()
            .fault
    }

    #[test]
    fn the_smallest_event_has_every_default() {
        let event = decoded(&format!("{{{SUBSCRIPTION}}}"));
        assert!(event.about.id.is_none() && event.about.app.is_none());
        assert_eq!(event.urgency, Urgency::Normal);
        assert_eq!((event.ttl, event.results), (None, None));
        assert_eq!(event.options.payload, None);
        assert_eq!((event.recipient_count(), event.is_fan_out()), (1, false));
    }

    #[test]
    fn every_member_is_read() {
        let event = decoded(
            r#" {"version":1,"id":7,"app":"shop","label":"mail","group":"spring",
                 "recipients":[{"subscription":{}}],"payload":{"a" : 1},"ttl":60,"urgency":"high",
                 "topic":"order","vapid_key":"2026","content_encoding":"aesgcm","results":"none",
                 "created_at":"1970-01-01T00:00:01Z","deliver_at":"1970-01-01T00:00:02Z",
                 "expires_at":"1970-01-01T00:00:03Z","metadata":{"b": 2}}
            "#,
        );
        let second = |n| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(n));
        assert_eq!(event.about.id, EventId::parse("7"));
        assert_eq!(event.about.app, Name::parse("shop"));
        assert_eq!(event.about.label, Name::parse("mail"));
        assert_eq!(event.about.group.as_deref(), Some("spring"));
        assert_eq!(event.about.metadata.as_ref().unwrap().get(), r#"{"b": 2}"#);
        assert_eq!(event.options.payload.as_deref(), Some(&br#"{"a" : 1}"#[..]));
        assert_eq!(event.options.vapid_key, Name::parse("2026"));
        assert_eq!(event.ttl, Some(60));
        assert_eq!(event.urgency, Urgency::High);
        assert_eq!(event.results, Some(Results::None));
        assert_eq!(
            [event.created_at, event.deliver_at, event.expires_at],
            [second(1), second(2), second(3)]
        );
        assert!(event.is_fan_out());
    }

    #[test]
    fn null_means_absent_everywhere_optional() {
        for member in MEMBERS {
            let body = if member == "subscription" {
                r#"{"subscription":null,"recipients":[1]}"#.to_owned()
            } else {
                format!(r#"{{{SUBSCRIPTION},"{member}":null}}"#)
            };
            assert!(decode(&body.into()).is_ok(), "{member}");
        }
    }

    #[test]
    fn a_body_that_is_no_object_is_no_event() {
        for body in [&b""[..], b"null", b"[]", b"17", b"\"{}\"", b"\xff\xfe{\0"] {
            let fault = fault(body);
            assert_eq!(fault.to_string(), "the body is not a JSON object");
            assert_eq!(fault.reason, Reason::MalformedEvent);
        }
    }

    #[test]
    fn bad_events_are_told_where_and_what_was_expected() {
        for (members, sentence) in [
            (
                r#""ttl":-1"#,
                "ttl: expected an integer of seconds, 0 or more; got a negative one",
            ),
            (r#""tll":5"#, "tll: unknown member; did you mean `ttl`?"),
            (
                r#""ttl":5,"ttl":6"#,
                "ttl: expected once; it is there twice",
            ),
            (
                r#""recipients":[1]"#,
                "expected either `subscription` or `recipients`; got both",
            ),
            (
                r#""payload":1,"payload_base64":"""#,
                "payload_base64: expected either `payload` or `payload_base64`; got both",
            ),
            (
                r#""payload":1,"notification":{}"#,
                "notification: expected either `payload` or `notification`; got both",
            ),
            (
                r#""payload_base64":"","notification":{}"#,
                "notification: expected either `payload_base64` or `notification`; got both",
            ),
            (
                r#""notification":{"title":"t","navigate":"/x"}"#,
                "notification.navigate: expected an absolute https URL, or one of http://localhost",
            ),
            (
                r#""payload_base64":"%""#,
                "payload_base64: expected base64url or base64",
            ),
            (
                r#""label":"A.B""#,
                "label: expected 1 to 64 of the characters a-z 0-9 _ -",
            ),
            (r#""app":5"#, "app: expected a string; got an integer"),
            (r#""group":"""#, "group: expected 1 to 128 bytes; got 0"),
            (
                r#""metadata":[1]"#,
                "metadata: expected an object; got an array",
            ),
            (
                r#""urgency":"now""#,
                "urgency: expected one of very-low, low, normal, high",
            ),
            (r#""results":true"#, "results: expected a string; got true"),
            (
                r#""content_encoding":"gzip""#,
                "content_encoding: expected one of aes128gcm, aesgcm",
            ),
            (
                r#""version":2,"later":1"#,
                "version: this daemon speaks version 1 of the contract only",
            ),
        ] {
            assert_eq!(
                fault(format!("{{{SUBSCRIPTION},{members}}}")).to_string(),
                sentence
            );
        }
        for (body, sentence) in [
            (
                "{}",
                "expected either `subscription` or `recipients`; got neither",
            ),
            (
                r#"{"recipients":[]}"#,
                "recipients: expected an array of 1 to 10000 objects; got 0 of them",
            ),
            (
                r#"{"recipients":{"1":{}}}"#,
                "recipients: expected an array of 1 to 10000 objects; got an object",
            ),
            (
                r#"{"recipients":[1],"recipient_id":1}"#,
                "recipient_id: goes with `subscription`; each of `recipients` has an `id` of its own",
            ),
            (
                "{",
                "the body is not valid JSON: EOF while parsing an object at line 1 column 1",
            ),
            (
                r#"{"payload":"a}"#,
                "the body is not valid JSON: EOF while parsing a string at line 1 column 14",
            ),
            (
                "{} {}",
                "the body is not valid JSON: trailing characters at line 1 column 4",
            ),
            (
                r#"{"payload":NaN}"#,
                "the body is not valid JSON: expected value at line 1 column 12",
            ),
        ] {
            assert_eq!(fault(body).to_string(), sentence);
        }
        assert_eq!(
            fault(b"{\"payload\":\"\xe9\"}").to_string(),
            "the body is not UTF-8 from byte 12 on; JSON is written in UTF-8"
        );
    }

    #[test]
    fn limits_hold_at_their_edge() {
        let list = |count| format!(r#"{{"recipients":[{}]}}"#, vec!["{}"; count].join(","));
        assert_eq!(
            decoded(&list(RECIPIENT_LIMIT)).recipient_count(),
            RECIPIENT_LIMIT
        );
        assert_eq!(
            fault(list(RECIPIENT_LIMIT + 1)).to_string(),
            "recipients: expected an array of 1 to 10000 objects; got 10001 of them"
        );
        let over = too_large(20 << 20, EVENT_LIMIT);
        assert_eq!(over.reason, Reason::EventTooLarge);
        assert_eq!(
            over.to_string(),
            "an event has at most 4194304 bytes; this one has 20971520"
        );
    }

    #[test]
    fn large_and_deep_bodies_do_no_harm() {
        let large = format!(r#"{{{SUBSCRIPTION},"payload":"{}"}}"#, "x".repeat(20 << 20));
        assert_eq!(
            decoded(&large).options.payload.map(|payload| payload.len()),
            Some(20 << 20)
        );
        let deep = |member: &str| {
            let bomb = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
            format!(r#"{{{SUBSCRIPTION},"{member}":{bomb}}}"#)
        };
        assert!(decode(&deep("payload").into()).is_ok());
        assert!(decode(&deep("metadata").into()).is_err());
        let list = format!(r#"{{"recipients":[{}1]}}"#, "1,".repeat(1 << 20));
        assert_eq!(
            fault(list).to_string(),
            "recipients: expected an array of 1 to 10000 objects; got 1048577 of them"
        );
    }

    #[test]
    fn a_later_version_is_told_before_its_unknown_members() {
        let fault = fault(r#"{"later":1,"version":2}"#);
        assert_eq!(fault.reason, Reason::UnsupportedVersion);
    }

    #[test]
    fn a_bad_event_still_says_whose_it_is() {
        for body in [
            format!(
                r#"{{"id":"a","app":"shop","label":"l","metadata":{{}},{SUBSCRIPTION},"recipient_id":7,"ttl":-1}}"#
            ),
            format!(
                r#"{{"id":"a","app":"shop","label":"l","metadata":{{}},{SUBSCRIPTION},"recipient_id":7,"payload":"#
            ),
        ] {
            let body = Bytes::from(body);
            let error = decode(&body).unwrap_err();
            assert_eq!(error.about.id, EventId::parse("a"));
            assert_eq!(error.about.app, Name::parse("shop"));
            assert_eq!(error.about.label, Name::parse("l"));
            assert!(error.about.metadata.is_some());
            assert_eq!(
                error.recipient.endpoint.as_deref(),
                Some("https://push.example.net/x")
            );
            assert_eq!(error.recipient.id.unwrap().get(), "7");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let event = decoded(&format!(
            r#"{{{SUBSCRIPTION},"payload":"hush","metadata":{{"a":"hush"}},"group":"hush"}}"#
        ));
        let recipient = event
            .decode_recipient(event.recipient(0).unwrap(), None)
            .unwrap();
        let shown = format!("{event:?} {recipient:?} {:?}", recipient.about);
        assert!(
            !shown.contains("hush") && !shown.contains("push.example.net/x"),
            "{shown}"
        );
    }

    proptest! {
        #[test]
        fn decoding_is_total(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&body.into());
        }

        #[test]
        fn decoding_is_total_on_what_looks_like_an_event(
            members in prop::collection::vec((0..MEMBERS.len(), ANY_JSON), 0..6),
        ) {
            let members: Vec<String> = members
                .iter()
                .map(|(index, value)| format!("\"{}\":{value}", MEMBERS[*index]))
                .collect();
            let body = Bytes::from(format!("{{{}}}", members.join(",")));
            match decode(&body) {
                Ok(event) => {
                    for raw in event.recipients() {
                        let _ = event.decode_recipient(raw, Some(0)).map(|it| it.keys().is_ok());
                    }
                }
                Err(error) => prop_assert!(!error.fault.expected.is_empty()),
            }
        }
    }

    /// Values, some of which make sense somewhere.
    const ANY_JSON: &str = r#"null|true|-?[0-9]{1,3}|[0-9]\.5|"[a-z0-9]{0,3}"|"\\\\ud800"|\[\]|\{\}|\[\{"subscription":(\{"endpoint":("https://a\.example/x"|5)\}|7)\}\]|\{"keys":\[\]\}|"(high|all|aesgcm|2026-01-01T00:00:00Z)""#;
}
