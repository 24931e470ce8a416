//! Which application a message is for, and what its id says, also once it has waited.

use super::*;

/// Two applications and none that is called `default`.
fn two_applications(script: impl IntoIterator<Item = Says>) -> TestEnv {
    let apps = ["blog", "shop"].map(|it| Arc::new(App::for_tests(it)));
    env_with(Apps::new(apps.into()), script, 100, false)
}

fn keyed(key: &str, body: String) -> Inbound {
    Inbound {
        routing_key: key.into(),
        ..inbound(body)
    }
}

fn warnings(publication: &Publication) -> Vec<String> {
    let words = parsed(publication)["warnings"].clone();
    let words: Vec<String> = serde_json::from_value(words).unwrap();
    let word = |text: &String| text.split(':').next().unwrap().to_owned();
    words.iter().map(word).collect()
}

#[tokio::test]
async fn a_routing_key_names_the_application_of_an_event_that_names_none() {
    let env = two_applications([]);
    for (key, app, outcome, warned) in [
        (
            "blog.default",
            None,
            "delivery.blog.accepted._ accepted",
            &[][..],
        ),
        (
            "news.default",
            None,
            "delivery._unknown.rejected._ unknown_app",
            &[],
        ),
        (
            "news.default",
            Some("shop"),
            "delivery.shop.accepted._ accepted",
            &[],
        ),
        (
            "shop.default",
            Some("shop"),
            "delivery.shop.accepted._ accepted",
            &[],
        ),
        (
            "blog.default",
            Some("shop"),
            "delivery.shop.accepted._ accepted",
            &["routing_key_mismatch"],
        ),
        (
            "blog.default",
            Some("news"),
            "delivery._unknown.rejected._ unknown_app",
            &["routing_key_mismatch"],
        ),
    ] {
        let body = event(json!({ "app": app }));
        let publications = env.pipeline.process(&keyed(key, body)).await;
        assert_eq!(outline(&publications), [outcome], "{key} {app:?}");
        assert_eq!(warnings(&publications[0]), warned, "{key} {app:?}");
    }
}

#[tokio::test]
async fn what_is_no_event_is_told_to_the_application_of_the_routing_key() {
    let env = two_applications([]);
    let publications = env.pipeline.process(&keyed("blog.high", "?".into())).await;
    assert_eq!(
        outline(&publications),
        ["quarantine", "delivery.blog.rejected._ malformed_event"]
    );
}

#[tokio::test]
async fn an_event_that_waits_keeps_its_application_and_its_warnings() {
    for (app, found, warned) in [
        (None, "blog", &["derived_id"][..]),
        (
            Some("shop"),
            "shop",
            &["derived_id", "routing_key_mismatch"],
        ),
    ] {
        let env = two_applications([Says::Status(503), Says::Status(503)]);
        let body = event(json!({ "id": null, "app": app }));
        let mut waits = env.pipeline.process(&keyed("blog.default", body)).await;
        for _pass in 0..2 {
            assert_eq!(waits[0].kind, Kind::Retry);
            env.clock.advance(Duration::from_secs(60));
            waits = env.pipeline.process(&returned(&waits[0])).await;
        }
        let outcome = format!("delivery.{found}.accepted._ accepted");
        assert_eq!(outline(&waits), [outcome]);
        assert_eq!(warnings(&waits[0]), warned);
    }
}

#[tokio::test]
async fn the_chunks_of_an_event_are_for_its_application() {
    let env = two_applications([]);
    let chunks = env
        .pipeline
        .process(&keyed("blog.default", campaign(60)))
        .await;
    assert_eq!(outline(&chunks), ["chunk to default"; 2]);
    let publications = env.pipeline.process(&returned(&chunks[1])).await;
    assert_eq!(
        outline(&publications)[0],
        "delivery.blog.accepted._ accepted"
    );
    assert_eq!(outline(&publications)[10], "summary.blog._");
}

#[tokio::test]
async fn an_id_is_derived_only_where_the_producer_gives_none() {
    let env = env([]);
    let body = event(json!({ "id": null }));
    let properties = BasicProperties::default().with_message_id("m1".into());
    for (message, warned) in [
        (inbound(event(json!({}))), &[][..]),
        (
            Inbound {
                properties,
                ..inbound(body.clone())
            },
            &[],
        ),
        (inbound(body), &["derived_id"]),
    ] {
        let publications = env.pipeline.process(&message).await;
        assert_eq!(warnings(&publications[0]), warned);
    }
}

#[tokio::test]
async fn a_copy_that_the_broker_gives_up_on_ends_for_its_application() {
    let env = two_applications([Says::Status(503)]);
    let body = event(json!({}));
    let waits = env.pipeline.process(&keyed("blog.high", body)).await;
    let mut message = returned(&waits[0]);
    message.source = Source::Undeliverable;
    let mut headers = waits[0].headers.clone();
    headers.insert(
        "x-first-death-reason".into(),
        lapin::types::AMQPValue::LongString("delivery_limit".into()),
    );
    message.properties = message.properties.with_headers(headers);
    let publications = env.pipeline.process(&message).await;
    assert_eq!(
        outline(&publications),
        ["quarantine", "delivery.blog.rejected._ poison"]
    );
    let key = crate::wire::quarantine::routing_key(&publications[0].headers);
    assert_eq!(key, Some("blog.high"));
}
