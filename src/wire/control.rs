//! The control message: what is not to be pushed any more (examples/README.md, "Take it back").
//!
//! `cancel` names events, `forget` names a subscription or a person. A control message is read by every
//! daemon, whenever it starts, so all times that count are in the message.

use std::borrow::Cow;
use std::time::SystemTime;

use serde_json::value::RawValue;
use strum::{IntoStaticStr, VariantArray};

use super::fault::{Fault, Faults};
use super::json::Object;
use super::member;
use crate::message::{EventId, Name};
use crate::subscription::{Endpoint, Fingerprint};
use crate::words::words;

words!(Command);

/// The AMQP `type` of control messages.
pub const MESSAGE_TYPE: &str = "webpush.control.v1";

/// The longest reason, in bytes.
pub const REASON_LIMIT: usize = 255;

/// The most bytes a control message may have.
pub const CONTROL_LIMIT: usize = 16 << 10;

/// The members of a control message.
pub const MEMBERS: [&str; 5] = ["app", "reason", "requested_at", "cancel", "forget"];

/// The members of `cancel`.
pub const CANCEL_MEMBERS: [&str; 4] = ["id", "group", "label", "created_before"];

/// The members of `forget`.
pub const FORGET_MEMBERS: [&str; 3] = ["endpoint", "fingerprint", "recipient_id"];

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The application whose events or subscriptions are meant.
    pub app: Name,
    /// Why, for people.
    pub reason: Option<Box<str>>,
    /// When it was asked for.
    pub requested_at: SystemTime,
    /// What is not to be pushed any more.
    pub target: Target,
}

/// What a control message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One event, whenever it comes.
    Event(EventId),
    /// The events of a group.
    Group {
        /// The group.
        group: Box<str>,
        /// Only those that were created before then.
        created_before: SystemTime,
    },
    /// The events with a label.
    Label {
        /// The label.
        label: Name,
        /// Only those that were created before then.
        created_before: SystemTime,
    },
    /// A subscription.
    Subscription(Fingerprint),
    /// Every recipient with this name.
    Recipient(Box<str>),
}

/// The second word of the routing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Command {
    /// Events end.
    Cancel,
    /// Recipients end.
    Forget,
}

impl Target {
    /// Returns the command that has this kind of target.
    #[must_use]
    pub fn command(&self) -> Command {
        match self {
            Self::Event(_) | Self::Group { .. } | Self::Label { .. } => Command::Cancel,
            Self::Subscription(_) | Self::Recipient(_) => Command::Forget,
        }
    }
}

/// Returns the routing key `<app>.cancel` or `<app>.forget`.
#[must_use]
pub fn routing_key(app: &Name, command: Command) -> String {
    format!("{app}.{}", command.name())
}

/// Reads a control message that came with a routing key.
///
/// The key must say what the body says: brokers grant permissions by routing key.
///
/// # Errors
/// If the body is not a control message, or the key is not its own.
pub fn decode(routing_key: &str, body: &[u8]) -> Result<Control, Fault> {
    let control = read(body)?;
    let expected = self::routing_key(&control.app, control.target.command());
    if routing_key != expected {
        let sentence =
            format!("expected the routing key `{expected}`, as `app` and the command say");
        return Err(Fault::malformed("", sentence));
    }
    Ok(control)
}

fn read(body: &[u8]) -> Result<Control, Fault> {
    if body.len() > CONTROL_LIMIT {
        let length = body.len();
        let sentence =
            format!("a control message has at most {CONTROL_LIMIT} bytes; this one has {length}");
        return Err(Fault::malformed("", sentence));
    }
    let text = str::from_utf8(body).map_err(|_| Fault::malformed("", "the body is not UTF-8"))?;
    let (object, read) = Object::read(text, &MEMBERS);
    read.map_err(|error| Fault::malformed("", format!("the body is not valid JSON: {error}")))?;
    let mut faults = Faults::default();
    faults.note_unknown(&object, &MEMBERS);
    let [app, reason, requested_at, cancel, forget] = object.values;
    let app = required(&mut faults, "app", app, member::name);
    let reason = faults.read("reason", reason, reason_of);
    let requested_at = required(&mut faults, "requested_at", requested_at, member::time);
    let target = match (cancel, forget) {
        (Some(cancel), None) => faults.read("cancel", cancel.into(), |path, raw| {
            cancelled(raw, requested_at).map_err(|fault| fault.under(path))
        }),
        (None, Some(forget)) => faults.read("forget", forget.into(), |path, raw| {
            forgotten(raw).map_err(|fault| fault.under(path))
        }),
        (both, _) => {
            let found = both.map_or("neither", |_| "both");
            let sentence = format!("expected either `cancel` or `forget`; got {found}");
            faults.note(Fault::malformed("", sentence));
            None
        }
    };
    match (faults.first(), app, requested_at, target) {
        (None, Some(app), Some(requested_at), Some(target)) => Ok(Control {
            app,
            reason: reason.map(|text| text.into()),
            requested_at,
            target,
        }),
        (fault, ..) => Err(fault.unwrap_or_else(|| Fault::malformed("", "it is incomplete"))),
    }
}

/// Reads `cancel`. Events of a group or with a label count if they were created before it was asked for,
/// unless it says otherwise: later ones are another campaign.
fn cancelled(raw: &RawValue, requested_at: Option<SystemTime>) -> Result<Target, Fault> {
    const EXPECTED: &str = "an object with `id`, `group` or `label`";
    let object = Object::of(raw, &CANCEL_MEMBERS).ok_or_else(|| Fault::kind("", EXPECTED, raw))?;
    let mut faults = Faults::default();
    faults.note_unknown(&object, &CANCEL_MEMBERS);
    let [id, group, label, before] = object.values;
    only_one(&mut faults, &CANCEL_MEMBERS[..3], [id, group, label]);
    if let (Some(_), Some(_)) = (id, before) {
        let sentence = "goes with `group` or `label`; an id is cancelled whenever it comes";
        faults.note(Fault::malformed("created_before", sentence));
    }
    let before = faults.read("created_before", before, member::time);
    let id = faults.read("id", id, member::event_id).map(Target::Event);
    let group = faults.read("group", group, member::group);
    let label = faults.read("label", label, member::name);
    let created_before = before.or(requested_at);
    let group = group.zip(created_before).map(|(group, created_before)| {
        let group = group.into();
        Target::Group {
            group,
            created_before,
        }
    });
    let label = label.zip(created_before);
    let label = label.map(|(label, created_before)| Target::Label {
        label,
        created_before,
    });
    complete(faults, id.or(group).or(label))
}

/// Reads `forget`.
fn forgotten(raw: &RawValue) -> Result<Target, Fault> {
    const EXPECTED: &str = "an object with `endpoint`, `fingerprint` or `recipient_id`";
    let object = Object::of(raw, &FORGET_MEMBERS).ok_or_else(|| Fault::kind("", EXPECTED, raw))?;
    let mut faults = Faults::default();
    faults.note_unknown(&object, &FORGET_MEMBERS);
    only_one(&mut faults, &FORGET_MEMBERS, object.values);
    let [endpoint, printed, recipient] = object.values;
    let endpoint = faults.read("endpoint", endpoint, fingerprint_of);
    let printed = faults.read("fingerprint", printed, fingerprint);
    let recipient = faults.read("recipient_id", recipient, member::recipient_id);
    let subscription = endpoint.or(printed).map(Target::Subscription);
    let recipient = recipient.and_then(member::text_of);
    let recipient = recipient.map(|text| Target::Recipient(text.into()));
    complete(faults, subscription.or(recipient))
}

fn reason_of<'a>(path: &'static str, raw: &'a RawValue) -> Result<Cow<'a, str>, Fault> {
    member::bounded(path, member::string(path, raw)?, REASON_LIMIT)
}

/// Returns the fingerprint of an endpoint as it is sent, by which every spelling is found.
fn fingerprint_of(path: &'static str, raw: &RawValue) -> Result<Fingerprint, Fault> {
    let endpoint = Endpoint::parse(&member::string(path, raw)?);
    let endpoint = endpoint.map_err(|error| Fault::malformed(path, error.to_string()))?;
    Ok(Fingerprint::of(endpoint.as_str()))
}

fn fingerprint(path: &'static str, raw: &RawValue) -> Result<Fingerprint, Fault> {
    const EXPECTED: &str = "expected 64 lowercase hexadecimal digits, as results have them";
    Fingerprint::parse(&member::string(path, raw)?).ok_or_else(|| Fault::malformed(path, EXPECTED))
}

fn required<'a, T>(
    faults: &mut Faults,
    path: &'static str,
    raw: Option<&'a RawValue>,
    reader: impl FnOnce(&'static str, &'a RawValue) -> Result<T, Fault>,
) -> Option<T> {
    if raw.is_none() {
        faults.note(Fault::malformed(path, "is missing"));
    }
    faults.read(path, raw, reader)
}

/// Records a fault unless exactly one of some members is there.
fn only_one<const N: usize>(faults: &mut Faults, names: &[&str], values: [Option<&RawValue>; N]) {
    let count = values.iter().flatten().count();
    if count != 1 {
        let names = names.join("`, `");
        let found = if count == 0 { "none" } else { "several" };
        let sentence = format!("expected one of `{names}`; got {found}");
        faults.note(Fault::malformed("", sentence));
    }
}

fn complete(faults: Faults, target: Option<Target>) -> Result<Target, Fault> {
    match (faults.first(), target) {
        (None, Some(target)) => Ok(target),
        (fault, _) => Err(fault.unwrap_or_else(|| Fault::malformed("", "it is incomplete"))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    const ENDPOINT: &str = "https://fcm.googleapis.com/fcm/send/a";

    fn control(command: &str, target: Value) -> Value {
        let mut control = json!({ "app": "shop", "requested_at": "2026-11-21T12:00:00Z" });
        control[command] = target;
        control
    }

    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400)
    }

    fn target(command: &str, target: Value) -> Target {
        let body = control(command, target).to_string();
        let decoded = decode(&format!("shop.{command}"), body.as_bytes()).unwrap();
        assert_eq!(
            (decoded.app.as_str(), decoded.requested_at),
            ("shop", noon())
        );
        assert_eq!(decoded.target.command().name(), command);
        decoded.target
    }

    #[test]
    fn what_is_cancelled_and_what_is_forgotten_is_read() {
        let id = EventId::parse("17").unwrap();
        assert_eq!(target("cancel", json!({ "id": 17 })), Target::Event(id));
        let (group, label) = ("spring".into(), Name::parse("mail").unwrap());
        assert_eq!(
            target(
                "cancel",
                json!({ "group": "spring", "created_before": "2026-11-21T11:59:00Z" })
            ),
            Target::Group {
                group,
                created_before: noon() - Duration::from_secs(60)
            }
        );
        assert_eq!(
            target("cancel", json!({ "label": "mail" })),
            Target::Label {
                label,
                created_before: noon()
            }
        );
        let fingerprint = Fingerprint::of(ENDPOINT);
        for subscription in [
            json!({ "endpoint": ENDPOINT }),
            json!({ "endpoint": "https://fcm.googleapis.com:443/fcm/send/a" }),
            json!({ "fingerprint": fingerprint.to_hex() }),
        ] {
            assert_eq!(
                target("forget", subscription),
                Target::Subscription(fingerprint)
            );
        }
        for recipient in [json!(42), json!("42")] {
            let forgotten = target("forget", json!({ "recipient_id": recipient }));
            assert_eq!(forgotten, Target::Recipient("42".into()));
        }
    }

    #[test]
    fn a_fault_names_the_member_and_what_was_expected() {
        let with = |name: &str, value: Value| {
            let mut control = control("cancel", json!({ "id": "e1" }));
            control[name] = value;
            control
        };
        for (control, sentence) in [
            (
                json!([]),
                "the body is not valid JSON: invalid type: sequence, expected a JSON object at line 1 column 0",
            ),
            (with("app", Value::Null), "app: is missing"),
            (
                with("requested_at", Value::Null),
                "requested_at: is missing",
            ),
            (
                with("when", json!(1)),
                "when: unknown member; expected one of app, reason, requested_at, cancel, forget",
            ),
            (
                with("reason", json!("")),
                "reason: expected 1 to 255 bytes; got 0",
            ),
            (
                with("forget", json!({ "recipient_id": 1 })),
                "expected either `cancel` or `forget`; got both",
            ),
            (
                with("cancel", Value::Null),
                "expected either `cancel` or `forget`; got neither",
            ),
            (
                with("cancel", json!({})),
                "cancel: expected one of `id`, `group`, `label`; got none",
            ),
            (
                with("cancel", json!("e1")),
                "cancel: expected an object with `id`, `group` or `label`; got a string",
            ),
            (
                with("cancel", json!({ "id": 1, "label": "a" })),
                "cancel: expected one of `id`, `group`, `label`; got several",
            ),
            (
                with("cancel", json!({ "ids": 1 })),
                "cancel.ids: unknown member; did you mean `id`?",
            ),
            (
                with(
                    "cancel",
                    json!({ "id": 1, "created_before": "2026-11-21T11:59:00Z" }),
                ),
                "cancel.created_before: goes with `group` or `label`; an id is cancelled whenever it comes",
            ),
            (
                control("forget", json!({ "fingerprint": "AB" })),
                "forget.fingerprint: expected 64 lowercase hexadecimal digits, as results have them",
            ),
            (
                control("forget", json!({ "endpoint": "x" })),
                "forget.endpoint: the endpoint is not an absolute URL",
            ),
        ] {
            let body = control.to_string();
            let fault = read(body.as_bytes()).unwrap_err().to_string();
            assert!(fault.starts_with(sentence), "{body}: {fault}");
        }
        let long = " ".repeat(CONTROL_LIMIT + 1);
        assert!(
            read(long.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("at most 16384 bytes")
        );
    }

    #[test]
    fn the_routing_key_says_what_the_body_says() {
        let body = control("cancel", json!({ "id": "e1" })).to_string();
        for key in ["shop.forget", "blog.cancel", "shop", ""] {
            let fault = decode(key, body.as_bytes()).unwrap_err();
            assert_eq!(
                fault.to_string(),
                "expected the routing key `shop.cancel`, as `app` and the command say"
            );
        }
    }
}
