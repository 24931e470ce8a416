//! What an event, and each answer to its push, comes to.

use super::*;

#[tokio::test]
async fn every_answer_has_its_publications() {
    for (says, publications) in [
        (Says::Status(201), vec!["delivery.shop.accepted._ accepted"]),
        (
            Says::Status(410),
            vec![
                "delivery.shop.gone._ unsubscribed",
                "subscription.shop.gone",
            ],
        ),
        (
            Says::Text(404, NOT_FOUND),
            vec!["delivery.shop.gone._ not_found", "subscription.shop.gone"],
        ),
        // Google's front end, and not FCM's own words.
        (
            Says::Text(404, "<title>Error 404 (Not Found)!!1</title>"),
            vec!["wait 600s service_unavailable 1"],
        ),
        (
            Says::Status(400),
            vec!["delivery.shop.rejected._ bad_request"],
        ),
        (
            Says::Status(413),
            vec!["delivery.shop.rejected._ payload_too_large"],
        ),
        (
            Says::Status(301),
            vec!["delivery.shop.rejected._ redirected"],
        ),
        (Says::Status(503), vec!["wait 5s service_unavailable 1"]),
        (Says::RetryAfter(429, "120"), vec!["wait 120s throttled 1"]),
        (
            Says::RetryAfter(429, "nonsense"),
            vec!["wait 5s throttled 1"],
        ),
        (
            Says::RetryAfter(503, "999999999"),
            vec!["delivery.shop.expired._ ttl_elapsed"],
        ),
        (Says::Fails(Failure::Timeout), vec!["wait 5s timeout 1"]),
        (Says::Fails(Failure::Dns), vec!["wait 5s dns 1"]),
        (
            Says::Fails(Failure::ForbiddenAddress),
            vec!["wait 5s dns 1"],
        ),
        (
            Says::Panics,
            vec!["quarantine", "delivery.shop.rejected._ internal_error"],
        ),
    ] {
        let env = env([says]);
        assert_eq!(comes_to(&env, event(json!({}))).await, publications);
    }
}

#[tokio::test]
async fn a_private_address_ends_messages_of_unlisted_hosts_alone() {
    let unlisted = json!({ "subscription": subscription("https://push.example.net/x") });
    let apple = json!({ "subscription": subscription("https://web.push.apple.com/x") });
    for (more, publications) in [
        (apple, "wait 5s dns 1"),
        (unlisted, "delivery.shop.rejected._ endpoint_forbidden"),
    ] {
        let env = env([Says::Fails(Failure::ForbiddenAddress)]);
        assert_eq!(comes_to(&env, event(more)).await, [publications]);
    }
}

#[tokio::test]
async fn a_misdirected_request_is_made_again_at_once_and_then_waits() {
    let env = env_of(app(Mode::Send), [Says::Status(421)], 100);
    let (requests, _) = keys::sent(&env, event(json!({}))).await;
    assert_eq!(requests, json!(2));
    let misdirected = [Says::Status(421), Says::Status(421)];
    let env = env_of(app(Mode::Send), misdirected, 100);
    let waits = comes_to(&env, event(json!({}))).await;
    assert_eq!(waits, ["wait 5s service_unavailable 1"]);
}

#[tokio::test]
async fn a_result_says_what_happened() {
    let env = env([]);
    let publications = env
        .pipeline
        .process(&inbound(event(json!({ "metadata": { "order": 7 } }))))
        .await;
    let result = parsed(&publications[0]);
    for (member, value) in [
        ("event_id", json!("e1")),
        ("app", json!("shop")),
        ("push_service", json!("fcm")),
        ("status", json!(201)),
        ("attempts", json!(1)),
        ("requests", json!(1)),
        ("message_url", json!("https://fcm.googleapis.com/0:1%2")),
        ("vapid_key", json!("main")),
        ("sent_at", json!("2026-11-21T12:00:00.000Z")),
        ("metadata", json!({ "order": 7 })),
    ] {
        assert_eq!(result[member], value, "{member}");
    }
}

#[tokio::test]
async fn the_request_carries_what_is_left_of_the_lifetime() {
    let env = env([]);
    let created = json!({ "created_at": "2026-11-21T11:59:00Z", "ttl": 100, "urgency": "high" });
    comes_to(&env, event(created)).await;
    let requests = env.service.requests.lock();
    assert_eq!(requests[0].headers["ttl"], "40");
    assert_eq!(requests[0].headers["urgency"], "high");
    assert_eq!(requests[0].headers["content-encoding"], "aes128gcm");
    assert!(
        requests[0].headers["authorization"]
            .to_str()
            .unwrap()
            .starts_with("vapid t=")
    );
}

#[tokio::test]
async fn two_pushes_of_one_text_have_nothing_in_common() {
    let env = env([]);
    comes_to(&env, event(json!({ "id": "e1" }))).await;
    comes_to(&env, event(json!({ "id": "e2" }))).await;
    let requests = env.service.requests.lock();
    assert_ne!(requests[0].body[..16], requests[1].body[..16], "the salt");
    assert_ne!(
        requests[0].body[21..86],
        requests[1].body[21..86],
        "the sender key"
    );
    let tokens: Vec<_> = requests
        .iter()
        .map(|request| &request.headers["authorization"])
        .collect();
    assert_eq!(tokens[0], tokens[1], "one token serves an origin");
}

#[tokio::test]
async fn bad_input_costs_one_message_and_is_explained() {
    for (body, result) in [
        ("", "delivery.shop.rejected._ malformed_event"),
        ("null", "delivery.shop.rejected._ malformed_event"),
        ("[]", "delivery.shop.rejected._ malformed_event"),
        ("{\"id\":", "delivery.shop.rejected._ malformed_event"),
        (r#"{"id":"e1"}"#, "delivery.shop.rejected._ malformed_event"),
        (
            r#"{"app":"x","label":"l"}"#,
            "delivery._unknown.rejected.l malformed_event",
        ),
    ] {
        let env = env([]);
        let publications = env.pipeline.process(&inbound(body)).await;
        assert_eq!(outline(&publications), ["quarantine", result], "{body}");
        assert_eq!(publications[0].body, body);
        let detail = parsed(&publications[1])["detail"].to_string();
        assert!(
            detail.len() > 20 && !detail.contains("serde"),
            "{body}: {detail}"
        );
        assert!(env.service.requests.lock().is_empty());
    }
    let env = env([]);
    let large = comes_to(&env, " ".repeat((4 << 20) + 1)).await;
    assert_eq!(
        large,
        ["quarantine", "delivery.shop.rejected._ event_too_large"]
    );
}

#[tokio::test]
async fn a_message_of_another_type_is_not_taken_for_an_event() {
    for (kind, expected) in [
        (
            "webpush.notification.v1",
            vec!["delivery.shop.accepted._ accepted"],
        ),
        ("", vec!["delivery.shop.accepted._ accepted"]),
        (
            "webpush.notification.v2",
            vec!["quarantine", "delivery.shop.rejected._ unsupported_version"],
        ),
    ] {
        let env = env([]);
        let typed = Inbound {
            properties: BasicProperties::default().with_type(kind.into()),
            ..inbound(event(json!({})))
        };
        assert_eq!(
            outline(&env.pipeline.process(&typed).await),
            expected,
            "{kind}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_rejected_without_a_request() {
    let forbidden = json!({ "subscription": subscription("http://push.example.net/a") });
    let private = json!({ "subscription": subscription("https://10.0.0.1/a") });
    let removed = json!({ "subscription": subscription("https://permanently-removed.invalid/a") });
    for (more, publications) in [
        (
            forbidden,
            vec!["delivery.shop.rejected._ endpoint_forbidden"],
        ),
        (private, vec!["delivery.shop.rejected._ endpoint_forbidden"]),
        (
            removed,
            vec![
                "delivery.shop.gone._ removed_by_browser",
                "subscription.shop.gone",
            ],
        ),
        (
            json!({ "app": "nobody" }),
            vec!["delivery._unknown.rejected._ unknown_app"],
        ),
        (
            json!({ "payload": "x".repeat(3994) }),
            vec!["delivery.shop.rejected._ payload_too_large"],
        ),
        (
            json!({ "deliver_at": "2027-11-21T12:00:00Z" }),
            vec!["delivery.shop.rejected._ invalid_schedule"],
        ),
        (
            json!({ "expires_at": "2026-11-21T11:00:00Z" }),
            vec!["delivery.shop.expired._ expires_at_passed"],
        ),
        (
            json!({ "created_at": "2026-11-21T11:00:00Z", "ttl": 60 }),
            vec!["delivery.shop.expired._ ttl_elapsed"],
        ),
    ] {
        let env = env([]);
        assert_eq!(comes_to(&env, event(more)).await, publications);
        assert!(env.service.requests.lock().is_empty());
    }
}
