//! What progress messages count. Added up, each recipient counts once.

use super::*;

/// Returns the progress messages in a few words: recipients, waiting, settled.
fn news(env: &TestEnv) -> Vec<String> {
    let tell = |publication: &Publication| {
        let body = parsed(publication);
        let Route::Results(key) = &publication.to else {
            panic!("{:?}", publication.to);
        };
        let numbers = ["recipients", "waiting", "settled"].map(|name| body[name].to_string());
        format!("{key} {}", numbers.join(" "))
    };
    env.pipeline.progress().iter().map(tell).collect()
}

#[tokio::test]
async fn a_recipient_that_is_tried_again_counts_once() {
    let env = env([Says::Status(503)]);
    let body = event(json!({ "group": "spring", "label": "mail" }));
    let first = env.pipeline.process(&inbound(body)).await;
    assert_eq!(news(&env), ["progress.shop.mail 1 1 0"]);
    env.clock.advance(Duration::from_secs(5));
    env.pipeline.process(&returned(&first[0])).await;
    assert_eq!(news(&env), ["progress.shop.mail 0 -1 1"]);
    assert_eq!(news(&env), [""; 0]);
}

#[tokio::test]
async fn an_event_that_waits_whole_and_is_split_counts_each_recipient_once() {
    let env = env([Says::Status(410)]);
    let mut body: Value = serde_json::from_str(&campaign(120)).unwrap();
    body["group"] = "spring".into();
    body["deliver_at"] = "2026-11-21T13:00:00Z".into();
    let whole = env.pipeline.process(&inbound(body.to_string())).await;
    assert_eq!(news(&env), ["progress.shop._ 120 120 0"]);
    env.clock.advance(Duration::from_secs(60));
    let hop = env.pipeline.process(&returned(&whole[0])).await;
    assert_eq!(news(&env), [""; 0]);
    env.clock.advance(Duration::from_secs(3540));
    let chunks = env.pipeline.process(&returned(&hop[0])).await;
    assert_eq!(news(&env), ["progress.shop._ 0 -120 0"]);
    for chunk in chunks.iter() {
        env.pipeline.process(&returned(chunk)).await;
    }
    assert_eq!(news(&env), ["progress.shop._ 0 0 120"]);
}

#[tokio::test]
async fn an_application_that_wants_no_progress_gets_none() {
    let app = App {
        progress: false,
        ..app(Mode::Send)
    };
    let env = env_of(app, [Says::Status(201)], 1);
    let body = event(json!({ "group": "spring" }));
    env.pipeline.process(&inbound(body)).await;
    assert_eq!(news(&env), [""; 0]);
}

#[tokio::test]
async fn what_ends_without_a_request_is_counted_and_an_event_without_a_group_is_not() {
    let env = env([]);
    env.pipeline.process(&inbound(event(json!({})))).await;
    let unknown = json!({ "group": "spring", "app": "nobody" });
    env.pipeline.process(&inbound(event(unknown))).await;
    let malformed = json!({ "group": "spring", "ttl": -1 });
    env.pipeline.process(&inbound(event(malformed))).await;
    assert_eq!(
        news(&env),
        ["progress._unknown._ 1 0 1", "progress.shop._ 1 0 1"]
    );
}
