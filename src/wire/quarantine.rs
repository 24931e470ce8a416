//! The headers of a quarantined original: why it is there and where it came from, for people.

use lapin::BasicProperties;
use lapin::types::{FieldTable, ShortString};

use super::fault::Fault;
use super::table;
use super::trace::Trace;

/// The most headers of the producer that are kept.
const KEPT_LIMIT: usize = 32;

/// How the names begin of headers that are not kept: this daemon's own, and those by which the broker
/// counts and tells where a message was.
const LEFT_OUT: [&str; 7] = [
    "x-pushrider-",
    "x-death",
    "x-first-death-",
    "x-last-death-",
    "x-delivery-count",
    "x-acquired-count",
    "x-opt-",
];

const REASON: &str = "x-pushrider-reason";
const DETAIL: &str = "x-pushrider-detail";
const QUEUE: &str = "x-pushrider-queue";
const ROUTING_KEY: &str = "x-pushrider-routing-key";
const MESSAGE_ID: &str = "x-pushrider-message-id";
const CORRELATION_ID: &str = "x-pushrider-correlation-id";
const TYPE: &str = "x-pushrider-type";
const CONTENT_TYPE: &str = "x-pushrider-content-type";
const CONTENT_ENCODING: &str = "x-pushrider-content-encoding";
const APP_ID: &str = "x-pushrider-app-id";
const TIMESTAMP: &str = "x-pushrider-timestamp";
const PRIORITY: &str = "x-pushrider-priority";

/// The headers by which the broker would route a copy to further queues.
const ROUTED: [&str; 2] = ["CC", "BCC"];

/// Writes the headers of a quarantined original: why, which queue it was taken from, the routing key
/// it had, and what its producer's properties and headers say, each bounded.
#[must_use]
pub fn headers(
    fault: &Fault,
    queue: &str,
    routing_key: &str,
    original: &BasicProperties,
) -> FieldTable {
    let mut headers = FieldTable::default();
    table::put_text(&mut headers, REASON, fault.reason.name());
    table::put_text(&mut headers, DETAIL, &fault.to_string());
    table::put_text(&mut headers, QUEUE, queue);
    table::put_text(&mut headers, ROUTING_KEY, routing_key);
    let properties = [
        (MESSAGE_ID, original.message_id()),
        (CORRELATION_ID, original.correlation_id()),
        (TYPE, original.kind()),
        (CONTENT_TYPE, original.content_type()),
        (CONTENT_ENCODING, original.content_encoding()),
        (APP_ID, original.app_id()),
    ];
    for (name, property) in properties {
        if let Some(text) = property {
            table::put_text(&mut headers, name, text.as_str());
        }
    }
    if let Some(timestamp) = *original.timestamp() {
        table::put_number(&mut headers, TIMESTAMP, timestamp);
    }
    if let Some(priority) = *original.priority() {
        table::put_number(&mut headers, PRIORITY, priority);
    }
    if let Some(producer) = original.headers() {
        keep(producer, &mut headers);
        Trace::read(producer).write(&mut headers);
    }
    headers
}

/// Returns why a message is in quarantine: one of the words of results.
#[must_use]
pub fn reason(headers: &FieldTable) -> Option<&str> {
    table::text(headers, REASON)
}

/// Returns the sentence that says why a message is in quarantine.
#[must_use]
pub fn detail(headers: &FieldTable) -> Option<&str> {
    table::text(headers, DETAIL)
}

/// Returns the routing key with which a quarantined original was delivered.
#[must_use]
pub fn routing_key(headers: &FieldTable) -> Option<&str> {
    table::text(headers, ROUTING_KEY)
}

/// Returns the properties that a quarantined original had, as far as its headers keep them. An original
/// without a message id gets the name that results gave it.
#[must_use]
pub fn original(quarantined: &BasicProperties) -> BasicProperties {
    let none = FieldTable::default();
    let headers = quarantined.headers().as_ref().unwrap_or(&none);
    let text = |name: &str| table::text(headers, name).map(ShortString::from);
    let mut kept = FieldTable::default();
    keep(headers, &mut kept);
    let mut original = BasicProperties::default().with_headers(kept);
    let id = text(MESSAGE_ID).or_else(|| quarantined.message_id().clone());
    for (property, set) in [
        (id, BasicProperties::with_message_id as Set),
        (text(CORRELATION_ID), BasicProperties::with_correlation_id),
        (text(TYPE), BasicProperties::with_type),
        (text(CONTENT_TYPE), BasicProperties::with_content_type),
        (
            text(CONTENT_ENCODING),
            BasicProperties::with_content_encoding,
        ),
        (text(APP_ID), BasicProperties::with_app_id),
    ] {
        if let Some(value) = property {
            original = set(original, value);
        }
    }
    if let Some(timestamp) = table::number(headers, TIMESTAMP) {
        original = original.with_timestamp(timestamp);
    }
    let priority = table::number(headers, PRIORITY).and_then(|number| number.try_into().ok());
    match priority {
        Some(priority) => original.with_priority(priority),
        None => original,
    }
}

/// Sets a property to a text.
type Set = fn(BasicProperties, ShortString) -> BasicProperties;

/// Keeps the headers of the producer that hold one value.
fn keep(producer: &FieldTable, headers: &mut FieldTable) {
    let is_kept = |name: &ShortString| {
        let name = name.as_str();
        !ROUTED.contains(&name) && !LEFT_OUT.iter().any(|start| name.starts_with(start))
    };
    let single = producer
        .inner()
        .iter()
        .filter(|(name, _)| is_kept(name))
        .filter_map(|(name, value)| Some((name, table::single(value)?)));
    for (name, value) in single.take(KEPT_LIMIT) {
        headers.insert(name.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::AMQPValue;

    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn an_original_says_why_it_is_there_and_whose_it_is() {
        let mut producer = FieldTable::default();
        table::put_text(&mut producer, "traceparent", TRACE);
        table::put_text(&mut producer, "CC", "elsewhere");
        let original = BasicProperties::default()
            .with_message_id("m1".into())
            .with_type("webpush.notification.v1".into())
            .with_timestamp(17)
            .with_priority(9)
            .with_headers(producer);
        let detail = "x".repeat(10_000);
        let fault = Fault::malformed("", detail.clone());
        let headers = headers(&fault, "lane.default", "shop.default", &original);
        for (name, text) in [
            ("x-pushrider-reason", "malformed_event"),
            ("x-pushrider-detail", &detail[..table::TEXT_LIMIT]),
            ("x-pushrider-queue", "lane.default"),
            ("x-pushrider-routing-key", "shop.default"),
            ("x-pushrider-message-id", "m1"),
            ("x-pushrider-type", "webpush.notification.v1"),
            ("traceparent", TRACE),
        ] {
            assert_eq!(table::text(&headers, name), Some(text), "{name}");
        }
        assert_eq!(table::number(&headers, "x-pushrider-timestamp"), Some(17));
        assert_eq!(table::number(&headers, "x-pushrider-priority"), Some(9));
        assert_eq!(headers.inner().len(), 9);
    }

    #[test]
    fn an_original_keeps_its_encoding_and_the_headers_of_its_library() {
        let mut producer = FieldTable::default();
        let text = |text: &str| AMQPValue::LongString(text.into());
        for name in ["__TypeId__", "compression", "task"] {
            producer.insert(name.into(), text(name));
        }
        producer.insert("retries".into(), AMQPValue::LongInt(3));
        producer.insert("long".into(), text(&"x".repeat(10_000)));
        producer.insert("table".into(), AMQPValue::FieldTable(FieldTable::default()));
        for name in [
            "CC",
            "BCC",
            "x-death",
            "x-delivery-count",
            "x-first-death-queue",
        ] {
            producer.insert(name.into(), text("q"));
        }
        producer.insert("x-pushrider-reason".into(), text("all is well"));
        let original = BasicProperties::default()
            .with_content_encoding("gzip".into())
            .with_headers(producer);
        let headers = headers(
            &Fault::malformed("", "x"),
            "lane.default",
            "a.default",
            &original,
        );
        for (name, text) in [
            ("x-pushrider-reason", "malformed_event"),
            ("x-pushrider-content-encoding", "gzip"),
            ("__TypeId__", "__TypeId__"),
            ("compression", "compression"),
            ("task", "task"),
            ("long", &"x".repeat(table::TEXT_LIMIT)),
        ] {
            assert_eq!(table::text(&headers, name), Some(text), "{name}");
        }
        assert_eq!(table::number(&headers, "retries"), Some(3));
        assert_eq!(headers.inner().len(), 10);
    }

    #[test]
    fn an_original_comes_back_as_its_producer_published_it() {
        let mut producer = FieldTable::default();
        table::put_text(&mut producer, "traceparent", TRACE);
        table::put_text(&mut producer, "task", "send");
        let published = BasicProperties::default()
            .with_message_id("m1".into())
            .with_correlation_id("c1".into())
            .with_type("webpush.notification.v1".into())
            .with_content_type("application/json".into())
            .with_content_encoding("gzip".into())
            .with_app_id("shop".into())
            .with_timestamp(17)
            .with_priority(9)
            .with_headers(producer);
        let fault = Fault::malformed("", "x");
        let headers = headers(&fault, "lane.high", "shop.high", &published);
        assert_eq!(routing_key(&headers), Some("shop.high"));
        assert_eq!(reason(&headers), Some("malformed_event"));
        let quarantined = BasicProperties::default()
            .with_message_id("e1".into())
            .with_headers(headers);
        assert_eq!(original(&quarantined), published);
        let bare = BasicProperties::default().with_message_id("e1".into());
        assert_eq!(original(&bare).message_id(), bare.message_id());
    }

    #[test]
    fn many_headers_of_a_producer_do_not_grow_an_original() {
        let mut producer = FieldTable::default();
        for n in 0..1000 {
            let value = AMQPValue::LongString("x".repeat(1000).into());
            producer.insert(format!("h{n}").into(), value);
        }
        let original = BasicProperties::default().with_headers(producer);
        let headers = headers(
            &Fault::malformed("", "x"),
            "lane.default",
            "a.default",
            &original,
        );
        assert_eq!(headers.inner().len(), 4 + KEPT_LIMIT);
    }
}
