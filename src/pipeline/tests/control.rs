//! What was taken back is not pushed, wherever it was when the control message came.

use super::*;
use crate::clock::Clock as _;
use crate::control::{Bounds, Noted};
use crate::wire::control;

/// Has the daemon read a control message of this moment.
fn reads(env: &TestEnv, command: &str, target: Value) -> Noted {
    let now = env.clock.now().wall;
    let at = jiff::Timestamp::try_from(now).unwrap();
    let mut message =
        json!({ "app": "shop", "reason": "sold out", "requested_at": at.to_string() });
    message[command] = target;
    let key = format!("shop.{command}");
    let control = control::decode(&key, message.to_string().as_bytes()).unwrap();
    let bounds = Bounds {
        targets: 100_000,
        retention: Duration::from_hours(24 * 58),
    };
    env.pipeline.withdrawn().note(control, bounds, now)
}

const CANCELLED: &str = "delivery.shop.cancelled._ cancelled";
const FORGOTTEN: &str = "delivery.shop.cancelled._ forgotten";
const ACCEPTED: &str = "delivery.shop.accepted._ accepted";

#[tokio::test]
async fn a_cancelled_event_ends_without_a_request_and_says_by_what() {
    let env = env([]);
    reads(&env, "cancel", json!({ "id": "e1" }));
    let publications = env.pipeline.process(&inbound(event(json!({})))).await;
    assert_eq!(outline(&publications), [CANCELLED]);
    let result = parsed(&publications[0]);
    assert_eq!(result["detail"], "its id was cancelled: sold out");
    assert_eq!(
        (&result["attempts"], &result["requests"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(
        comes_to(&env, event(json!({ "id": "e2" }))).await,
        [ACCEPTED]
    );
    assert_eq!(env.service.requests.lock().len(), 1);
}

#[tokio::test]
async fn an_event_of_the_group_that_is_created_later_is_pushed() {
    let env = env([]);
    reads(&env, "cancel", json!({ "group": "spring" }));
    let made = |at: &str| event(json!({ "group": "spring", "created_at": at }));
    assert_eq!(
        comes_to(&env, made("2026-11-21T11:59:59Z")).await,
        [CANCELLED]
    );
    env.clock.advance(Duration::from_secs(60));
    assert_eq!(
        comes_to(&env, made("2026-11-21T12:00:01Z")).await,
        [ACCEPTED]
    );
    let unstamped = event(json!({ "group": "spring" }));
    assert_eq!(comes_to(&env, unstamped).await, [ACCEPTED]);
    reads(&env, "cancel", json!({ "label": "mail" }));
    let labelled = json!({ "label": "mail", "created_at": "2026-11-21T12:00:30Z" });
    let ended = comes_to(&env, event(labelled)).await;
    assert_eq!(ended, ["delivery.shop.cancelled.mail cancelled"]);
}

#[tokio::test]
async fn what_waits_ends_when_it_is_taken_up_and_keeps_what_was_tried() {
    let env = env([Says::Status(503)]);
    let retried = event(json!({ "group": "spring" }));
    let retried = env.pipeline.process(&inbound(retried)).await;
    let later = json!({ "id": "e2", "group": "spring", "deliver_at": "2026-11-21T14:00:00Z" });
    let scheduled = env.pipeline.process(&inbound(event(later))).await;
    env.clock.advance(Duration::from_secs(60));
    reads(&env, "cancel", json!({ "group": "spring" }));
    let retried = env.pipeline.process(&returned(&retried[0])).await;
    assert_eq!(outline(&retried), [CANCELLED]);
    let result = parsed(&retried[0]);
    assert_eq!(
        [&result["attempts"], &result["requests"], &result["status"]],
        [&json!(1), &json!(1), &json!(503)]
    );
    // Not when it is due, but at its next hop.
    let scheduled = env.pipeline.process(&returned(&scheduled[0])).await;
    assert_eq!(outline(&scheduled), [CANCELLED]);
    assert_eq!(env.service.requests.lock().len(), 1);
}

#[tokio::test]
async fn a_large_event_ends_in_chunks_and_so_do_chunks_that_are_there_already() {
    let env = env([]);
    let chunks = env.pipeline.process(&inbound(campaign(120))).await;
    assert_eq!(outline(&chunks), ["chunk to default"; 3]);
    let first = env.pipeline.process(&returned(&chunks[0])).await;
    assert_eq!(env.service.requests.lock().len(), 50);
    reads(&env, "cancel", json!({ "id": "c1" }));
    let mut ended = first.len() - 1;
    for chunk in &chunks[1..] {
        let publications = env.pipeline.process(&returned(chunk)).await;
        let (summary, results) = publications.split_last().unwrap();
        assert!(outline(results).iter().all(|it| it == CANCELLED));
        assert_eq!(parsed(summary)["outcomes"]["cancelled"], results.len());
        ended += results.len();
    }
    assert_eq!(ended, 120);
    let again = env.pipeline.process(&inbound(campaign(120))).await;
    assert_eq!(outline(&again), ["chunk to default"; 3]);
    let chunk = env.pipeline.process(&returned(&again[0])).await;
    assert!(outline(&chunk[..50]).iter().all(|it| it == CANCELLED));
    assert!(parsed(&again[0]).get("payload").is_none());
    assert_eq!(env.service.requests.lock().len(), 50);
}

#[tokio::test]
async fn a_forgotten_recipient_ends_alone_and_without_a_subscription_event() {
    let env = env([]);
    reads(&env, "forget", json!({ "recipient_id": 1 }));
    let endpoint = "https://fcm.googleapis.com/fcm/send/2";
    reads(&env, "forget", json!({ "endpoint": endpoint }));
    let publications = env.pipeline.process(&inbound(campaign(4))).await;
    let expected = [ACCEPTED, FORGOTTEN, FORGOTTEN, ACCEPTED, "summary.shop._"];
    assert_eq!(outline(&publications), expected);
    assert_eq!(env.service.requests.lock().len(), 2);
    let spelt = endpoint.replace(".com/", ".com:443/");
    let spelt = event(json!({ "subscription": subscription(&spelt) }));
    assert_eq!(comes_to(&env, spelt).await, [FORGOTTEN]);
}

#[tokio::test]
async fn a_scheduled_push_to_somebody_who_is_forgotten_ends_at_its_next_hop() {
    let env = env([]);
    let later = json!({ "recipient_id": "u42", "deliver_at": "2026-11-21T14:00:00Z" });
    let first = env.pipeline.process(&inbound(event(later))).await;
    reads(&env, "forget", json!({ "recipient_id": "u42" }));
    let second = env.pipeline.process(&returned(&first[0])).await;
    assert_eq!(outline(&second), [FORGOTTEN]);
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_back_while_it_waits_for_a_permit_makes_no_request() {
    let answers = Arc::new(Notify::new());
    let env = env_of(app(Mode::Send), [Says::Holds(Arc::clone(&answers))], 1);
    let (first, second) = (event(json!({})), event(json!({ "id": "e2" })));
    let second_waits = async {
        while env.service.requests.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        let waiting = comes_to(&env, second);
        let cancelled = async {
            tokio::task::yield_now().await;
            reads(&env, "cancel", json!({ "id": "e2" }));
            reads(&env, "cancel", json!({ "id": "e1" }));
            answers.notify_one();
        };
        tokio::join!(waiting, cancelled).0
    };
    let (first, second) = tokio::join!(comes_to(&env, first), second_waits);
    assert_eq!(first, [ACCEPTED], "what is under way ends as it ends");
    assert_eq!(second, [CANCELLED]);
    assert_eq!(env.service.requests.lock().len(), 1);
}
