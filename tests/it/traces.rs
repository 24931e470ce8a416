//! The trace of a producer, from its message to the results and the log.

#[cfg(feature = "otlp")]
mod spans;

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::support::env::{TestEnv, event};
use crate::support::eventually;

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT_ID: &str = "b7ad6b7169203331";

fn traced() -> BasicProperties {
    let mut headers = FieldTable::default();
    let traceparent = format!("00-{TRACE_ID}-{PARENT_ID}-01");
    for (name, text) in [("traceparent", &*traceparent), ("tracestate", "a=b")] {
        headers.insert(name.into(), AMQPValue::LongString(text.into()));
    }
    BasicProperties::default().with_headers(headers)
}

#[tokio::test]
async fn results_and_log_lines_have_the_trace_of_the_event() {
    let mut env = TestEnv::open("").await;
    env.vhost.queue("traced", FieldTable::default()).await;
    env.vhost.bind("traced", "webpush.results", "#").await;
    let odd = env.subscribe(json!([{ "status": 503 }, { "status": 499 }]));
    let body = event("e1", &odd, json!({})).to_string();
    env.vhost
        .publish_with("webpush.events", "shop.default", body.as_bytes(), traced())
        .await;
    let result = env.results_of("e1", 1).await.remove(0);
    assert_eq!(result["attempts"], 2, "{result}");
    let output = eventually(Duration::from_secs(30), async || {
        env.vhost.take("traced").await.ok_or(())
    })
    .await;
    let headers = output.delivery.properties.headers().clone().unwrap();
    assert_eq!(headers, traced().headers().clone().unwrap());
    env.daemon.stop().await;
    let log = env.daemon.log();
    for said in ["waits", "unfamiliar answer of an unlisted host", "settled"] {
        let line = log.lines().find(|line| line.contains(said)).unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["span"]["trace_id"], TRACE_ID, "{line}");
    }
}
