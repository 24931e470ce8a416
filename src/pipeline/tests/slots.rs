//! Recipients of one event that wait for a slot.

use futures_util::poll;

use super::*;

#[tokio::test]
async fn who_gets_a_seat_too_late_is_sent_nothing() {
    let expected = Arc::new(Notify::new());
    let env = env_of(app(Mode::Send), [Says::Holds(Arc::clone(&expected))], 1);
    let recipients: Vec<_> = (0..4)
        .map(|n| json!({ "id": n, "subscription": fcm(&n.to_string()) }))
        .collect();
    let event = json!({ "id": "e1", "payload": "hello", "ttl": 10, "recipients": recipients });
    let inbound = inbound(event.to_string());
    let mut processing = std::pin::pin!(env.pipeline.process(&inbound));
    assert!(poll!(&mut processing).is_pending());
    assert_eq!(env.service.requests.lock().len(), 1);
    env.clock.advance(Duration::from_secs(20));
    expected.notify_one();
    let publications = processing.await;
    // Neither those without a slot nor the one with a slot and no permit.
    assert_eq!(env.service.requests.lock().len(), 1);
    let late: Vec<_> = outline(&publications)
        .into_iter()
        .filter(|it| it == "delivery.shop.expired._ ttl_elapsed")
        .collect();
    assert_eq!(late.len(), 3, "{:?}", outline(&publications));
}

#[tokio::test]
async fn a_large_event_does_not_keep_other_tasks_from_their_turn() {
    let env = env_of(app(Mode::Send), [], 100);
    let recipients: Vec<_> = (0..48)
        .map(|n| json!({ "id": n, "subscription": fcm(&n.to_string()) }))
        .collect();
    let event = json!({ "id": "e1", "payload": "hello", "recipients": recipients });
    let inbound = inbound(event.to_string());
    let mut processing = std::pin::pin!(env.pipeline.process(&inbound));
    assert!(poll!(&mut processing).is_pending());
    let sent = env.service.requests.lock().len();
    assert!((1..48).contains(&sent), "{sent} in the first turn");
    processing.await;
    assert_eq!(env.service.requests.lock().len(), 48);
}
