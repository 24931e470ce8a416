//! Ends of subscriptions that must be told twice, where messages do not live that long.

use super::*;

const UNLISTED: &str = "https://push.example.net/x";

fn short(endpoint: &str, id: &str) -> String {
    event(json!({ "id": id, "ttl": 60, "subscription": subscription(endpoint) }))
}

const EXPIRED: [&str; 1] = ["delivery.shop.expired._ ttl_elapsed"];
const GONE: [&str; 2] = ["delivery.shop.gone._ not_found", "subscription.shop.gone"];
const ACCEPTED: [&str; 1] = ["delivery.shop.accepted._ accepted"];

#[tokio::test]
async fn a_404_is_confirmed_by_that_of_a_later_message() {
    for endpoint in [UNLISTED, "https://fcm.googleapis.com/fcm/send/x"] {
        let env = env((0..3).map(|_| Says::Status(404)));
        assert_eq!(comes_to(&env, short(endpoint, "e1")).await, EXPIRED);
        env.clock.advance(Duration::from_secs(599));
        let waits = comes_to(&env, short(endpoint, "e2")).await;
        assert_eq!(waits, ["wait 5s service_unavailable 1"]);
        env.clock.advance(Duration::from_secs(1));
        assert_eq!(comes_to(&env, short(endpoint, "e3")).await, GONE);
    }
}

#[tokio::test]
async fn a_404_is_forgotten_when_a_message_is_taken_and_after_a_day_and_a_half() {
    let script = [404, 201, 404, 404].map(Says::Status);
    let env = env(script);
    assert_eq!(comes_to(&env, short(UNLISTED, "e1")).await, EXPIRED);
    env.clock.advance(Duration::from_secs(900));
    assert_eq!(comes_to(&env, short(UNLISTED, "e2")).await, ACCEPTED);
    assert_eq!(comes_to(&env, short(UNLISTED, "e3")).await, EXPIRED);
    env.clock.advance(Duration::from_hours(36));
    assert_eq!(comes_to(&env, short(UNLISTED, "e4")).await, EXPIRED);
}

#[tokio::test]
async fn fcms_doubt_of_an_hour_is_confirmed_by_the_fourth_message() {
    const DOUBT: &str = "invalid push subscription endpoint.";
    let fcm = "https://fcm.googleapis.com/fcm/send/x";
    let env = env((0..5).map(|_| Says::Text(403, DOUBT)));
    for minutes in [0, 10, 40] {
        env.clock.advance(Duration::from_secs(minutes * 60));
        assert_eq!(comes_to(&env, short(fcm, "e")).await, EXPIRED);
    }
    env.clock.advance(Duration::from_secs(599));
    assert_eq!(comes_to(&env, short(fcm, "e")).await, EXPIRED);
    env.clock.advance(Duration::from_secs(1));
    assert_eq!(comes_to(&env, short(fcm, "e")).await, GONE);
}
