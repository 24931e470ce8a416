//! How each member of an event is read: one rule of the contract's table each (examples/README.md, "The event").
//!
//! A reader takes the member's path, for the fault, and its text, which is never `null`.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::time::SystemTime;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::value::RawValue;

use super::fault::Fault;
use super::json;
use crate::app::Results;
use crate::message::{Coding, EventId, Name, Topic, Urgency};
use crate::outcome::Reason;
use crate::subscription::decode_base64;

/// The version of the contract that is spoken here.
const VERSION: &str = "1";

/// The most bytes of JSON that a member `metadata` may have.
pub(super) const METADATA_LIMIT: usize = 4096;

/// The longest name of a campaign, in bytes.
const GROUP_LIMIT: usize = 128;

/// The longest name a producer may give a recipient, in bytes.
const RECIPIENT_ID_LIMIT: usize = 255;

/// The most recipients a second that an event may ask for.
const PER_SECOND_LIMIT: u32 = 100_000;

/// The most digits that a number of seconds may have.
const DIGIT_LIMIT: usize = 64;

/// The most bytes of JSON that a time may take: room for each character written as an escape.
const TIME_TEXT_LIMIT: usize = 256;

pub(super) fn version(path: &'static str, raw: &RawValue) -> Result<(), Fault> {
    match json::integer(raw) {
        Some(VERSION) => Ok(()),
        Some(_) => Err(
            Fault::malformed(path, "this daemon speaks version 1 of the contract only")
                .because(Reason::UnsupportedVersion),
        ),
        None => Err(Fault::kind(path, "the integer 1", raw)),
    }
}

pub(super) fn event_id(path: &'static str, raw: &RawValue) -> Result<EventId, Fault> {
    const EXPECTED: &str = "expected 1 to 128 bytes of printable ASCII, or an integer";
    let text = json::integer(raw).map(Cow::Borrowed);
    let Some(text) = text.or_else(|| json::string(raw)) else {
        return Err(Fault::kind(path, "a string or an integer", raw));
    };
    EventId::parse(&text)
        .ok_or_else(|| Fault::malformed(path, format!("{EXPECTED}; got {} bytes", text.len())))
}

pub(super) fn name(path: &'static str, raw: &RawValue) -> Result<Name, Fault> {
    const EXPECTED: &str = "expected 1 to 64 of the characters a-z 0-9 _ -";
    let text = string(path, raw)?;
    Name::parse(&text).ok_or_else(|| Fault::malformed(path, EXPECTED))
}

pub(super) fn group<'a>(path: &'static str, raw: &'a RawValue) -> Result<Cow<'a, str>, Fault> {
    bounded(path, string(path, raw)?, GROUP_LIMIT)
}

/// Returns the characters of a name that may be a string or an integer.
pub(super) fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    json::integer(raw)
        .map(Cow::Borrowed)
        .or_else(|| json::string(raw))
}

/// Reads the producer's name for a recipient, which goes back as it came.
pub(super) fn recipient_id<'a>(
    path: &'static str,
    raw: &'a RawValue,
) -> Result<&'a RawValue, Fault> {
    let text = json::integer(raw).map(Cow::Borrowed);
    let Some(text) = text.or_else(|| json::string(raw)) else {
        return Err(Fault::kind(path, "a string or an integer", raw));
    };
    bounded(path, text, RECIPIENT_ID_LIMIT).map(|_| raw)
}

/// How many levels of objects and arrays a member `metadata` may have; every JSON parser reads so
/// many.
const METADATA_DEPTH_LIMIT: usize = 64;

/// Reads what results repeat of an event, which any JSON parser must be able to read.
pub(super) fn metadata<'a>(
    path: &'static str,
    raw: &'a RawValue,
) -> Result<Cow<'a, RawValue>, Fault> {
    let text = raw.get();
    if !text.starts_with('{') && !json::is_empty_array(raw) {
        return Err(Fault::kind(path, "an object", raw));
    }
    if text.len() > METADATA_LIMIT {
        let found = format!(
            "expected an object of at most {METADATA_LIMIT} bytes; got {}",
            text.len()
        );
        return Err(Fault::malformed(path, found));
    }
    if json::is_empty_array(raw) {
        let empty: serde_json::Result<&RawValue> = serde_json::from_str("{}");
        return empty
            .map(Cow::Borrowed)
            .map_err(|_| Fault::kind(path, "an object", raw));
    }
    if json::depth(raw) > METADATA_DEPTH_LIMIT {
        let expected = format!("expected an object of at most {METADATA_DEPTH_LIMIT} levels");
        return Err(Fault::malformed(path, expected));
    }
    Ok(json::with_whole_characters(raw))
}

/// Reads a number of recipients a second.
pub(super) fn per_second(path: &'static str, raw: &RawValue) -> Result<NonZeroU32, Fault> {
    const EXPECTED: &str = "an integer of recipients a second, from 1 to 100000";
    let digits = json::integer(raw).ok_or_else(|| Fault::kind(path, EXPECTED, raw))?;
    digits
        .parse::<NonZeroU32>()
        .ok()
        .filter(|count| count.get() <= PER_SECOND_LIMIT)
        .ok_or_else(|| Fault::malformed(path, format!("expected {EXPECTED}")))
}

/// Reads a number of seconds; one beyond 64 bits counts as the largest.
pub(super) fn seconds(path: &'static str, raw: &RawValue) -> Result<u64, Fault> {
    const EXPECTED: &str = "an integer of seconds, 0 or more";
    match json::integer(raw) {
        Some("-0") => Ok(0),
        Some(digits) if digits.starts_with('-') => Err(Fault::malformed(
            path,
            format!("expected {EXPECTED}; got a negative one"),
        )),
        Some(digits) if digits.len() > DIGIT_LIMIT => Err(Fault::malformed(
            path,
            format!("expected {EXPECTED}; got one of {} digits", digits.len()),
        )),
        Some(digits) => Ok(digits.parse().unwrap_or(u64::MAX)),
        None => Err(Fault::kind(path, EXPECTED, raw)),
    }
}

pub(super) fn time(path: &'static str, raw: &RawValue) -> Result<SystemTime, Fault> {
    const EXPECTED: &str =
        "expected an RFC 3339 time with its offset, such as \"2026-03-14T09:26:53Z\"";
    let text = json::string(raw)
        .ok_or_else(|| Fault::malformed(path, format!("{EXPECTED}; got {}", json::kind(raw))))?;
    if raw.get().len() > TIME_TEXT_LIMIT {
        return Err(Fault::malformed(path, EXPECTED));
    }
    text.parse::<Timestamp>()
        .map(SystemTime::from)
        .map_err(|_| Fault::malformed(path, EXPECTED))
}

pub(super) fn urgency(path: &'static str, raw: &RawValue) -> Result<Urgency, Fault> {
    word(path, raw, "very-low, low, normal, high", Urgency::parse)
}

pub(super) fn coding(path: &'static str, raw: &RawValue) -> Result<Coding, Fault> {
    word(path, raw, "aes128gcm, aesgcm", Coding::parse)
}

pub(super) fn results(path: &'static str, raw: &RawValue) -> Result<Results, Fault> {
    word(path, raw, "all, failures, none", Results::parse)
}

/// Reads a topic and returns whether it had to be replaced; an empty one is none.
///
/// Typed languages write their empty string for "no topic". A stand-in for it would make all of
/// a subscriber's messages replace one another.
pub(super) fn topic(path: &'static str, raw: &RawValue) -> Result<Option<(Topic, bool)>, Fault> {
    let text = string(path, raw)?;
    Ok(match Topic::parse(&text) {
        Some(topic) => Some((topic, false)),
        None if text.is_empty() => None,
        None => Some((Topic::hashed(&text), true)),
    })
}

/// Reads a payload: a string as its characters, anything else as its text, without copying what
/// stands in `body` as it is to be sent.
pub(super) fn payload(body: &Bytes, path: &'static str, raw: &RawValue) -> Result<Bytes, Fault> {
    if !raw.get().starts_with('"') {
        return Ok(body.slice_ref(raw.get().as_bytes()));
    }
    Ok(match string(path, raw)? {
        Cow::Borrowed(text) => body.slice_ref(text.as_bytes()),
        Cow::Owned(text) => text.into(),
    })
}

pub(super) fn payload_base64(path: &'static str, raw: &RawValue) -> Result<Bytes, Fault> {
    const EXPECTED: &str = "expected base64url or base64";
    decode_base64(&string(path, raw)?)
        .map(Bytes::from)
        .ok_or_else(|| Fault::malformed(path, EXPECTED))
}

pub(super) fn string<'a>(path: &'static str, raw: &'a RawValue) -> Result<Cow<'a, str>, Fault> {
    json::string(raw).ok_or_else(|| Fault::kind(path, "a string", raw))
}

pub(super) fn bounded<'a>(
    path: &'static str,
    text: Cow<'a, str>,
    limit: usize,
) -> Result<Cow<'a, str>, Fault> {
    if (1..=limit).contains(&text.len()) {
        return Ok(text);
    }
    let found = format!("expected 1 to {limit} bytes; got {}", text.len());
    Err(Fault::malformed(path, found))
}

pub(super) fn word<T>(
    path: &'static str,
    raw: &RawValue,
    words: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Fault> {
    parse(&string(path, raw)?)
        .ok_or_else(|| Fault::malformed(path, format!("expected one of {words}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_event_is_named_by_a_string_or_an_integer() {
        for (text, name) in [
            (r#""order-1""#, "order-1"),
            ("1234", "1234"),
            (r#""a\/b""#, "a/b"),
        ] {
            assert_eq!(event_id("id", raw(text)).unwrap().as_str(), name);
        }
        let long = format!("\"{}\"", "x".repeat(300));
        for (text, sentence) in [
            (
                &*long,
                "id: expected 1 to 128 bytes of printable ASCII, or an integer; got 300 bytes",
            ),
            (
                "1.5",
                "id: expected a string or an integer; got a number with a fraction or an exponent",
            ),
            ("{}", "id: expected a string or an integer; got an object"),
            (
                r#""""#,
                "id: expected 1 to 128 bytes of printable ASCII, or an integer; got 0 bytes",
            ),
        ] {
            assert_eq!(event_id("id", raw(text)).unwrap_err().to_string(), sentence);
        }
    }

    #[test]
    fn seconds_are_whole_and_not_negative() {
        for (text, expected) in [
            ("0", 0),
            ("60", 60),
            ("1099511627776", 1 << 40),
            ("99999999999999999999999", u64::MAX),
        ] {
            assert_eq!(seconds("ttl", raw(text)), Ok(expected));
        }
        for (text, found) in [
            ("-1", "a negative one"),
            ("60.0", "a number with a fraction or an exponent"),
            (r#""60""#, "a string"),
            ("true", "true"),
            ("[]", "an array"),
        ] {
            let sentence = format!("ttl: expected an integer of seconds, 0 or more; got {found}");
            assert_eq!(seconds("ttl", raw(text)).unwrap_err().to_string(), sentence);
        }
    }

    #[test]
    fn a_pace_is_one_recipient_a_second_or_more() {
        let read = |text| per_second("max_per_second", raw(text));
        for (text, expected) in [("1", 1), ("100000", 100_000)] {
            assert_eq!(read(text).map(NonZeroU32::get), Ok(expected));
        }
        let expected =
            "max_per_second: expected an integer of recipients a second, from 1 to 100000";
        for text in ["0", "100001", "99999999999999999999999"] {
            assert_eq!(read(text).unwrap_err().to_string(), expected);
        }
        for (text, found) in [
            ("0.5", "a number with a fraction or an exponent"),
            (r#""5""#, "a string"),
        ] {
            let sentence = format!("{expected}; got {found}");
            assert_eq!(read(text).unwrap_err().to_string(), sentence);
        }
    }

    #[test]
    fn times_are_rfc_3339_with_an_offset() {
        let expected = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        for text in [
            "2023-11-14T22:13:20.250Z",
            "2023-11-14T23:13:20.25+01:00",
            "2023-11-14t22:13:20.250z",
        ] {
            assert_eq!(
                time("t", raw(&format!("\"{text}\""))),
                Ok(expected),
                "{text}"
            );
        }
        for text in [
            "1700000000",
            r#""1700000000""#,
            r#""2023-11-14T22:13:20""#,
            r#""2023-13-14T22:13:20Z""#,
            r#""""#,
            r#""tomorrow""#,
        ] {
            let fault = time("deliver_at", raw(text)).unwrap_err().to_string();
            assert!(
                fault.starts_with("deliver_at: expected an RFC 3339 time"),
                "{fault}"
            );
        }
        for text in [r#""0001-01-01T00:00:00Z""#, r#""9999-12-30T00:00:00Z""#] {
            assert!(time("t", raw(text)).is_ok(), "{text}");
        }
    }

    #[test]
    fn words_are_of_a_closed_set() {
        assert_eq!(
            urgency("urgency", raw(r#""very-low""#)),
            Ok(Urgency::VeryLow)
        );
        assert_eq!(
            results("results", raw(r#""failures""#)),
            Ok(Results::Failures)
        );
        assert_eq!(
            coding("content_encoding", raw(r#""aesgcm""#)),
            Ok(Coding::AesGcm)
        );
        for text in [r#""High""#, r#""urgent""#, r#""""#] {
            assert_eq!(
                urgency("urgency", raw(text)).unwrap_err().to_string(),
                "urgency: expected one of very-low, low, normal, high"
            );
        }
        assert_eq!(
            urgency("urgency", raw("3")).unwrap_err().to_string(),
            "urgency: expected a string; got an integer"
        );
    }

    #[test]
    fn metadata_is_an_object_within_its_limit() {
        let fits = format!(r#"{{"a":"{}"}}"#, "x".repeat(METADATA_LIMIT - 8));
        assert_eq!(metadata("metadata", raw(&fits)).unwrap().get(), fits);
        assert_eq!(metadata("metadata", raw("[]")).unwrap().get(), "{}");
        let over = format!(r#"{{"a":"{}"}}"#, "x".repeat(METADATA_LIMIT - 7));
        for (text, sentence) in [
            (
                &*over,
                "metadata: expected an object of at most 4096 bytes; got 4097",
            ),
            (
                &*format!(r#"{{"a":{}{}}}"#, "[".repeat(64), "]".repeat(64)),
                "metadata: expected an object of at most 64 levels",
            ),
            ("[1]", "metadata: expected an object; got an array"),
            (r#""{}""#, "metadata: expected an object; got a string"),
        ] {
            assert_eq!(
                metadata("metadata", raw(text)).unwrap_err().to_string(),
                sentence
            );
        }
    }

    #[test]
    fn a_topic_is_sent_replaced_or_left_out() {
        let sent = Topic::parse("orders").map(|topic| (topic, false));
        assert!(sent.is_some());
        assert_eq!(topic("topic", raw(r#""orders""#)), Ok(sent));
        assert_eq!(topic("topic", raw(r#""""#)), Ok(None));
        let long = format!("\"{}\"", "x".repeat(33));
        assert!(topic("topic", raw(&long)).unwrap().unwrap().1);
        assert!(topic("topic", raw("5")).is_err());
    }

    #[test]
    fn a_payload_keeps_its_bytes() {
        let body = Bytes::from_static(br#"["a\u00e9\n", "plain", {"b" : [1.0, 2e1]}, 7, ""]"#);
        let raws: Vec<&RawValue> = serde_json::from_slice(&body).unwrap();
        let sent: Vec<Bytes> = raws
            .iter()
            .map(|raw| payload(&body, "payload", raw).unwrap())
            .collect();
        let expected: [&[u8]; 5] = [
            "a\u{e9}\n".as_bytes(),
            b"plain",
            br#"{"b" : [1.0, 2e1]}"#,
            b"7",
            b"",
        ];
        assert_eq!(sent, expected);
        assert_eq!(
            payload(&body, "payload", raw(r#""\udc00""#))
                .unwrap_err()
                .to_string(),
            "payload: expected a string; got a string with half of a surrogate pair, such as of an \
             emoji that was cut in two; cut text between characters"
        );
        assert_eq!(
            payload_base64("payload_base64", raw(r#""AP8=""#)).unwrap()[..],
            [0, 255]
        );
        assert!(payload_base64("payload_base64", raw(r#""%%""#)).is_err());
    }

    #[test]
    fn other_versions_are_told_apart_from_nonsense() {
        assert_eq!(version("version", raw("1")), Ok(()));
        assert_eq!(
            version("version", raw("2")).unwrap_err().reason,
            Reason::UnsupportedVersion
        );
        for text in ["\"1\"", "1.0", "{}"] {
            assert_eq!(
                version("version", raw(text)).unwrap_err().reason,
                Reason::MalformedEvent
            );
        }
    }
}
