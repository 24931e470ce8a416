//! The member `notification`: what a user agent shows, written as a declarative message
//! (Push API, "declarative push message"; classify/README.md §7).
//!
//! Why it is stricter than the user agents: they ignore an optional member of the wrong form without a
//! message.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use url::Url;

use super::fault::{Fault, Faults};
use super::json::{self, List, Object};
use super::member;

/// The members of a notification.
pub const MEMBERS: [&str; 11] = [
    "title",
    "navigate",
    "body",
    "icon",
    "tag",
    "lang",
    "dir",
    "silent",
    "actions",
    "data",
    "app_badge",
];

/// The members of an action.
pub const ACTION_MEMBERS: [&str; 4] = ["action", "title", "navigate", "icon"];

/// The most actions that a notification may have; user agents show two or three.
pub const ACTION_LIMIT: usize = 8;

/// The most levels of objects and arrays that `data` may have; every JSON parser reads so many.
pub const DATA_DEPTH_LIMIT: usize = 64;

/// The largest number that JavaScript keeps exact.
pub const BADGE_LIMIT: u64 = (1 << 53) - 1;

/// The number that tells a declarative message from other JSON: that of RFC 8030.
const MAGIC: u32 = 8030;

const URL: &str = "an absolute https URL, or one of http://localhost";

const TEXT: &str = "a string that is not empty";

/// Reads a notification and writes the message that shows it.
pub(super) fn notification(path: &'static str, raw: &RawValue) -> Result<Bytes, Fault> {
    let Some(object) = Object::of(raw, &MEMBERS) else {
        let expected = "an object with `title` and `navigate`";
        return Err(Fault::kind(path, expected, raw));
    };
    let mut faults = Faults::default();
    let message = Message::read(object, &mut faults);
    if let Some(fault) = faults.first() {
        return Err(fault.under(path));
    }
    let written = serde_json::to_vec(&message);
    written
        .map(Bytes::from)
        .map_err(|error| Fault::malformed(path, error.to_string()))
}

/// A declarative message.
#[derive(Serialize)]
struct Message<'a> {
    web_push: u32,
    notification: Notification<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_badge: Option<u64>,
}

#[derive(Serialize)]
struct Notification<'a> {
    title: Cow<'a, str>,
    navigate: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icon: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lang: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dir: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    silent: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actions: Vec<Action<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Cow<'a, RawValue>>,
}

#[derive(Serialize)]
struct Action<'a> {
    action: Cow<'a, str>,
    title: Cow<'a, str>,
    navigate: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icon: Option<Cow<'a, str>>,
}

impl<'a> Message<'a> {
    fn read(object: Object<'a, { MEMBERS.len() }>, faults: &mut Faults) -> Self {
        faults.note_unknown(&object, &MEMBERS);
        let [title, navigate, body, icon, tag, lang, rest @ ..] = object.values;
        let [dir, silent, actions, data, app_badge] = rest;
        let notification = Notification {
            title: required(faults, "title", title, TEXT, text),
            navigate: required(faults, "navigate", navigate, URL, absolute),
            body: faults.read("body", body, member::string),
            icon: faults.read("icon", icon, relative),
            tag: faults.read("tag", tag, member::string),
            lang: faults.read("lang", lang, member::string),
            dir: faults.read("dir", dir, direction),
            silent: faults.read("silent", silent, flag),
            actions: faults.read("actions", actions, list).unwrap_or_default(),
            data: faults.read("data", data, any),
        };
        Self {
            web_push: MAGIC,
            notification,
            app_badge: faults.read("app_badge", app_badge, badge),
        }
    }
}

impl<'a> Action<'a> {
    fn read(raw: &'a RawValue) -> Result<Self, Fault> {
        let Some(object) = Object::of(raw, &ACTION_MEMBERS) else {
            let expected = "an object with `action`, `title` and `navigate`";
            return Err(Fault::kind("", expected, raw));
        };
        let mut faults = Faults::default();
        faults.note_unknown(&object, &ACTION_MEMBERS);
        let [action, title, navigate, icon] = object.values;
        let read = Self {
            action: required(&mut faults, "action", action, TEXT, text),
            title: required(&mut faults, "title", title, TEXT, text),
            navigate: required(&mut faults, "navigate", navigate, URL, absolute),
            icon: faults.read("icon", icon, relative),
        };
        faults.first().map_or(Ok(read), Err)
    }
}

/// Reads a member that must be there.
fn required<'a>(
    faults: &mut Faults,
    path: &'static str,
    raw: Option<&'a RawValue>,
    expected: &str,
    reader: impl FnOnce(&'static str, &'a RawValue) -> Result<Cow<'a, str>, Fault>,
) -> Cow<'a, str> {
    if raw.is_none() {
        let sentence = format!("is missing; expected {expected}");
        faults.note(Fault::malformed(path, sentence));
    }
    faults.read(path, raw, reader).unwrap_or_default()
}

fn text<'a>(path: &'static str, raw: &'a RawValue) -> Result<Cow<'a, str>, Fault> {
    let text = member::string(path, raw)?;
    if text.is_empty() {
        return Err(Fault::malformed(path, format!("expected {TEXT}")));
    }
    Ok(text)
}

/// Reads where a click leads. A path alone would lead into the scope of whichever page subscribed.
fn absolute<'a>(path: &'static str, raw: &'a RawValue) -> Result<Cow<'a, str>, Fault> {
    let text = member::string(path, raw)?;
    let is_local = |url: &Url| url.host_str() == Some("localhost");
    let is_right = match Url::parse(&text) {
        Ok(_) if text.starts_with("https://") => true,
        Ok(url) if text.starts_with("http://") => is_local(&url),
        _ => false,
    };
    if is_right {
        return Ok(text);
    }
    Err(Fault::malformed(path, format!("expected {URL}")))
}

/// Reads the URL of an image, which may be relative to the page that subscribed.
fn relative<'a>(path: &'static str, raw: &'a RawValue) -> Result<Cow<'a, str>, Fault> {
    let text = member::string(path, raw)?;
    if is_url(&text) {
        return Ok(text);
    }
    Err(Fault::malformed(path, "expected a URL"))
}

/// Returns whether a text is a URL to the page that subscribed, which may leave out its own origin.
#[must_use]
pub fn is_url(text: &str) -> bool {
    // Any origin will do, for it is only known in the browser.
    let page = Url::parse("https://page.example/").ok();
    Url::options().base_url(page.as_ref()).parse(text).is_ok()
}

fn direction(path: &'static str, raw: &RawValue) -> Result<&'static str, Fault> {
    let known = ["auto", "ltr", "rtl"];
    let parse = |word: &str| known.into_iter().find(|known| *known == word);
    member::word(path, raw, "auto, ltr, rtl", parse)
}

fn flag(path: &'static str, raw: &RawValue) -> Result<bool, Fault> {
    let read = raw.get().parse();
    read.map_err(|_| Fault::kind(path, "true or false", raw))
}

fn badge(path: &'static str, raw: &RawValue) -> Result<u64, Fault> {
    let number = json::integer(raw).and_then(|digits| digits.parse().ok());
    number
        .filter(|number| *number <= BADGE_LIMIT)
        .ok_or_else(|| Fault::malformed(path, format!("expected an integer, 0 to {BADGE_LIMIT}")))
}

fn list<'a>(path: &'static str, raw: &'a RawValue) -> Result<Vec<Action<'a>>, Fault> {
    let Some(list) = List::of(raw, ACTION_LIMIT) else {
        return Err(Fault::kind(path, "an array of objects", raw));
    };
    if list.count > ACTION_LIMIT {
        let sentence = format!("expected at most {ACTION_LIMIT}; got {}", list.count);
        return Err(Fault::malformed(path, sentence));
    }
    let numbered = list.elements.into_iter().enumerate();
    numbered
        .map(|(index, raw)| {
            Action::read(raw).map_err(|fault| fault.under(&format!("{path}[{index}]")))
        })
        .collect()
}

fn any<'a>(path: &'static str, raw: &'a RawValue) -> Result<Cow<'a, RawValue>, Fault> {
    if json::depth(raw) > DATA_DEPTH_LIMIT {
        let sentence = format!("expected at most {DATA_DEPTH_LIMIT} levels");
        return Err(Fault::malformed(path, sentence));
    }
    Ok(json::with_whole_characters(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<String, String> {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let written = notification("notification", raw).map_err(|fault| fault.to_string())?;
        Ok(String::from_utf8(written.to_vec()).unwrap())
    }

    fn with(member: &str) -> Result<String, String> {
        let needed = r#""title":"t","navigate":"https://shop.example/""#;
        written(&format!("{{{needed},{member}}}"))
    }

    #[test]
    fn a_notification_is_written_as_a_declarative_message() {
        let smallest =
            r#"{"title":"t","navigate":"http://localhost:8080/a","body":null,"actions":[]}"#;
        assert_eq!(
            written(smallest).unwrap(),
            r#"{"web_push":8030,"notification":{"title":"t","navigate":"http://localhost:8080/a"}}"#
        );
        let all = r#" { "app_badge": 3, "data": {"id" : 42}, "silent": false, "dir": "ltr", "lang": "ru",
            "tag": "", "icon": "/i.png", "body": "\u0410", "navigate": "https://shop.example/42",
            "actions": [{ "icon": "t.png", "navigate": "https://shop.example/t", "title": "Track",
              "action": "track" }], "title": "Sent" }"#;
        assert_eq!(
            written(all).unwrap(),
            "{\"web_push\":8030,\"notification\":{\"title\":\"Sent\",\
             \"navigate\":\"https://shop.example/42\",\"body\":\"\u{410}\",\"icon\":\"/i.png\",\
             \"tag\":\"\",\"lang\":\"ru\",\"dir\":\"ltr\",\"silent\":false,\
             \"actions\":[{\"action\":\"track\",\"title\":\"Track\",\
             \"navigate\":\"https://shop.example/t\",\"icon\":\"t.png\"}],\"data\":{\"id\" : 42}},\
             \"app_badge\":3}"
        );
    }

    #[test]
    fn what_a_notification_must_have_is_told() {
        for (text, sentence) in [
            (
                "7",
                "notification: expected an object with `title` and `navigate`; got an integer",
            ),
            (
                "[]",
                "notification.title: is missing; expected a string that is not empty",
            ),
            (
                r#"{"title":"","navigate":"https://a.example/"}"#,
                "notification.title: expected a string that is not empty",
            ),
            (
                r#"{"title":"t","navigate":null}"#,
                "notification.navigate: is missing; expected an absolute https URL, or one of \
                 http://localhost",
            ),
        ] {
            assert_eq!(written(text).unwrap_err(), sentence);
        }
        for url in [
            "/orders",
            "http://shop.example/",
            "http://localhost.example/",
            "https://[",
            "javascript:alert(1)",
            " https://a.example/",
            "",
        ] {
            let text = format!(r#"{{"title":"t","navigate":"{url}"}}"#);
            assert_eq!(
                written(&text).unwrap_err(),
                "notification.navigate: expected an absolute https URL, or one of http://localhost",
                "{url}"
            );
        }
    }

    #[test]
    fn an_optional_member_of_the_wrong_form_is_told() {
        let action = r#"{"action":"a","title":"t","navigate":"https://a.example/"}"#;
        let nine = format!(r#""actions":[{}]"#, [action; 9].join(","));
        let deep = format!(r#""data":{}{}"#, "[".repeat(65), "]".repeat(65));
        for (member, sentence) in [
            (r#""body":1"#, "body: expected a string; got an integer"),
            (r#""icon":"https://[""#, "icon: expected a URL"),
            (r#""dir":"up""#, "dir: expected one of auto, ltr, rtl"),
            (
                r#""silent":"no""#,
                "silent: expected true or false; got a string",
            ),
            (
                r#""app_badge":-1"#,
                "app_badge: expected an integer, 0 to 9007199254740991",
            ),
            (
                r#""app_badge":9007199254740992"#,
                "app_badge: expected an integer, 0 to 9007199254740991",
            ),
            (
                r#""actions":{}"#,
                "actions: expected an array of objects; got an object",
            ),
            (
                r#""actions":[{"action":"a","title":"t"}]"#,
                "actions[0].navigate: is missing; expected an absolute https URL, or one of \
                 http://localhost",
            ),
            (
                r#""actions":["a"]"#,
                "actions[0]: expected an object with `action`, `title` and `navigate`; got a string",
            ),
            (&nine, "actions: expected at most 8; got 9"),
            (&deep, "data: expected at most 64 levels"),
            (
                r#""url":"x""#,
                "url: unknown member; did you mean `navigate`?",
            ),
            (
                r#""tag":"a","tag":"b""#,
                "tag: expected once; it is there twice",
            ),
        ] {
            assert_eq!(
                with(member).unwrap_err(),
                format!("notification.{sentence}")
            );
        }
    }

    #[test]
    fn a_cut_emoji_is_refused_in_text_and_replaced_in_data() {
        assert!(with(r#""body":"\ud83d""#).is_err());
        assert!(
            with(r#""data":"\ud83d""#)
                .unwrap()
                .contains(r#""data":"\ufffd""#)
        );
    }
}
