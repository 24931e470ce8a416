//! The deadline and the TTL at the moment of each request.

use futures_util::poll;

use super::keys::{ring, to};
use super::*;

/// FCM's words for a token that it takes for expired.
const EXPIRED: Says = Says::Text(403, "the token has expired");

/// FCM's words for a subscription that was made with another key.
const MISMATCH: Says = Says::Text(403, "the VAPID credentials do not correspond to the others");

/// Publishes an event to a push service that takes `seconds` for each answer; returns its end, with
/// the requests that it counts, and the TTL of each request that was made.
async fn ends(
    script: impl IntoIterator<Item = Says>,
    seconds: u64,
    more: Value,
) -> (String, Value, Vec<String>) {
    let env = env_of(ring(&["new", "old"]), script, 100);
    let step = Duration::from_secs(seconds);
    *env.service.slow.lock() = Some((Arc::clone(&env.clock), step));
    let publications = env.pipeline.process(&inbound(to("a", more))).await;
    let requests = env.service.requests.lock();
    let ttl = |it: &PushRequest| it.headers["ttl"].to_str().unwrap().to_owned();
    let end = outline(&publications).remove(0);
    (
        end,
        parsed(&publications[0])["requests"].clone(),
        requests.iter().map(ttl).collect(),
    )
}

#[tokio::test]
async fn no_second_request_is_made_after_the_deadline() {
    const EXPIRES: &str = "delivery.shop.expired._ ttl_elapsed";
    for (script, ttl, sent) in [(EXPIRED, 10, "10"), (MISMATCH, 10, "10"), (EXPIRED, 0, "0")] {
        let expected = ends([script], 30, json!({ "ttl": ttl })).await;
        assert_eq!(
            expected,
            (EXPIRES.to_owned(), json!(1), vec![sent.to_owned()])
        );
    }
}

#[tokio::test]
async fn a_second_request_has_the_ttl_that_is_left_then() {
    const ACCEPTED: &str = "delivery.shop.accepted._ accepted";
    for (script, ttl, sent) in [
        (EXPIRED, 60, ["60", "45"]),
        (MISMATCH, 60, ["60", "45"]),
        (EXPIRED, 0, ["0", "0"]),
    ] {
        let expected = ends([script], 15, json!({ "ttl": ttl })).await;
        let sent = sent.map(str::to_owned).to_vec();
        assert_eq!(expected, (ACCEPTED.to_owned(), json!(2), sent));
    }
}

#[tokio::test]
async fn a_deadline_that_comes_during_the_wait_for_a_permit_is_kept() {
    let expected = Arc::new(Notify::new());
    let env = env_of(app(Mode::Send), [Says::Holds(Arc::clone(&expected))], 1);
    let [first, second] = ["a", "b"].map(|token| inbound(to(token, json!({ "ttl": 10 }))));
    let mut holding = std::pin::pin!(env.pipeline.process(&first));
    let mut waiting = std::pin::pin!(env.pipeline.process(&second));
    assert!(poll!(&mut holding).is_pending());
    assert!(poll!(&mut waiting).is_pending());
    env.clock.advance(Duration::from_secs(10));
    expected.notify_one();
    holding.await;
    assert_eq!(
        outline(&waiting.await),
        ["delivery.shop.expired._ ttl_elapsed"]
    );
    assert_eq!(env.service.requests.lock().len(), 1);
}
