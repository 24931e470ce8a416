//! The spans that a daemon with the feature `otlp` exports, as a collector gets them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use serde_json::json;
use tokio::net::TcpListener;

use super::{PARENT_ID, TRACE_ID, traced};
use crate::support::env::{TestEnv, event};
use crate::support::{eventually, wanted};

/// One span: its name, its id and its parent's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    name: String,
    id: [u8; 8],
    parent: [u8; 8],
}

/// Starts a collector. Returns its address and the bodies that it is sent.
async fn collector() -> (String, Arc<Mutex<Vec<Bytes>>>) {
    let bodies: Arc<Mutex<Vec<Bytes>>> = Arc::default();
    let kept = Arc::clone(&bodies);
    let keep = async move |body: Bytes| kept.lock().unwrap().push(body);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/traces", post(keep));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, bodies)
}

/// Finds the spans of the trace in what was exported.
///
/// Protocol Buffers write the fields of a span in this order: trace id, span id, parent's id, name.
fn spans_in(body: &[u8]) -> Vec<Seen> {
    let trace: Vec<u8> = [0x0a, 16].into_iter().chain(bytes_of(TRACE_ID)).collect();
    let starts = (0..body.len()).filter(|at| body[*at..].starts_with(&trace));
    let read = |start: usize| {
        let rest = body[start..].strip_prefix(&*trace)?;
        let (id, rest) = rest.strip_prefix(&[0x12, 8])?.split_first_chunk()?;
        // The producer's tracestate.
        let rest = rest.strip_prefix(b"\x1a\x03a=b").unwrap_or(rest);
        let (parent, rest) = rest.strip_prefix(&[0x22, 8])?.split_first_chunk()?;
        let (length, rest) = rest.strip_prefix(&[0x2a])?.split_first()?;
        let name = rest.get(..usize::from(*length))?;
        Some(Seen {
            name: String::from_utf8(name.to_vec()).ok()?,
            id: *id,
            parent: *parent,
        })
    };
    starts.filter_map(read).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

#[tokio::test]
async fn consume_push_and_settle_are_exported_below_the_trace_of_the_event() {
    let (address, bodies) = collector().await;
    let mut env = TestEnv::open("").await;
    env.daemon.stop().await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*address),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    env.daemon.launch_with(&[], &variables).await;
    let willing = env.subscribe(json!({}));
    let body = event("e1", &willing, json!({})).to_string();
    env.vhost
        .publish_with("webpush.events", "shop.default", body.as_bytes(), traced())
        .await;
    let seen = eventually(Duration::from_secs(30), async || {
        let bodies = bodies.lock().unwrap().clone();
        let seen: Vec<_> = bodies.iter().flat_map(|it| spans_in(it)).collect();
        wanted(seen, |seen| seen.len() >= 3)
    })
    .await;
    let by_name: BTreeMap<_, _> = seen.iter().map(|it| (&*it.name, it)).collect();
    let [ack, consume, push] = ["ack", "consume webpush.lane.default", "POST"]
        .map(|name| by_name.get(name).unwrap_or_else(|| panic!("{seen:?}")));
    assert_eq!(consume.parent, *bytes_of(PARENT_ID));
    assert_eq!((push.parent, ack.parent), (consume.id, consume.id));
    let bodies = bodies.lock().unwrap().concat();
    let says = |text: &str| {
        bodies
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    for attribute in [
        "pushrider",
        "rabbitmq",
        "messaging.operation.type",
        "http.response.status_code",
        "127.0.0.1",
    ] {
        assert!(says(attribute), "{attribute}");
    }
    assert!(!says(&willing.id), "a span shows an endpoint");
    env.daemon.stop().await;
}

#[tokio::test]
async fn a_collector_that_takes_no_spans_is_logged_and_holds_up_nothing() {
    let mut env = TestEnv::open("").await;
    env.daemon.stop().await;
    // A port that nobody listens on.
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    env.daemon.launch_with(&[], &variables).await;
    let willing = env.subscribe(json!({}));
    env.publish(&event("e1", &willing, json!({}))).await;
    let result = env.results_of("e1", 1).await.remove(0);
    assert_eq!(result["outcome"], "accepted", "{result}");
    eventually(Duration::from_secs(30), async || {
        let log = env.daemon.log();
        wanted(log, |log| log.contains("the collector takes no spans"))
    })
    .await;
    env.daemon.stop().await;
}
