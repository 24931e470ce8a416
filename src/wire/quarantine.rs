//! The headers of a quarantined original: why it is there and where it came from, for people.

use lapin::BasicProperties;
use lapin::types::FieldTable;

use super::fault::Fault;
use super::headers::Trace;
use super::table;

/// Writes the headers of a quarantined original: why, which queue it was taken from, and what its
/// producer's properties say, each bounded.
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
        Trace::read(producer).write(&mut headers);
    }
    headers
}

#[cfg(test)]
mod tests {
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
}
