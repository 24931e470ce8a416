//! The headers of a quarantined original: why it is there and where it came from, for people.

use lapin::BasicProperties;
use lapin::types::{FieldTable, ShortString};

use super::fault::Fault;
use super::headers::Trace;
use super::table;

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

/// The headers by which the broker would route a copy to further queues.
const ROUTED: [&str; 2] = ["CC", "BCC"];

/// Writes the headers of a quarantined original: why, which queue it was taken from, and what its
/// producer's properties and headers say, each bounded.
#[must_use]
pub fn headers(fault: &Fault, queue: &str, original: &BasicProperties) -> FieldTable {
    let mut headers = FieldTable::default();
    table::put_text(&mut headers, "x-pushrider-reason", fault.reason.name());
    table::put_text(&mut headers, "x-pushrider-detail", &fault.to_string());
    table::put_text(&mut headers, "x-pushrider-queue", queue);
    let properties = [
        ("x-pushrider-message-id", original.message_id()),
        ("x-pushrider-correlation-id", original.correlation_id()),
        ("x-pushrider-type", original.kind()),
        ("x-pushrider-content-type", original.content_type()),
        ("x-pushrider-content-encoding", original.content_encoding()),
        ("x-pushrider-app-id", original.app_id()),
    ];
    for (name, property) in properties {
        if let Some(text) = property {
            table::put_text(&mut headers, name, text.as_str());
        }
    }
    if let Some(timestamp) = *original.timestamp() {
        table::put_number(&mut headers, "x-pushrider-timestamp", timestamp);
    }
    if let Some(producer) = original.headers() {
        keep(producer, &mut headers);
        Trace::read(producer).write(&mut headers);
    }
    headers
}

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

    #[test]
    fn an_original_says_why_it_is_there_and_whose_it_is() {
        let mut producer = FieldTable::default();
        table::put_text(&mut producer, "traceparent", "00-1-2-01");
        table::put_text(&mut producer, "CC", "elsewhere");
        let original = BasicProperties::default()
            .with_message_id("m1".into())
            .with_type("webpush.notification.v1".into())
            .with_timestamp(17)
            .with_headers(producer);
        let detail = "x".repeat(10_000);
        let fault = Fault::malformed("", detail.clone());
        let headers = headers(&fault, "webpush.lane.default", &original);
        for (name, text) in [
            ("x-pushrider-reason", "malformed_event"),
            ("x-pushrider-detail", &detail[..table::TEXT_LIMIT]),
            ("x-pushrider-queue", "webpush.lane.default"),
            ("x-pushrider-message-id", "m1"),
            ("x-pushrider-type", "webpush.notification.v1"),
            ("traceparent", "00-1-2-01"),
        ] {
            assert_eq!(table::text(&headers, name), Some(text), "{name}");
        }
        assert_eq!(table::number(&headers, "x-pushrider-timestamp"), Some(17));
        assert_eq!(headers.inner().len(), 7);
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
        let headers = headers(&Fault::malformed("", "x"), "lane.default", &original);
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
        assert_eq!(headers.inner().len(), 9);
    }

    #[test]
    fn many_headers_of_a_producer_do_not_grow_an_original() {
        let mut producer = FieldTable::default();
        for n in 0..1000 {
            let value = AMQPValue::LongString("x".repeat(1000).into());
            producer.insert(format!("h{n}").into(), value);
        }
        let original = BasicProperties::default().with_headers(producer);
        let headers = headers(&Fault::malformed("", "x"), "lane.default", &original);
        assert_eq!(headers.inner().len(), 3 + KEPT_LIMIT);
    }
}
