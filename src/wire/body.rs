//! The event in the body of a message: without a byte order mark, and out of the CloudEvent that holds it.

use std::borrow::Cow;

use bytes::Bytes;
use lapin::BasicProperties;
use serde_json::value::RawValue;

use super::fault::Fault;
use super::json::{self, Object};
use crate::message::EventId;
use crate::subscription::decode_base64;

/// The media type of a CloudEvent in structured mode (CloudEvents 1.0, JSON format §3).
const CLOUD_EVENT: &str = "application/cloudevents+json";

/// The one major version of CloudEvents that is read.
const SPEC_VERSION: &str = "1.";

/// The members of a CloudEvent that mean something here.
const MEMBERS: [&str; 4] = ["specversion", "id", "data", "data_base64"];

/// The text of an event, and what the message around it calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBody {
    /// The text of the event.
    pub text: Bytes,
    /// The `id` of the CloudEvent.
    pub id: Option<EventId>,
}

/// Finds the event in the body of a message.
///
/// # Errors
/// If the message is called a CloudEvent and is none of version 1 with data.
pub fn open(properties: &BasicProperties, body: &Bytes) -> Result<EventBody, Fault> {
    let text = without_byte_order_mark(body);
    match properties.content_type() {
        Some(content_type) if media_type(content_type.as_str()) == CLOUD_EVENT => {
            open_cloud_event(&text)
        }
        _ => Ok(EventBody { text, id: None }),
    }
}

/// Returns a media type in lower case without its parameters.
pub(super) fn media_type(content_type: &str) -> String {
    let (media_type, _) = content_type.split_once(';').unwrap_or((content_type, ""));
    media_type.trim().to_ascii_lowercase()
}

fn without_byte_order_mark(body: &Bytes) -> Bytes {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let length = if body.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len()
    } else {
        0
    };
    body.slice(length..)
}

fn open_cloud_event(text: &Bytes) -> Result<EventBody, Fault> {
    let json = str::from_utf8(text).unwrap_or_default();
    let (object, read) = Object::read(json, &MEMBERS);
    if read.is_err() {
        let sentence = format!("expected a JSON object, as the content type {CLOUD_EVENT} says");
        return Err(Fault::malformed("", sentence));
    }
    let [version, id, data, data_base64] = object.values;
    let version = version.and_then(json::string);
    if !version.is_some_and(|version| version.starts_with(SPEC_VERSION)) {
        let sentence = "expected 1.0; this daemon reads CloudEvents of version 1";
        return Err(Fault::malformed("specversion", sentence));
    }
    Ok(EventBody {
        text: data_of(text, data, data_base64)?,
        id: id.and_then(json::string).and_then(|id| EventId::parse(&id)),
    })
}

/// Reads what a CloudEvent carries (JSON format §3.1).
fn data_of(
    text: &Bytes,
    data: Option<&RawValue>,
    data_base64: Option<&RawValue>,
) -> Result<Bytes, Fault> {
    match (data, data_base64) {
        (Some(data), None) if data.get().starts_with('{') => {
            Ok(text.slice_ref(data.get().as_bytes()))
        }
        (Some(data), None) => Err(Fault::kind("data", "an object, the event", data)),
        (None, Some(encoded)) => {
            let decoded: Option<Cow<'_, str>> = json::string(encoded);
            let decoded = decoded.and_then(|encoded| decode_base64(&encoded));
            let fault = || Fault::malformed("data_base64", "expected base64 of the event");
            decoded.map(Bytes::from).ok_or_else(fault)
        }
        (Some(_), Some(_)) => {
            let sentence = "expected either `data` or `data_base64`; got both";
            Err(Fault::malformed("data_base64", sentence))
        }
        (None, None) => {
            let sentence = "is missing; the data of a CloudEvent is the event";
            Err(Fault::malformed("data", sentence))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(content_type: &'static str, body: &'static str) -> Result<EventBody, String> {
        let properties = BasicProperties::default().with_content_type(content_type.into());
        open(&properties, &Bytes::from_static(body.as_bytes())).map_err(|it| it.to_string())
    }

    #[test]
    fn a_byte_order_mark_before_the_event_is_not_read() {
        for (body, text) in [
            ("\u{feff}{}", "{}"),
            ("{}", "{}"),
            ("", ""),
            ("\u{feff}", ""),
        ] {
            let body = opened("application/json", body).unwrap();
            assert_eq!((body.text, body.id), (Bytes::from(text), None));
        }
    }

    #[test]
    fn the_data_of_a_cloud_event_is_the_event() {
        for content_type in [
            "application/cloudevents+json",
            "Application/CloudEvents+JSON; charset=utf-8",
        ] {
            for body in [
                r#"{"specversion":"1.0","id":"c1","source":"/shop","type":"push","data":{"a" : 1}}"#,
                r#"{"data_base64":"eyJhIiA6IDF9","id":"c1","specversion":"1.0","data":null}"#,
            ] {
                let event = opened(content_type, body).unwrap();
                assert_eq!(event.text, r#"{"a" : 1}"#);
                assert_eq!(event.id, EventId::parse("c1"));
            }
        }
        let whole = r#"{"specversion":"1.0","data":{}}"#;
        assert_eq!(opened("application/json", whole).unwrap().text, whole);
    }

    #[test]
    fn a_cloud_event_without_an_event_is_told_what_it_lacks() {
        for (body, sentence) in [
            (
                "[]",
                "expected a JSON object, as the content type application/cloudevents+json says",
            ),
            (
                r#"{"specversion":"0.3","data":{}}"#,
                "specversion: expected 1.0; this daemon reads CloudEvents of version 1",
            ),
            (
                r#"{"specversion":"1.0"}"#,
                "data: is missing; the data of a CloudEvent is the event",
            ),
            (
                r#"{"specversion":"1.0","data":"{}"}"#,
                "data: expected an object, the event; got a string",
            ),
            (
                r#"{"specversion":"1.0","data_base64":"%"}"#,
                "data_base64: expected base64 of the event",
            ),
            (
                r#"{"specversion":"1.0","data":{},"data_base64":""}"#,
                "data_base64: expected either `data` or `data_base64`; got both",
            ),
        ] {
            let fault = opened(CLOUD_EVENT, body).unwrap_err();
            assert_eq!(fault, sentence);
        }
    }
}
