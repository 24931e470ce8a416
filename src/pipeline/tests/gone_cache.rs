//! What is queued for a subscription that was just found gone.

use super::*;

/// An event that was in a queue for an hour before the environment opened.
fn queued(id: &str, more: Value) -> String {
    let mut members = json!({ "id": id, "created_at": "2026-11-21T11:00:00Z" });
    members
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    event(members)
}

#[tokio::test]
async fn what_was_queued_for_a_subscription_just_found_gone_is_not_sent() {
    for (status, reason) in [(410, "unsubscribed"), (404, "not_found")] {
        let env = env([Says::Text(status, NOT_FOUND)]);
        let expected = format!("delivery.shop.gone._ {reason}");
        assert_eq!(
            comes_to(&env, queued("e1", json!({}))).await,
            [expected.as_str(), "subscription.shop.gone"]
        );
        let publications = env
            .pipeline
            .process(&inbound(queued("e2", json!({}))))
            .await;
        assert_eq!(
            outline(&publications),
            [expected],
            "and no second subscription event"
        );
        assert_eq!(env.service.requests.lock().len(), 1);
        let result = parsed(&publications[0]);
        for (member, value) in [
            ("event_id", json!("e2")),
            ("status", json!(status)),
            ("attempts", json!(0)),
            ("requests", json!(0)),
            ("sent_at", json!(null)),
        ] {
            assert_eq!(result[member], value, "{member}");
        }
        let detail = result["detail"].as_str().unwrap();
        assert!(detail.contains("no request was made"), "{detail}");
        let other = queued("e3", json!({ "subscription": fcm("b") }));
        assert_eq!(
            comes_to(&env, other).await,
            ["delivery.shop.accepted._ accepted"]
        );
    }
}

#[tokio::test]
async fn an_event_newer_than_the_end_of_its_subscription_is_sent_and_may_revive_it() {
    let env = env([Says::Status(410)]);
    comes_to(&env, queued("e1", json!({}))).await;
    env.clock.advance(Duration::from_secs(60));
    let renewed = event(json!({ "id": "e2", "created_at": "2026-11-21T12:00:30Z" }));
    let accepted = ["delivery.shop.accepted._ accepted"];
    assert_eq!(comes_to(&env, renewed).await, accepted);
    assert_eq!(comes_to(&env, queued("e3", json!({}))).await, accepted);
    assert_eq!(env.service.requests.lock().len(), 3);
    let metrics = env.pipeline.metrics.render().unwrap();
    let once = "\npushrider_pushed_after_gone_total 1\n";
    assert!(metrics.contains(once), "e2 alone was newer");
}

/// A change of the prefetch makes RabbitMQ mark messages as redelivered that no process has seen.
#[tokio::test]
async fn of_the_redelivered_the_event_by_which_the_end_was_found_alone_is_sent_again() {
    let env = env([Says::Status(410), Says::Status(410)]);
    comes_to(&env, queued("e1", json!({}))).await;
    let redelivered = async |id| {
        let inbound = Inbound {
            redelivered: true,
            ..inbound(queued(id, json!({})))
        };
        outline(&env.pipeline.process(&inbound).await)
    };
    let [result, change] = [
        "delivery.shop.gone._ unsubscribed",
        "subscription.shop.gone",
    ];
    assert_eq!(redelivered("e1").await, [result, change]);
    assert_eq!(redelivered("e2").await, [result]);
    assert_eq!(env.service.requests.lock().len(), 2);
}

#[tokio::test]
async fn what_comes_back_from_waiting_finds_its_subscription_gone() {
    let env = env([Says::Status(503), Says::Status(410)]);
    let first = env.pipeline.process(&inbound(event(json!({})))).await;
    assert_eq!(outline(&first), ["wait 5s service_unavailable 1"]);
    env.clock.advance(Duration::from_secs(3));
    comes_to(&env, queued("e2", json!({}))).await;
    env.clock.advance(Duration::from_secs(2));
    let back = env.pipeline.process(&returned(&first[0])).await;
    assert_eq!(outline(&back), ["delivery.shop.gone._ unsubscribed"]);
    let result = parsed(&back[0]);
    assert_eq!(
        [&result["attempts"], &result["requests"], &result["status"]],
        [&json!(1), &json!(1), &json!(410)]
    );
}

#[tokio::test]
async fn the_dead_of_a_campaign_are_counted_though_nothing_is_sent_to_them() {
    let env = env([Says::Status(410)]);
    comes_to(&env, queued("e1", json!({ "subscription": fcm("0") }))).await;
    let mut campaign: Value = serde_json::from_str(&campaign(3)).unwrap();
    campaign["created_at"] = json!("2026-11-21T11:00:00Z");
    let publications = env.pipeline.process(&inbound(campaign.to_string())).await;
    assert_eq!(
        outline(&publications),
        [
            "delivery.shop.gone._ unsubscribed",
            "delivery.shop.accepted._ accepted",
            "delivery.shop.accepted._ accepted",
            "summary.shop._"
        ]
    );
    assert_eq!(parsed(&publications[3])["outcomes"]["gone"], 1);
    assert_eq!(env.service.requests.lock().len(), 3);
}
