//! Declarative Web Push: notifications that the user agent shows by itself (Push API,
//! "declarative push message"; classify/README.md §7).
//!
//! Why it is judged here: a user agent tells nobody that it did not take a message for a declarative
//! one. It hands it to the service worker, which is there in every test and missing on the phone
//! where it counts. The payload is sent as it is all the same, since its reader may be the worker.

use memchr::memmem;
use serde_json::{Map, Value};

use crate::wire::notification::is_url;

/// What a payload is to a user agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Whatever its service worker makes of it.
    Ordinary,
    /// A declarative message.
    Declarative,
    /// A declarative message with a member that user agents ignore; says which and why.
    Flawed(String),
    /// Meant as a declarative message, and not accepted as one by any user agent; says why.
    Broken(String),
}

/// The number that tells a declarative message from other JSON: that of RFC 8030.
const MAGIC: f64 = 8030.0;

/// Judges a payload.
#[must_use]
pub(super) fn judge(payload: &[u8]) -> Judgement {
    if !may_claim(payload) {
        return Judgement::Ordinary;
    }
    let Ok(message) = serde_json::from_slice::<Map<String, Value>>(payload) else {
        return Judgement::Broken("the payload: expected a JSON object".into());
    };
    let Some(claim) = message.get("web_push") else {
        return Judgement::Ordinary;
    };
    if claim.as_f64() != Some(MAGIC) {
        return Judgement::Broken("web_push: expected the number 8030".into());
    }
    match check(&message) {
        Ok(notification) => {
            minor_fault(&message, notification).map_or(Judgement::Declarative, Judgement::Flawed)
        }
        Err(fault) => Judgement::Broken(fault),
    }
}

/// Returns whether a payload is worth reading: most are not, and are sent to many.
fn may_claim(payload: &[u8]) -> bool {
    payload.trim_ascii_start().first() == Some(&b'{')
        && memmem::find(payload, b"\"web_push\"").is_some()
}

/// Finds what every user agent needs, and returns the notification.
fn check(message: &Map<String, Value>) -> Result<&Map<String, Value>, String> {
    let Some(Value::Object(notification)) = message.get("notification") else {
        return Err("notification: expected an object".into());
    };
    let text = |name| notification.get(name).and_then(Value::as_str);
    // WebKit asks for more than the specification, which takes an empty title.
    if text("title").is_none_or(str::is_empty) {
        return Err("notification.title: expected a string that is not empty".into());
    }
    if !text("navigate").is_some_and(is_url) {
        return Err("notification.navigate: expected a URL".into());
    }
    let is_set = |name| notification.get(name) == Some(&Value::Bool(true));
    if is_set("renotify") && text("tag").is_none_or(str::is_empty) {
        return Err("notification.renotify: expected a tag with it".into());
    }
    if is_set("silent") && notification.get("vibrate").is_some_and(Value::is_array) {
        return Err("notification.silent: expected no vibrate with it".into());
    }
    Ok(notification)
}

/// What an optional member must be, or it is ignored.
#[derive(Clone, Copy)]
enum Form {
    Direction,
    Text,
    Url,
    Flag,
    Moment,
    Pattern,
    Badge,
    Actions,
}

const OF_MESSAGE: [(&str, Form); 2] = [("mutable", Form::Flag), ("app_badge", Form::Badge)];

const OF_NOTIFICATION: [(&str, Form); 13] = [
    ("dir", Form::Direction),
    ("lang", Form::Text),
    ("body", Form::Text),
    ("tag", Form::Text),
    ("image", Form::Url),
    ("icon", Form::Url),
    ("badge", Form::Url),
    ("vibrate", Form::Pattern),
    ("timestamp", Form::Moment),
    ("renotify", Form::Flag),
    ("silent", Form::Flag),
    ("requireInteraction", Form::Flag),
    ("actions", Form::Actions),
];

/// Finds the first optional member of the wrong form. One that is null is as good as absent.
fn minor_fault(message: &Map<String, Value>, notification: &Map<String, Value>) -> Option<String> {
    let wrong = |of: &Map<String, Value>, members: &[(&'static str, Form)]| {
        let fault = members.iter().find(|(name, form)| {
            let value = of.get(*name).filter(|value| !value.is_null());
            value.is_some_and(|value| !form.takes(value))
        });
        fault.map(|(name, form)| (*name, form.expected()))
    };
    if let Some((name, expected)) = wrong(message, &OF_MESSAGE) {
        return Some(format!("{name}: expected {expected}"));
    }
    let (name, expected) = wrong(notification, &OF_NOTIFICATION)?;
    Some(format!("notification.{name}: expected {expected}"))
}

impl Form {
    fn takes(self, value: &Value) -> bool {
        let all = |fits: fn(&Value) -> bool| value.as_array().is_some_and(|it| it.iter().all(fits));
        match self {
            Self::Direction => matches!(value.as_str(), Some("auto" | "ltr" | "rtl")),
            Self::Text => value.is_string(),
            Self::Url => value.as_str().is_some_and(is_url),
            Self::Flag => value.is_boolean(),
            Self::Moment => value.is_u64(),
            Self::Pattern => all(is_u32),
            // WebKit takes digits as well.
            Self::Badge => value.is_u64() || value.as_str().is_some_and(is_digits),
            Self::Actions => all(is_action),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Direction => "auto, ltr or rtl",
            Self::Text => "a string",
            Self::Url => "a URL",
            Self::Flag => "true or false",
            Self::Moment => "milliseconds since 1970",
            Self::Pattern => "a list of milliseconds",
            Self::Badge => "a number from 0 on",
            Self::Actions => "a list of objects with action, title and navigate, a URL",
        }
    }
}

fn is_u32(value: &Value) -> bool {
    value.as_u64().is_some_and(|it| u32::try_from(it).is_ok())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_action(value: &Value) -> bool {
    let text = |name| value.get(name).and_then(Value::as_str);
    let icon = value.get("icon").filter(|icon| !icon.is_null());
    text("action").is_some()
        && text("title").is_some()
        && text("navigate").is_some_and(is_url)
        && icon.is_none_or(|icon| Form::Url.takes(icon))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn full() -> Value {
        json!({
            "web_push": 8030,
            "notification": {
                "title": "Order shipped", "navigate": "https://shop.example/orders/42",
                "body": "It arrives tomorrow", "lang": "en", "dir": "ltr", "tag": "order-42",
                "icon": "/i.png", "image": null, "badge": "b.png", "silent": false,
                "renotify": true, "requireInteraction": true, "vibrate": [100, 50],
                "timestamp": 1_795_262_400_000_u64, "data": { "id": 42 },
                "actions": [
                    { "action": "track", "title": "Track", "navigate": "/t/42", "icon": "t.png" },
                ],
            },
            "app_badge": 3, "mutable": false, "own": [1],
        })
    }

    /// Judges the full message with one member in another form; null takes it away.
    fn with(pointer: &str, value: Value) -> Judgement {
        let mut message = full();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = message
            .pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap();
        parent.insert(name.to_owned(), value);
        parent.retain(|_, value| !value.is_null());
        judge(message.to_string().as_bytes())
    }

    #[test]
    fn what_every_user_agent_takes_is_declarative() {
        assert_eq!(judge(full().to_string().as_bytes()), Judgement::Declarative);
        let smallest =
            br#" {"web_push":8030.0,"notification":{"title":"t","navigate":"orders?id=1"}}"#;
        assert_eq!(judge(smallest), Judgement::Declarative);
        assert_eq!(with("/app_badge", json!("3")), Judgement::Declarative);
    }

    #[test]
    fn what_does_not_claim_to_be_declarative_is_left_alone() {
        for payload in [
            "",
            "hello",
            "[1]",
            "{",
            r#"{"notification":{}}"#,
            r#""web_push""#,
            r#"[{"web_push":1}]"#,
            r#"{"data":{"web_push":8030}}"#,
            "\u{0}\u{1}{\"web_push\":8030}",
        ] {
            assert_eq!(judge(payload.as_bytes()), Judgement::Ordinary, "{payload}");
        }
    }

    #[test]
    fn what_no_user_agent_takes_is_told() {
        for (pointer, value, fault) in [
            (
                "/web_push",
                json!("8030"),
                "web_push: expected the number 8030",
            ),
            (
                "/web_push",
                json!(8031),
                "web_push: expected the number 8030",
            ),
            (
                "/notification",
                json!("t"),
                "notification: expected an object",
            ),
            (
                "/notification",
                json!(null),
                "notification: expected an object",
            ),
            (
                "/notification/title",
                json!(null),
                "notification.title: expected a string that is not empty",
            ),
            (
                "/notification/title",
                json!(""),
                "notification.title: expected a string that is not empty",
            ),
            (
                "/notification/navigate",
                json!(null),
                "notification.navigate: expected a URL",
            ),
            (
                "/notification/navigate",
                json!("https://[bad"),
                "notification.navigate: expected a URL",
            ),
            (
                "/notification/tag",
                json!(null),
                "notification.renotify: expected a tag with it",
            ),
            (
                "/notification/silent",
                json!(true),
                "notification.silent: expected no vibrate with it",
            ),
        ] {
            let broken = Judgement::Broken(fault.to_owned());
            assert_eq!(with(pointer, value.clone()), broken, "{pointer} {value}");
        }
        let broken = Judgement::Broken("the payload: expected a JSON object".to_owned());
        assert_eq!(judge(br#"{"web_push":8030,}"#), broken);
    }

    #[test]
    fn a_member_that_is_ignored_is_told() {
        let action = json!([{ "action": "track", "title": "Track" }]);
        for (pointer, value, member) in [
            ("/mutable", json!("true"), "mutable: expected true or false"),
            (
                "/app_badge",
                json!(-1),
                "app_badge: expected a number from 0 on",
            ),
            (
                "/notification/dir",
                json!("up"),
                "notification.dir: expected auto, ltr or rtl",
            ),
            (
                "/notification/body",
                json!(1),
                "notification.body: expected a string",
            ),
            (
                "/notification/icon",
                json!("https://["),
                "notification.icon: expected a URL",
            ),
            (
                "/notification/vibrate",
                json!([1, -1]),
                "notification.vibrate: expected a list of milliseconds",
            ),
            (
                "/notification/timestamp",
                json!("2026"),
                "notification.timestamp: expected milliseconds since 1970",
            ),
            (
                "/notification/actions",
                action,
                "notification.actions: expected a list of objects with action, title and \
                 navigate, a URL",
            ),
        ] {
            let flawed = Judgement::Flawed(member.to_owned());
            assert_eq!(with(pointer, value.clone()), flawed, "{pointer} {value}");
        }
    }

    proptest! {
        #[test]
        fn nothing_but_a_notification_is_declarative(
            payload in r#"\{?("web_push":(8030)?)?[\[\]{}",:a-z0-9]{0,40}"#,
        ) {
            prop_assert_ne!(judge(payload.as_bytes()), Judgement::Declarative);
        }
    }
}
