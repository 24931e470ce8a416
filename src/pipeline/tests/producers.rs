//! Messages as the libraries of producers write them.

use super::*;

fn typed(kind: &str, body: String) -> Inbound {
    Inbound {
        properties: BasicProperties::default().with_type(kind.into()),
        ..inbound(body)
    }
}

#[tokio::test]
async fn a_type_that_a_library_always_sets_does_not_reject_the_event() {
    let env = env([]);
    let kind = "Shop.Messages.PushRequested, Shop.Messages";
    let publications = env
        .pipeline
        .process(&typed(kind, event(json!({ "ttl": 1u64 << 40 }))))
        .await;
    assert_eq!(
        outline(&publications),
        ["delivery.shop.accepted._ accepted"]
    );
    let warnings = &parsed(&publications[0])["warnings"];
    assert!(
        warnings[1].as_str().unwrap().starts_with("foreign_type: "),
        "{warnings}"
    );
    for kind in ["webpush.delivery.v1", "webpush.notification.v2"] {
        let publications = env.pipeline.process(&typed(kind, event(json!({})))).await;
        assert_eq!(
            outline(&publications),
            ["quarantine", "delivery.shop.rejected._ unsupported_version"]
        );
    }
}

#[tokio::test]
async fn an_event_in_a_cloud_event_is_pushed_and_has_its_id_when_it_comes_back() {
    let env = env([Says::Status(503)]);
    let notification: Value = serde_json::from_str(&event(json!({ "id": null }))).unwrap();
    let body = json!({
        "specversion": "1.0", "id": "cloud-1", "source": "/shop", "type": "push",
        "data": notification,
    });
    let message = Inbound {
        properties: BasicProperties::default()
            .with_message_id("m1".into())
            .with_content_type("application/cloudevents+json".into()),
        ..inbound(body.to_string())
    };
    let waits = env.pipeline.process(&message).await;
    assert_eq!(waits[0].kind, Kind::Retry);
    env.clock.advance(Duration::from_secs(60));
    let publications = env.pipeline.process(&returned(&waits[0])).await;
    assert_eq!(
        outline(&publications),
        ["delivery.shop.accepted._ accepted"]
    );
    assert_eq!(parsed(&publications[0])["event_id"], "cloud-1");
}

#[tokio::test]
async fn a_cloud_event_without_data_is_rejected_by_a_sentence_of_its_own() {
    let env = env([]);
    let message = Inbound {
        properties: BasicProperties::default()
            .with_content_type("application/cloudevents+json".into()),
        ..inbound(r#"{"specversion":"1.0","id":"c1"}"#)
    };
    let publications = env.pipeline.process(&message).await;
    assert_eq!(
        outline(&publications),
        ["quarantine", "delivery.shop.rejected._ malformed_event"]
    );
    assert_eq!(
        parsed(&publications[1])["detail"],
        "data: is missing; the data of a CloudEvent is the event"
    );
}

#[tokio::test]
async fn a_byte_order_mark_does_not_reject_the_event() {
    let env = env([]);
    let publications = comes_to(&env, format!("\u{feff}{}", event(json!({})))).await;
    assert_eq!(publications, ["delivery.shop.accepted._ accepted"]);
}

#[tokio::test]
async fn an_envelope_is_named_in_place_of_its_members() {
    let env = env([]);
    let body = json!({ "pattern": "push.requested", "data": { "payload": "x" } });
    let publications = env.pipeline.process(&inbound(body.to_string())).await;
    let detail = parsed(&publications[1])["detail"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        detail.starts_with("the body is an envelope of NestJS; "),
        "{detail}"
    );
}
