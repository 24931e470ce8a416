//! One recipient of an event: its subscription, and its own options (examples/README.md, "The event").

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::fault::{Fault, Faults};
use super::json::Object;
use super::member;
use super::options::PushOptions;
use super::push_subscription::PushSubscription;
use crate::origin::{Service, Services};
use crate::subscription::{ENDPOINT_LIMIT, Endpoint, Fingerprint, Keys};

/// One recipient, still as text.
#[derive(Clone, Copy)]
pub struct RawRecipient<'a> {
    /// Its place among the recipients of this body.
    pub index: usize,
    pub(super) text: RecipientText<'a>,
}

/// The texts of one recipient.
#[derive(Clone, Copy)]
pub(super) enum RecipientText<'a> {
    /// Of an event with one `subscription`.
    Single {
        subscription: &'a RawValue,
        id: Option<&'a RawValue>,
    },
    /// A member of `recipients`.
    Listed(&'a RawValue),
}

impl<'a> RawRecipient<'a> {
    /// Returns the endpoint as it was given, if there is one.
    #[must_use]
    pub fn endpoint(&self) -> Option<Cow<'a, str>> {
        let subscription = match self.text {
            RecipientText::Single { subscription, .. } => subscription,
            RecipientText::Listed(recipient) => {
                let [subscription, ..] = Object::of(recipient, &MEMBERS)?.values;
                subscription?
            }
        };
        let subscription = PushSubscription::read(subscription).ok()?;
        subscription.endpoint_text().ok()
    }

    /// Returns the text of a payload of its own, if it has one.
    #[must_use]
    pub fn payload(&self) -> Option<&'a str> {
        let RecipientText::Listed(recipient) = self.text else {
            return None;
        };
        let [_, _, _, payload, payload_base64, notification, ..] =
            Object::of(recipient, &MEMBERS)?.values;
        let payload = payload.or(payload_base64).or(notification);
        payload.map(RawValue::get)
    }

    /// Returns the text of delivery hours of its own, if it has some.
    #[must_use]
    pub fn delivery_hours(&self) -> Option<&'a str> {
        let RecipientText::Listed(recipient) = self.text else {
            return None;
        };
        let [.., hours] = Object::of(recipient, &MEMBERS)?.values;
        hours.map(RawValue::get)
    }
}

impl RawRecipient<'_> {
    /// Returns how many bytes it takes in the body.
    #[must_use]
    pub fn text_len(&self) -> usize {
        self.text.as_str().len()
    }
}

impl<'a> RecipientText<'a> {
    fn as_str(&self) -> &'a str {
        match self {
            Self::Single { subscription, .. } => subscription.get(),
            Self::Listed(recipient) => recipient.get(),
        }
    }
}

/// What results and subscription events repeat of a recipient, as far as it could be read.
#[derive(Clone, Default)]
pub struct RecipientRef<'a> {
    /// The producer's name for it, a JSON string or integer, as it was given.
    pub id: Option<&'a RawValue>,
    /// Its endpoint as it was given; `None` also for one longer than any endpoint.
    pub endpoint: Option<Cow<'a, str>>,
    /// SHA-256 of the endpoint as it was given, of any length.
    pub fingerprint: Option<Fingerprint>,
    /// The family of push service that answers there.
    pub service: Option<Service>,
    /// The producer's own, returned byte for byte but for escapes that are no character.
    pub metadata: Option<Cow<'a, RawValue>>,
    /// SHA-256 of a payload of its own, which tells it from others with the same endpoint.
    pub(super) payload: Option<[u8; 32]>,
    /// Its place among the recipients of the body.
    pub(super) index: usize,
    /// All that was given of it: tells recipients without an endpoint apart.
    pub(super) text: &'a str,
}

/// One recipient, with an endpoint that is one and options that make sense.
///
/// Its keys are decoded when they are needed: proving a point to be on the curve costs more than
/// all the rest, and a duplicate or a removed subscription needs none.
#[derive(Clone)]
pub struct Recipient<'a> {
    /// What its results repeat.
    pub about: RecipientRef<'a>,
    /// Where to push.
    pub endpoint: Endpoint,
    /// Its own options, completed by the event's.
    pub options: PushOptions,
    subscription: PushSubscription<'a>,
    position: Position,
}

/// Why a recipient cannot be pushed to, and what could be read of it all the same.
#[derive(Clone, Debug)]
pub struct RecipientError<'a> {
    /// The first fault.
    pub fault: Fault,
    /// For its result.
    pub about: RecipientRef<'a>,
}

impl<'a> Recipient<'a> {
    /// Decodes one recipient of an event with `body`, whose options `shared` complete its own.
    ///
    /// `position` is its position in the event as it was published, if that is known. Faults name
    /// `recipients[position]` then, and only the path inside the recipient otherwise.
    ///
    /// # Errors
    /// If a member of ours is wrong (`malformed_event`), or the browser's subscription has no
    /// usable endpoint (`invalid_subscription`).
    pub(super) fn decode(
        raw: RawRecipient<'a>,
        body: &'a Bytes,
        shared: &PushOptions,
        position: Option<u32>,
    ) -> Result<Self, Box<RecipientError<'a>>> {
        let mut faults = Faults::default();
        let mut parts = Parts::read(raw, &mut faults);
        let options = PushOptions::read(body, parts.options, &mut faults);
        parts.about.payload = options.payload.as_deref().map(digest_of);
        let position = Position(position);
        match faults.first().map_or(parts.endpoint, Err) {
            Ok(endpoint) => Ok(Self {
                about: parts.about,
                endpoint,
                options: options.or(shared),
                subscription: parts.subscription,
                position,
            }),
            Err(fault) => Err(Box::new(RecipientError {
                fault: position.of(fault),
                about: parts.about,
            })),
        }
    }

    /// Applies the family that the operator has named for its push service, if there is one.
    #[must_use]
    pub fn known_to(mut self, services: &Services) -> Self {
        self.endpoint = self.endpoint.known_to(services);
        self.about.service = Some(self.endpoint.service());
        self
    }

    /// Decodes the keys that a payload is encrypted with.
    ///
    /// # Errors
    /// If they are missing or cannot be right (`invalid_subscription`).
    pub fn keys(&self) -> Result<Keys, Fault> {
        self.subscription
            .keys()
            .map_err(|fault| self.position.of(fault))
    }

    /// Records a fault of one of its members.
    #[must_use]
    pub fn fault(&self, path: &'static str, expected: impl Into<Cow<'static, str>>) -> Fault {
        self.position.of(Fault::malformed(path, expected))
    }
}

impl<'a> RecipientRef<'a> {
    /// Reads what can be read, whatever else is wrong.
    #[must_use]
    pub fn of(raw: RawRecipient<'a>) -> Self {
        Parts::read(raw, &mut Faults::default()).about
    }

    /// Returns the characters of the producer's name for it.
    #[must_use]
    pub fn id_text(&self) -> Option<Cow<'a, str>> {
        self.id.and_then(member::text_of)
    }

    /// Returns what tells it from other recipients: its endpoint, else all that was given of it.
    pub(super) fn distinction(&self) -> &[u8] {
        match &self.fingerprint {
            Some(fingerprint) => fingerprint.as_bytes(),
            None => self.text.as_bytes(),
        }
    }
}

fn digest_of(payload: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, payload).as_ref());
    bytes
}

/// Where a recipient stands in the event as it was published, if that is known.
#[derive(Clone, Copy)]
struct Position(Option<u32>);

impl Position {
    fn of(self, fault: Fault) -> Fault {
        match self.0 {
            Some(index) => fault.under(&format!("recipients[{index}]")),
            None => fault,
        }
    }
}

/// The members of a recipient.
pub const MEMBERS: [&str; 10] = [
    "subscription",
    "id",
    "metadata",
    "payload",
    "payload_base64",
    "notification",
    "topic",
    "vapid_key",
    "content_encoding",
    "deliver_between",
];

/// A recipient taken apart.
struct Parts<'a> {
    about: RecipientRef<'a>,
    subscription: PushSubscription<'a>,
    endpoint: Result<Endpoint, Fault>,
    options: [Option<&'a RawValue>; 7],
}

impl<'a> Parts<'a> {
    fn read(raw: RawRecipient<'a>, faults: &mut Faults) -> Self {
        let (id_path, [subscription, id, metadata, options @ ..]) = match raw.text {
            RecipientText::Single { subscription, id } => (
                "recipient_id",
                [
                    Some(subscription),
                    id,
                    None,
                    None,
                    None,
                    None,
                    None,
                    None,
                    None,
                    None,
                ],
            ),
            RecipientText::Listed(recipient) => ("id", members(recipient, faults)),
        };
        let mut about = RecipientRef {
            id: faults.read(id_path, id, member::recipient_id),
            metadata: faults.read("metadata", metadata, member::metadata),
            index: raw.index,
            text: raw.text.as_str(),
            ..RecipientRef::default()
        };
        let subscription = match subscription {
            Some(subscription) => PushSubscription::read(subscription),
            None => Err(Fault::malformed(
                "subscription",
                "is missing; expected the browser's subscription",
            )),
        };
        Self {
            subscription: subscription.as_ref().copied().unwrap_or_default(),
            endpoint: subscription
                .and_then(|subscription| subscription.endpoint_text())
                .and_then(|text| about.locate(text)),
            about,
            options,
        }
    }
}

fn members<'a>(
    recipient: &'a RawValue,
    faults: &mut Faults,
) -> [Option<&'a RawValue>; MEMBERS.len()] {
    let Some(object) = Object::of(recipient, &MEMBERS) else {
        faults.note(Fault::kind(
            "",
            "an object with a `subscription`",
            recipient,
        ));
        return [None; MEMBERS.len()];
    };
    faults.note_unknown(&object, &MEMBERS);
    object.values
}

impl<'a> RecipientRef<'a> {
    /// Records the endpoint, as far as it is one.
    fn locate(&mut self, text: Cow<'a, str>) -> Result<Endpoint, Fault> {
        let endpoint = PushSubscription::endpoint(&text);
        let parsed = endpoint.as_ref().ok();
        self.fingerprint =
            Some(parsed.map_or_else(|| Fingerprint::of(&text), Endpoint::fingerprint));
        self.service = parsed.map(Endpoint::service);
        self.endpoint = (text.len() <= ENDPOINT_LIMIT).then_some(text);
        endpoint
    }
}

/// Shows no endpoint and nothing of the producer's.
impl fmt::Debug for RecipientRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecipientRef")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// Shows no keys.
impl fmt::Debug for Recipient<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipient")
            .field("endpoint", &self.endpoint)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::{Coding, Name};
    use crate::outcome::Reason;
    use crate::wire::event::decode;

    // RFC 8291 §5.
    const P256DH: &str =
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";
    const ENDPOINT: &str = "https://push.example.net/x";

    fn many(recipient: &str) -> Bytes {
        format!(
            r#"{{"recipients":[{{}},{recipient}],"payload":"all","topic":"t/o","vapid_key":"k"}}"#
        )
        .into()
    }

    fn one(subscription: &str) -> Bytes {
        format!(r#"{{"subscription":{subscription},"payload":"x"}}"#).into()
    }

    /// Decodes the last recipient with its keys and returns the fault.
    fn fault(body: &Bytes) -> Fault {
        let event = decode(body).unwrap();
        let raw = event.recipients().last().unwrap();
        match event.decode_recipient(raw, Some(41)) {
            Ok(recipient) => recipient.keys().unwrap_err(),
            Err(error) => error.fault,
        }
    }

    #[test]
    fn a_recipients_own_options_win_over_the_events() {
        let body = many(&format!(
            r#"{{"subscription":{{"endpoint":"{ENDPOINT}"}},"id":7,"metadata":[],
                 "payload_base64":"AP8","topic":"mine","vapid_key":"own","content_encoding":"aesgcm"}}"#
        ));
        let event = decode(&body).unwrap();
        let recipient = event
            .decode_recipient(event.recipient(1).unwrap(), Some(0))
            .unwrap();
        assert_eq!(recipient.options.payload.as_deref(), Some(&[0, 255][..]));
        assert_eq!(recipient.options.topic.unwrap().as_str(), "mine");
        assert!(!recipient.options.topic_replaced);
        assert_eq!(recipient.options.vapid_key, Name::parse("own"));
        assert_eq!(recipient.options.coding, Some(Coding::AesGcm));
        assert_eq!(recipient.about.id.unwrap().get(), "7");
        assert_eq!(recipient.about.metadata.unwrap().get(), "{}");

        let body = many(&format!(
            r#"{{"subscription":{{"endpoint":"{ENDPOINT}"}},"payload":null}}"#
        ));
        let event = decode(&body).unwrap();
        let recipient = event
            .decode_recipient(event.recipient(1).unwrap(), Some(0))
            .unwrap();
        assert_eq!(recipient.options.payload.as_deref(), Some(&b"all"[..]));
        assert!(recipient.options.topic_replaced);
        assert_eq!(recipient.options.vapid_key, Name::parse("k"));
    }

    #[test]
    fn subscriptions_are_taken_in_the_forms_they_are_found_in() {
        for subscription in [
            format!(
                r#"{{"endpoint":"{ENDPOINT}","expirationTime":null,"keys":{{"p256dh":"{P256DH}","auth":"{AUTH}"}}}}"#
            ),
            format!(r#"{{"endpoint":"{ENDPOINT}","p256dh":"{P256DH}=","auth":"{AUTH}=="}}"#),
            format!(
                r#"{{"endpoint":"{ENDPOINT}","keys":[],"p256dh":"{P256DH}","auth":"{AUTH}","contentEncoding":"x"}}"#
            ),
            format!(
                r#"{{"endpoint":"https:\/\/push.example.net\/x","keys":{{"auth":"{AUTH}","p256dh":"{P256DH}","x":1}}}}"#
            ),
        ] {
            let body = one(&subscription);
            let event = decode(&body).unwrap();
            let recipient = event
                .decode_recipient(event.recipient(0).unwrap(), None)
                .unwrap();
            assert_eq!(recipient.endpoint.as_str(), ENDPOINT);
            assert_eq!(recipient.about.endpoint.as_deref(), Some(ENDPOINT));
            assert!(recipient.keys().is_ok(), "{subscription}");
        }
    }

    #[test]
    fn rows_of_other_libraries_are_read_with_their_own_names() {
        for row in [
            r##""endpoint":"@","publicKey":"#","authToken":"%","contentEncoding":"aes128gcm""##,
            r##""id":7,"endpoint":"@","public_key":"#","auth_token":"%","content_encoding":"aesgcm","created_at":null"##,
            r##""endpoint":"@","key_p256dh":"#","key_auth":"%","user_id":5"##,
            r##""endpoint":"@","p256dh_key":"#","auth_key":"%""##,
            r##""Endpoint":"@","Keys":{"P256dh":"#","Auth":"%"},"ExpirationTime":null"##,
            r##""Endpoint":"@","P256DH":"#","Auth":"%""##,
            r##""endpoint":"@","keys":{"p256dh":"#","auth":"%"},"p256dh":"#=","auth":"%==""##,
            r##""endpoint":"@","Endpoint":"@","keys":[],"publicKey":"#","authToken":"%""##,
        ] {
            let row = row
                .replace('@', ENDPOINT)
                .replace('#', P256DH)
                .replace('%', AUTH);
            let body = one(&format!("{{{row}}}"));
            let event = decode(&body).unwrap();
            let recipient = event.decode_recipient(event.recipient(0).unwrap(), None);
            let keys = recipient.map_err(|it| it.fault).and_then(|it| it.keys());
            let keys = keys.unwrap_or_else(|fault| panic!("{row}: {fault}"));
            assert_eq!(
                keys.auth,
                crate::subscription::AuthSecret::parse(AUTH).unwrap()
            );
        }
    }

    #[test]
    fn two_spellings_that_differ_are_both_named() {
        let other = format!("{}AAAA", &AUTH[..18]);
        for (members, sentence) in [
            (
                r#""endpoint":"https://a.example/x","Endpoint":"https://a.example/y""#.to_owned(),
                "subscription.endpoint: differs from subscription.Endpoint; give one of them, or \
                 both with the same value",
            ),
            (
                format!(
                    r#""endpoint":"{ENDPOINT}","keys":{{"p256dh":"{P256DH}","auth":"{AUTH}"}},"auth_token":"{other}""#
                ),
                "subscription.keys.auth: differs from subscription.auth_token; give one of them, \
                 or both with the same value",
            ),
        ] {
            let fault = fault(&one(&format!("{{{members}}}")));
            assert_eq!(fault.to_string(), sentence);
            assert_eq!(fault.reason, Reason::InvalidSubscription);
        }
    }

    #[test]
    fn bad_subscriptions_are_told_where_and_what_was_expected() {
        let long = format!("https://push.example.net/{}", "x".repeat(10_000));
        let off_curve = format!("{}{}", &P256DH[..80], "AAAAAAA");
        let keys = |p256dh: &str, auth: &str| {
            format!(r#"{{"endpoint":"{ENDPOINT}","keys":{{"p256dh":{p256dh},"auth":{auth}}}}}"#)
        };
        let good = format!("\"{P256DH}\"");
        for (subscription, sentence) in [
            (
                "\"{}\"".to_owned(),
                "subscription: expected an object as PushSubscription.toJSON() gives it; got a string",
            ),
            (
                "[]".to_owned(),
                "subscription.endpoint: is missing; expected the push URL",
            ),
            (
                r#"{"endpoint":5}"#.to_owned(),
                "subscription.endpoint: expected the push URL as a string; got an integer",
            ),
            (
                r#"{"endpoint":"push.example.net"}"#.to_owned(),
                "subscription.endpoint: the endpoint is not an absolute URL: relative URL without a base",
            ),
            (
                format!(r#"{{"endpoint":"{long}"}}"#),
                "subscription.endpoint: the endpoint is 10025 bytes long; at most 2048 are accepted",
            ),
            (
                r#"{"endpoint":"https://u:p@push.example.net/x"}"#.to_owned(),
                "subscription.endpoint: the endpoint must not carry a user name or password",
            ),
            (
                format!(r#"{{"endpoint":"{ENDPOINT}"}}"#),
                "subscription.keys.p256dh: is missing; a payload is encrypted with it",
            ),
            (
                format!(r#"{{"endpoint":"{ENDPOINT}","keys":"x"}}"#),
                "subscription.keys: expected an object of p256dh and auth; got a string",
            ),
            (
                keys(&good, "7"),
                "subscription.keys.auth: expected a string; got an integer",
            ),
            (
                keys(&good, r#""AAAA""#),
                "subscription.keys.auth: auth must be 16 bytes; it decodes to 3 bytes",
            ),
            (
                keys(r#""%%""#, r#""AAAA""#),
                "subscription.keys.p256dh: p256dh is neither base64url nor base64",
            ),
            (
                keys(&format!("\"{off_curve}\""), r#""AAAA""#),
                "subscription.keys.p256dh: p256dh is not a point on the P-256 curve",
            ),
            (
                format!(r#"{{"endpoint":"{ENDPOINT}","p256dh":"AAAA"}}"#),
                "subscription.p256dh: p256dh must be an uncompressed P-256 point of 65 bytes; it decodes to 3 bytes",
            ),
        ] {
            let fault = fault(&one(&subscription));
            assert_eq!(fault.to_string(), sentence);
            assert_eq!(fault.reason, Reason::InvalidSubscription, "{sentence}");
        }
    }

    #[test]
    fn one_bad_recipient_fails_alone_and_is_told_its_place() {
        for (recipient, sentence) in [
            (
                "7",
                "recipients[41]: expected an object with a `subscription`; got an integer",
            ),
            (
                "[]",
                "recipients[41].subscription: is missing; expected the browser's subscription",
            ),
            (
                r#"{"endpoint":"x"}"#,
                "recipients[41].endpoint: unknown member; did you mean `subscription`?",
            ),
            (
                r#"{"subscription":{"endpoint":"https://a.example/x"},"id":{}}"#,
                "recipients[41].id: expected a string or an integer; got an object",
            ),
            (
                r#"{"subscription":{"endpoint":"https://a.example/x"},"ttl":5}"#,
                "recipients[41].ttl: unknown member; expected one of subscription, id, metadata, payload, payload_base64, notification, topic, vapid_key, content_encoding, deliver_between",
            ),
            (
                r#"{"subscription":{"endpoint":"https://a.example/x"},"payload":1,"payload_base64":""}"#,
                "recipients[41].payload_base64: expected either `payload` or `payload_base64`; got both",
            ),
            (
                r#"{"subscription":{"endpoint":"https://a.example/x","keys":{"p256dh":""}}}"#,
                "recipients[41].subscription.keys.p256dh: p256dh must be an uncompressed P-256 point of 65 bytes; it decodes to 0 bytes",
            ),
        ] {
            assert_eq!(fault(&many(recipient)).to_string(), sentence);
        }
    }

    #[test]
    fn a_bad_recipient_still_says_who_it_is() {
        let body = many(
            r#"{"id":"u1","metadata":{"a":1},"subscription":{"endpoint":"mailto:x"},"topic":5}"#,
        );
        let event = decode(&body).unwrap();
        let error = event
            .decode_recipient(event.recipient(1).unwrap(), None)
            .unwrap_err();
        assert_eq!(
            error.fault.to_string(),
            "topic: expected a string; got an integer"
        );
        assert_eq!(error.about.id.unwrap().get(), "\"u1\"");
        assert_eq!(error.about.metadata.unwrap().get(), r#"{"a":1}"#);
        assert_eq!(error.about.endpoint.as_deref(), Some("mailto:x"));
        assert_eq!(error.about.fingerprint, Some(Fingerprint::of("mailto:x")));
    }

    #[test]
    fn an_endless_endpoint_is_named_by_its_fingerprint_alone() {
        let long = format!("https://push.example.net/{}", "x".repeat(10_000));
        let body = one(&format!(r#"{{"endpoint":"{long}"}}"#));
        let event = decode(&body).unwrap();
        let about = event.only_recipient();
        assert_eq!(about.endpoint, None);
        assert_eq!(about.fingerprint, Some(Fingerprint::of(&long)));
    }
}
