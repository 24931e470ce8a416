//! Recipients of large events that end without a request.

use super::*;

/// Processes an event and everything that comes of it at once, and returns what the results say:
/// each recipient's `id`, reason and detail.
async fn ends(env: &TestEnv, first: Inbound) -> Vec<(u64, String, String)> {
    let (mut ended, mut ids) = (Vec::new(), HashSet::new());
    let mut left = VecDeque::from([first]);
    while let Some(inbound) = left.pop_front() {
        let size = inbound.body.len();
        let publications = env.pipeline.process(&inbound).await;
        let copied: usize = publications.iter().map(|it| it.body.len()).sum();
        let bound = 3 * size + (256 << 10);
        assert!(copied <= bound, "{copied} bytes came of {size}");
        for publication in publications.iter() {
            match publication.kind {
                Kind::Chunk => left.push_back(returned(publication)),
                Kind::Result => {
                    assert!(ids.insert(publication.message_id.clone()), "expected twice");
                    let result = parsed(publication);
                    let text = |name: &str| result[name].as_str().unwrap().to_owned();
                    let id = result["recipient"]["id"].as_u64().unwrap();
                    ended.push((id, text("reason"), text("detail")));
                }
                Kind::Summary
                | Kind::Subscription
                | Kind::Retry
                | Kind::Quarantine
                | Kind::Progress => {}
            }
        }
    }
    ended.sort_unstable();
    ended
}

fn large(more: Value) -> Value {
    let recipients: Vec<_> = (0..3000).map(|n| json!({ "id": n })).collect();
    let mut event = json!({ "id": "e1", "recipients": recipients });
    let members = event.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    event
}

async fn assert_all_end(env: &TestEnv, first: Inbound, reason: &str, detail: &str) {
    let ended = ends(env, first).await;
    let expected: Vec<_> = (0..3000)
        .map(|n| (n, reason.to_owned(), detail.to_owned()))
        .collect();
    assert_eq!(ended.len(), expected.len());
    assert_eq!(ended, expected);
    assert!(env.service.requests.lock().is_empty());
}

#[tokio::test]
async fn a_large_event_that_is_refused_ends_in_chunks() {
    let metadata = json!({ "pad": "m".repeat(4000) });
    for (more, reason, detail) in [
        (
            json!({ "app": "nobody", "metadata": metadata }),
            "unknown_app",
            "app: expected one of those configured: shop; got `nobody`",
        ),
        (
            json!({ "deliver_at": "2027-11-21T12:00:00Z", "metadata": metadata }),
            "invalid_schedule",
            "deliver_at: expected a time at most 30 days ahead",
        ),
        (
            json!({ "payload": "x".repeat(3_000_000) }),
            "payload_too_large",
            "the payload is 3000000 bytes long; at most 3993 fit",
        ),
        (
            json!({ "topic": "x".repeat(3_000_000) }),
            "malformed_event",
            "topic: expected at most 1024 bytes; got 3000002",
        ),
    ] {
        let env = env([]);
        let event = inbound(large(more).to_string());
        assert_all_end(&env, event, reason, detail).await;
    }
}

#[tokio::test]
async fn a_large_event_that_the_broker_gave_up_on_ends_in_chunks_and_is_not_pushed() {
    let env = env([]);
    let mut headers = lapin::types::FieldTable::default();
    headers.insert(
        "x-first-death-reason".into(),
        lapin::types::AMQPValue::LongString("delivery_limit".into()),
    );
    let dead = Inbound {
        source: Source::Undeliverable,
        properties: BasicProperties::default().with_headers(headers),
        ..inbound(large(json!({ "payload": "hi" })).to_string())
    };
    let publications = outline(&env.pipeline.process(&dead).await);
    let parked = publications.iter().filter(|it| *it == "quarantine").count();
    assert_eq!(parked, 1, "{publications:?}");
    let detail =
        "the broker gave up on the event: it was delivered too often without being settled";
    assert_all_end(&env, dead, "poison", detail).await;
}

#[tokio::test]
async fn a_bad_recipient_is_named_by_its_place_in_the_event_whatever_chunk_it_is_in() {
    let env = env([]);
    // Two push services by turns, so that no chunk is a run of the event.
    let recipient = |n: usize| {
        let host = ["fcm.googleapis.com", "web.push.apple.com"][n % 2];
        let good = json!({ "id": n, "subscription": subscription(&format!("https://{host}/{n}")) });
        let mut recipient = good.clone();
        if n == 117 {
            recipient["topic"] = json!(5);
        }
        recipient
    };
    let recipients: Vec<_> = (0..150).map(recipient).collect();
    let event = json!({ "id": "e1", "payload": "x", "recipients": recipients });
    let later = json!({ "deliver_at": "2026-11-21T13:00:00Z" });
    for more in [json!({}), later] {
        let mut event = event.clone();
        event
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let mut publications = env.pipeline.process(&inbound(event.to_string())).await;
        if publications.len() == 1 {
            env.clock.advance(Duration::from_secs(3600));
            publications = env.pipeline.process(&returned(&publications[0])).await;
        }
        let mut details = Vec::new();
        for chunk in publications.iter() {
            let ended = env.pipeline.process(&returned(chunk)).await;
            let results = ended
                .iter()
                .filter(|it| it.kind == Kind::Result)
                .map(parsed);
            details.extend(results.filter_map(|it| Some(it["detail"].as_str()?.to_owned())));
        }
        let detail = "recipients[117].topic: expected a string; got an integer";
        assert_eq!(details, [detail]);
    }
}
