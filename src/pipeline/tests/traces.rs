//! The trace of a producer, from its message to the outputs.

use lapin::types::{AMQPValue, FieldTable};

use super::*;
use crate::wire::trace::Trace;

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

fn traced(body: String, traceparent: &str) -> Inbound {
    let mut headers = FieldTable::default();
    for (name, text) in [("traceparent", traceparent), ("tracestate", "a=b")] {
        headers.insert(name.into(), AMQPValue::LongString(text.into()));
    }
    Inbound {
        properties: BasicProperties::default().with_headers(headers),
        ..inbound(body)
    }
}

fn traceparent() -> String {
    format!("00-{TRACE_ID}-b7ad6b7169203331-01")
}

#[tokio::test]
async fn every_output_carries_the_trace_also_after_waiting() {
    let env = env([Says::Status(503), Says::Status(410)]);
    let body = json!({ "id": "e1", "recipients": [{ "subscription": fcm("a") }] });
    let message = traced(body.to_string(), &traceparent());
    let waits = env.pipeline.process(&message).await;
    env.clock.advance(Duration::from_secs(60));
    let ends = env.pipeline.process(&returned(&waits[0])).await;
    let kinds: Vec<_> = ends.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [Kind::Result, Kind::Subscription, Kind::Summary]);
    for publication in waits.iter().chain(&*ends) {
        let trace = Trace::read(&publication.headers);
        assert_eq!(trace.traceparent, Some(traceparent().into()));
        assert_eq!(trace.tracestate, Some("a=b".into()));
    }
}

#[tokio::test]
async fn what_is_no_trace_is_left_out() {
    let env = env([]);
    let ends = env
        .pipeline
        .process(&traced(event(json!({})), "00-1-2-01"))
        .await;
    assert_eq!(ends[0].headers, FieldTable::default());
}
