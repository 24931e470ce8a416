//! Topics of messages that have none.

use super::*;

/// Pushes events to a daemon that has just been started, and returns the topics they were sent with.
async fn topics(replace_duplicates: bool, events: &[String]) -> Vec<Option<String>> {
    let env = env_with(only(app(Mode::Send)), [], 100, replace_duplicates);
    for event in events {
        comes_to(&env, event.clone()).await;
    }
    let requests = env.service.requests.lock();
    let topic = |request: &PushRequest| Some(request.headers.get("topic")?.to_str().ok()?.into());
    requests.iter().map(topic).collect()
}

#[tokio::test]
async fn a_copy_pushed_by_another_daemon_replaces_the_first_and_nothing_else() {
    let events = [
        event(json!({})),
        event(json!({ "id": "e2" })),
        event(json!({ "subscription": fcm("b") })),
        event(json!({ "payload": "another text under the same name" })),
        event(json!({ "topic": "orders" })),
    ];
    let first = topics(true, &events).await;
    assert_eq!(first, topics(true, &events).await);
    let different: HashSet<_> = first.iter().flatten().collect();
    assert_eq!(different.len(), events.len(), "{first:?}");
    for topic in different.iter().copied() {
        assert!(Topic::parse(topic).is_some(), "{topic}");
    }
    assert_eq!(first[4].as_deref(), Some("orders"), "the producer's own");
    let unasked = topics(false, &events).await;
    assert_eq!(unasked[..4], [const { None }; 4]);
}

#[tokio::test]
async fn every_pass_of_a_message_has_the_same_topic() {
    let env = env_with(only(app(Mode::Send)), [Says::Status(503)], 100, true);
    let nameless = json!({ "subscription": fcm("a"), "payload": "hello" }).to_string();
    let first = env.pipeline.process(&inbound(nameless)).await;
    env.clock.advance(Duration::from_secs(5));
    env.pipeline.process(&returned(&first[0])).await;
    let requests = env.service.requests.lock();
    assert_eq!(requests.len(), 2);
    assert!(requests[0].headers.contains_key("topic"));
    assert_eq!(requests[0].headers["topic"], requests[1].headers["topic"]);
}
