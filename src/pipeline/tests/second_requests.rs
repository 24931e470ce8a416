//! Tokens that are refused, and requests that follow a first one at once.

use super::keys::{requests, ring, sent, to};
use super::*;
use crate::subscription::decode_base64;

/// FCM's words for a token that it takes for expired.
const EXPIRED: &str = "the token has expired";

/// Returns the claims of the token that the `n`th request carried.
fn claims(env: &TestEnv, n: usize) -> Value {
    let requests = env.service.requests.lock();
    let header = requests[n].headers["authorization"].to_str().unwrap();
    let claims = header.split('.').nth(1).unwrap();
    serde_json::from_slice(&decode_base64(claims).unwrap()).unwrap()
}

#[tokio::test]
async fn an_expired_token_is_replaced_by_one_that_goes_by_the_services_clock() {
    let start = SystemTime::UNIX_EPOCH + NOON;
    for there in [
        start + Duration::from_hours(30),
        start - Duration::from_hours(30),
    ] {
        let script = [
            Says::Dated(403, EXPIRED, there),
            Says::Dated(201, "", there),
        ];
        let env = env_of(ring(&["main"]), script, 100);
        let publications = env.pipeline.process(&inbound(to("a", json!({})))).await;
        let result = parsed(&publications[0]);
        assert_eq!(
            (&result["outcome"], &result["requests"]),
            (&json!("accepted"), &json!(2))
        );
        let warning = result["warnings"][0].to_string();
        assert!(warning.contains("second_request") && warning.contains("fresh_token"));
        let exp = claims(&env, 1)["exp"].as_u64().unwrap();
        let there = there.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(exp, (there + Duration::from_hours(12)).as_secs());
        sent(&env, to("b", json!({}))).await;
        assert_eq!(requests(&env), 3);
        assert_eq!(
            claims(&env, 2),
            claims(&env, 1),
            "the fresh token serves on"
        );
        let skew = env.pipeline.metrics.render().unwrap();
        let ahead =
            i64::try_from(NOON.as_secs()).unwrap() - i64::try_from(there.as_secs()).unwrap();
        let line = format!(r#"pushrider_clock_drift_seconds{{push_service="fcm"}} {ahead}"#);
        assert!(skew.contains(&line), "{line}");
    }
}

#[tokio::test]
async fn a_token_that_is_refused_twice_waits_for_the_key() {
    let script = [Says::Text(403, EXPIRED), Says::Text(403, EXPIRED)];
    let env = env_of(ring(&["main"]), script, 100);
    let waits = comes_to(&env, to("a", json!({}))).await;
    assert_eq!(waits, ["wait 10s vapid_rejected 0"]);
    assert_eq!(requests(&env), 2);
}

#[tokio::test]
async fn a_wall_clock_that_steps_by_hours_costs_nothing() {
    let env = env_of(ring(&["main"]), [], 100);
    let start = SystemTime::UNIX_EPOCH + NOON;
    for (n, wall) in [
        start,
        start + Duration::from_hours(11),
        start - Duration::from_hours(11),
        start + Duration::from_hours(30),
    ]
    .into_iter()
    .enumerate()
    {
        env.clock.jump(wall);
        sent(&env, to("a", json!({}))).await;
        assert_eq!(claims(&env, n), claims(&env, 0));
    }
}

#[tokio::test]
async fn a_second_request_leaves_out_what_the_first_was_refused_for() {
    let apple = subscription("https://web.push.apple.com/QGxyz");
    let script = [Says::Text(400, r#"{"reason":"BadWebPushTopic"}"#)];
    let env = env_of(ring(&["main"]), script, 100);
    let body = to("a", json!({ "subscription": apple, "topic": "orders" }));
    let publications = env.pipeline.process(&inbound(body)).await;
    let result = parsed(&publications[0]);
    assert_eq!(
        (&result["outcome"], &result["requests"]),
        (&json!("accepted"), &json!(2))
    );
    assert!(result["warnings"].to_string().contains("without_topic"));
    let requests = env.service.requests.lock();
    let topics: Vec<_> = requests
        .iter()
        .map(|it| it.headers.contains_key("topic"))
        .collect();
    assert_eq!(topics, [true, false]);
}

#[tokio::test]
async fn a_request_that_was_not_seen_does_not_count_as_the_first() {
    let script = [Says::Fails(Failure::NotProcessed), Says::Text(403, EXPIRED)];
    let env = env_of(ring(&["main"]), script, 100);
    assert_eq!(
        sent(&env, to("a", json!({}))).await,
        (json!(3), json!("main"))
    );
}
