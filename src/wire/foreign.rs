//! Messages that are no event: which format or library they look like, and how to publish an event with it.
//!
//! Only the beginning of a body is searched, or the names of its outermost members.

use lapin::BasicProperties;
use lapin::types::FieldTable;

use super::body::media_type;
use super::fault::Fault;
use super::json::Object;

/// How many bytes of a body are searched for what it looks like.
const BEGINNING: usize = 256;

const GZIP: &str = "compressed (gzip); publish it without compression";
const ZLIB: &str =
    "compressed (zlib), as by compression of kombu and Celery; publish it without compression";
const JAVA: &str = "a serialized Java object; give RabbitTemplate a \
                    Jackson2JsonMessageConverter, or publish the bytes of the JSON";
const AMQP: &str = "a section of AMQP 1.0, as a value or a sequence is; send the bytes of the \
                    JSON in a data section";
const UTF_16: &str = "in UTF-16; publish JSON in UTF-8";
const CBOR: &str = "CBOR; publish JSON";
const MESSAGE_PACK: &str = "MessagePack; publish JSON";
const PICKLE: &str = "a Python pickle; publish json.dumps(event), or set serializer=\"json\"";
const PHP: &str = "from PHP's serialize(); publish json_encode($event), or set Symfony \
                   Messenger's serializer to messenger.transport.symfony_serializer";
const PROTOBUF: &str = "binary, perhaps Protocol Buffers; publish JSON";
const FORM: &str = "form-encoded; publish JSON";
const CELERY: &str =
    "a task of Celery; publish the event itself, with a Producer of kombu or with pika";
const CLOUD_EVENT: &str = "a CloudEvent; set the content type application/cloudevents+json";
const ZSTD: &str = "compressed (zstd); publish it without compression";
const DOT_NET: &str =
    "an object of .NET's BinaryFormatter; publish the bytes of JsonSerializer.Serialize(event)";
const JAVASCRIPT: &str =
    "JavaScript's text for an object; publish Buffer.from(JSON.stringify(event))";
const XML: &str = "XML; publish JSON, with a JSON serializer";
const ENCODED_TWICE: &str = "a JSON string that holds JSON; encode the event once, or publish it \
                             with a serializer that leaves text as it is";
const MASS_TRANSIT: &str =
    "an envelope of MassTransit; publish with its raw JSON serializer (UseRawJsonSerializer)";
const NEST_JS: &str = "an envelope of NestJS; publish the event on a channel of amqplib, or give \
                       the client a serializer that returns `data` alone";
const LARAVEL: &str =
    "a job of Laravel's queue; publish the event itself, with pushRaw or basic_publish";
const RUBY: &str =
    "a job of Active Job, Sidekiq or Resque; publish the event itself, as with Bunny";
const KOMBU: &str = "an envelope of kombu's other transports; publish the event itself over AMQP";
const CLOUD_EVENTS: &str = "a batch of CloudEvents; publish each as a message of its own";

/// The formats whose bodies begin with certain bytes. A row is the bytes and what such a body is.
const BEGINNINGS: [(&[u8], &str); 20] = [
    (b"\x1f\x8b", GZIP),
    (b"\x78\x01", ZLIB),
    (b"\x78\x5e", ZLIB),
    (b"\x78\x9c", ZLIB),
    (b"\x78\xda", ZLIB),
    (b"\x28\xb5\x2f\xfd", ZSTD),
    (b"BZh", "compressed (bzip2); publish it without compression"),
    (
        b"\xfd7zXZ",
        "compressed (xz); publish it without compression",
    ),
    (b"\xac\xed\x00\x05", JAVA),
    (b"\x00\x01\x00\x00\x00\xff\xff\xff\xff", DOT_NET),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
    (b"{\x00", UTF_16),
    (b"\x00{", UTF_16),
    (b"\xd9\xd9\xf7", CBOR),
    (b"<", XML),
    (b"[object ", JAVASCRIPT),
    (b"{'", "Python's text for a dict; publish json.dumps(event)"),
    (b"\"{", ENCODED_TWICE),
    (
        b"\"ey",
        "base64 of JSON in a JSON string; publish the JSON itself",
    ),
];

/// The media types and codings of bodies that are not JSON. A row is the name and what such a body is.
const MEDIA_TYPES: [(&str, &str); 17] = [
    ("gzip", GZIP),
    ("deflate", ZLIB),
    ("zstd", ZSTD),
    ("br", "compressed (brotli); publish it without compression"),
    ("application/x-gzip", GZIP),
    ("application/x-java-serialized-object", JAVA),
    ("application/x-python-serialize", PICKLE),
    ("application/msgpack", MESSAGE_PACK),
    ("application/x-msgpack", MESSAGE_PACK),
    ("application/vnd.msgpack", MESSAGE_PACK),
    ("application/cbor", CBOR),
    ("application/protobuf", PROTOBUF),
    ("application/x-protobuf", PROTOBUF),
    ("application/vnd.google.protobuf", PROTOBUF),
    ("application/x-www-form-urlencoded", FORM),
    ("application/cloudevents-batch+json", CLOUD_EVENTS),
    ("application/xml", XML),
];

/// The envelopes of libraries. A row is the members that tell one, and what such a body is.
const ENVELOPES: [([&str; 2], &str); 10] = [
    (["messageType", "message"], MASS_TRANSIT),
    (["pattern", "data"], NEST_JS),
    (["job", "data"], LARAVEL),
    (["job_class", "arguments"], RUBY),
    (["class", "args"], RUBY),
    (["task", "args"], CELERY),
    (["task", "kwargs"], CELERY),
    (["body", "properties"], KOMBU),
    (["specversion", "data"], CLOUD_EVENT),
    (["specversion", "data_base64"], CLOUD_EVENT),
];

/// The members that tell envelopes, and those of an event, which no envelope has.
const MEMBERS: [&str; 17] = [
    "subscription",
    "recipients",
    "messageType",
    "message",
    "pattern",
    "data",
    "job",
    "job_class",
    "arguments",
    "class",
    "args",
    "task",
    "kwargs",
    "body",
    "properties",
    "specversion",
    "data_base64",
];

/// Describes a message that is no event: what its body looks like, and how to publish an event instead.
/// Returns `None` if it looks like an event that has a fault.
#[must_use]
pub fn describe(properties: &BasicProperties, body: &[u8]) -> Option<Fault> {
    let trimmed = body.trim_ascii();
    let found = match trimmed.first() {
        None => "empty; publish a JSON object",
        Some(b'{') => by_beginning(trimmed)
            .or_else(|| envelope(trimmed))
            .or_else(|| more_than_one(trimmed))?,
        Some(_) => by_beginning(trimmed)
            .or_else(|| by_properties(properties))
            .or_else(|| serialized(body))
            .unwrap_or_else(|| of_text(trimmed)),
    };
    Some(Fault::malformed("", format!("the body is {found}")))
}

fn by_beginning(body: &[u8]) -> Option<&'static str> {
    let mut rows = BEGINNINGS.iter();
    let found = rows.find(|(bytes, _)| body.starts_with(bytes));
    found.map(|(_, is)| *is)
}

/// Finds what the content type, the content encoding or a header of the library says.
fn by_properties(properties: &BasicProperties) -> Option<&'static str> {
    let of_headers = |headers: &FieldTable| {
        let is_celery = headers.inner().contains_key("task");
        is_celery.then_some(CELERY)
    };
    let said = [properties.content_encoding(), properties.content_type()];
    let mut said = said.into_iter().flatten();
    let row = |name: &str| MEDIA_TYPES.iter().find(|(known, _)| *known == name);
    let found = said.find_map(|said| row(&media_type(said.as_str())));
    let headers = properties.headers().as_ref();
    found
        .map(|(_, is)| *is)
        .or_else(|| headers.and_then(of_headers))
}

/// Recognizes the formats of serializers by the first bytes that they write for a map or an object.
fn serialized(body: &[u8]) -> Option<&'static str> {
    let is_text = |byte: u8| matches!(byte, 0xa0..=0xbf | 0xd9..=0xdb);
    match *body {
        [0x80, 2..=5, ..] => Some(PICKLE),
        [0x81..=0x8f, byte, ..] | [0xde, _, _, byte, ..] if is_text(byte) => Some(MESSAGE_PACK),
        [0xa1..=0xbf, 0x60..=0x7b, ..] => Some(CBOR),
        [b'a' | b'O' | b's', b':', b'0'..=b'9', ..] => Some(PHP),
        [0, b'S', 0x70..=0x78, ..] => Some(AMQP),
        _ if is_binary(body) => Some(PROTOBUF),
        _ => None,
    }
}

/// Returns whether the beginning of a body is not UTF-8 or has a control character.
fn is_binary(body: &[u8]) -> bool {
    let beginning = &body[..body.len().min(BEGINNING)];
    let is_text = |byte: &u8| !byte.is_ascii_control() || byte.is_ascii_whitespace();
    let is_utf_8 = match str::from_utf8(beginning) {
        Ok(_) => true,
        // The last character may be cut.
        Err(error) => error.error_len().is_none(),
    };
    !is_utf_8 || !beginning.iter().all(is_text)
}

/// Recognizes texts that are no JSON object.
fn of_text(body: &[u8]) -> &'static str {
    let beginning = &body[..body.len().min(BEGINNING)];
    let in_alphabet = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
    };
    match beginning {
        b"null" => "null; publish a JSON object",
        [b'[', rest @ .., b']'] if rest.trim_ascii().is_empty() => {
            "an empty array, which PHP writes for an empty object; publish a JSON object"
        }
        [b'[', ..] => {
            "an array; publish each event as a message of its own, or one event with `recipients`"
        }
        [b'"', ..] => "a JSON string; publish a JSON object",
        [b'e', b'y' | b'w', ..] if beginning.iter().all(in_alphabet) => {
            "base64 of JSON; publish the JSON itself"
        }
        _ if is_form(beginning) => FORM,
        _ => "not a JSON object; expected one such as {\"subscription\": {…}, \"payload\": \"…\"}",
    }
}

fn is_form(beginning: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-[]%+".contains(byte);
    let name = beginning.split(|byte| *byte == b'=').next();
    let is_name = name.is_some_and(|name| !name.is_empty() && name.iter().all(is_name));
    is_name && beginning.contains(&b'=') && !beginning.iter().any(u8::is_ascii_whitespace)
}

fn envelope(body: &[u8]) -> Option<&'static str> {
    let (object, _) = Object::read(str::from_utf8(body).ok()?, &MEMBERS);
    let has = |name: &str| {
        let mut members = MEMBERS.iter().zip(object.values);
        members.any(|(member, value)| *member == name && value.is_some())
    };
    if has("subscription") || has("recipients") {
        return None;
    }
    let mut rows = ENVELOPES.iter();
    let found = rows.find(|(members, _)| members.iter().all(|member| has(member)));
    found.map(|(_, is)| *is)
}

/// Recognizes what follows a whole JSON object.
fn more_than_one(body: &[u8]) -> Option<&'static str> {
    let mut values =
        serde_json::Deserializer::from_slice(body).into_iter::<serde::de::IgnoredAny>();
    values.next()?.ok()?;
    match body[values.byte_offset()..].trim_ascii().first()? {
        b'{' => Some("several JSON objects; publish each event as a message of its own"),
        0 => Some("followed by a NUL byte, as a C string is; publish its bytes without the NUL"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::AMQPValue;

    use super::*;

    fn described(properties: &BasicProperties, body: &[u8]) -> String {
        describe(properties, body).map_or_else(String::new, |fault| fault.expected.into_owned())
    }

    #[test]
    fn what_libraries_write_in_place_of_json_is_named() {
        for (body, found) in [
            (&b""[..], "empty"),
            (b" \n", "empty"),
            (b"null", "null"),
            (b"[]", "an empty array, which PHP writes"),
            (b"[ ]", "an empty array, which PHP writes"),
            (
                b"[{}]",
                "an array; publish each event as a message of its own",
            ),
            (b"17", "not a JSON object; expected one such as"),
            (b"hello", "not a JSON object; expected one such as"),
            (b"\"hello\"", "a JSON string;"),
            (
                br#""{\"subscription\":{}}""#,
                "a JSON string that holds JSON",
            ),
            (
                b"\"eyJzdWJzY3JpcHRpb24iOnt9fQ==\"",
                "base64 of JSON in a JSON string",
            ),
            (b"eyJzdWJzY3JpcHRpb24iOnt9fQ==", "base64 of JSON;"),
            (b"\xff\xfe{\0}\0", "in UTF-16"),
            (b"{\0\"\0", "in UTF-16"),
            (b"\0{\0\"", "in UTF-16"),
            (b"\x1f\x8b\x08", "compressed (gzip)"),
            (b"x\x9c\xab", "compressed (zlib)"),
            (b"\x28\xb5\x2f\xfd\x04", "compressed (zstd)"),
            (b"\xac\xed\x00\x05sr", "a serialized Java object"),
            (b"\x80\x04\x95", "a Python pickle"),
            (b"\x81\xacsubscription\x80", "MessagePack"),
            (b"\xde\x00\x10\xa2id", "MessagePack"),
            (b"\xa1\x6csubscription\xa0", "CBOR"),
            (b"\n\x05abc\x10\x01", "binary, perhaps Protocol Buffers"),
            (
                b"\x00\x01\x00\x00\x00\xff\xff\xff\xff\x01",
                "an object of .NET's BinaryFormatter",
            ),
            (b"\x00Sw\xb1\x00\x00\x00\x02{}", "a section of AMQP 1.0"),
            (
                b"a:1:{s:7:\"payload\";s:1:\"x\";}",
                "from PHP's serialize()",
            ),
            (b"O:36:\"Symfony", "from PHP's serialize()"),
            (b"<?xml version=\"1.0\"?>", "XML"),
            (b"payload=x&subscription%5Bendpoint%5D=y", "form-encoded"),
            (b"[object Object]", "JavaScript's text for an object"),
            (b"{'payload': 'x'}", "Python's text for a dict"),
            (b"{\"ttl\":1}\n{\"ttl\":2}\n", "several JSON objects"),
            (b"{\"ttl\":1}\0", "followed by a NUL byte"),
        ] {
            let sentence = described(&BasicProperties::default(), body);
            let expected = format!("the body is {found}");
            assert!(sentence.starts_with(&expected), "{sentence}: {expected}");
        }
    }

    #[test]
    fn the_envelopes_of_libraries_are_named() {
        for (body, found) in [
            (
                r#"{"messageId":"1","messageType":["urn:x"],"message":{"payload":1}}"#,
                MASS_TRANSIT,
            ),
            (r#"{"pattern":"push","data":{"payload":1}}"#, NEST_JS),
            (
                r#"{"uuid":"1","displayName":"X","job":"Y@call","data":{}}"#,
                LARAVEL,
            ),
            (r#"{"job_class":"PushJob","arguments":[]}"#, RUBY),
            (r#"{"class":"PushJob","args":[],"jid":"1"}"#, RUBY),
            (r#"{"task":"push","id":"1","args":[],"kwargs":{}}"#, CELERY),
            (r#"{"body":"e30=","headers":{},"properties":{}}"#, KOMBU),
            (r#"{"specversion":"1.0","data":{}}"#, CLOUD_EVENT),
        ] {
            let sentence = described(&BasicProperties::default(), body.as_bytes());
            assert_eq!(sentence, format!("the body is {found}"));
        }
    }

    #[test]
    fn an_event_with_a_fault_is_not_taken_for_something_else() {
        for body in [
            "{}",
            "{",
            r#"{"subscription":{},"pattern":"x","data":1}"#,
            r#"{"recipients":[],"messageType":1,"message":1}"#,
            r#"{"data":{"title":"x"}}"#,
            r#"{"tll":5} x"#,
        ] {
            let fault = describe(&BasicProperties::default(), body.as_bytes());
            assert_eq!(fault, None, "{body}");
        }
    }

    #[test]
    fn properties_name_what_the_bytes_do_not() {
        let mut task = FieldTable::default();
        task.insert("task".into(), AMQPValue::LongString("push".into()));
        let plain = BasicProperties::default;
        for (properties, body, found) in [
            (plain().with_headers(task), &b"[[],{},{}]"[..], CELERY),
            (
                plain().with_content_encoding("br".into()),
                b"\x8b\x02",
                "compressed (brotli)",
            ),
            (
                plain().with_content_encoding("br".into()),
                b"abc",
                "compressed (brotli)",
            ),
            (
                plain().with_content_type("Application/MsgPack".into()),
                b"\"x",
                MESSAGE_PACK,
            ),
        ] {
            let sentence = described(&properties, body);
            let expected = format!("the body is {found}");
            assert!(sentence.starts_with(&expected), "{sentence}");
        }
    }
}
