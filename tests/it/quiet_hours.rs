//! Delivery hours on a broker: nobody is pushed to before they begin.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pushrider::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::support::env::{TestEnv, event};

/// Hours of ten seconds that begin at a moment.
fn hours_from(begin: SystemTime) -> Value {
    let time = |at: SystemTime| {
        let at = Timestamp::try_from(at).unwrap();
        TimeZone::get("Asia/Kathmandu")
            .unwrap()
            .to_datetime(at)
            .strftime("%H:%M:%S")
            .to_string()
    };
    let end = begin + Duration::from_secs(10);
    json!({ "from": time(begin), "to": time(end), "zone": "Asia/Kathmandu" })
}

/// Returns the next moment with a whole second that is at least `wait` ahead.
fn ahead(wait: Duration) -> SystemTime {
    let since = SystemClock
        .now()
        .wall
        .duration_since(SystemTime::UNIX_EPOCH);
    let seconds = (since.unwrap() + wait).as_secs() + 1;
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[tokio::test]
async fn who_is_outside_the_hours_waits_in_the_broker_until_they_begin() {
    let mut env = TestEnv::open("").await;
    let [alice, bob, carol] = [(); 3].map(|()| env.subscribe(json!({})));
    let begin = ahead(Duration::from_secs(2));
    let hours = hours_from(begin);
    env.publish(&event("e1", &alice, json!({ "deliver_between": hours })))
        .await;
    let recipients = json!([
        { "id": "bob", "subscription": bob, "deliver_between": hours },
        { "id": "carol", "subscription": carol },
    ]);
    env.publish(
        &json!({ "id": "e2", "app": "shop", "payload": "hello", "recipients": recipients }),
    )
    .await;
    env.results_of("e1", 1).await;
    env.results_of("e2", 2).await;
    for (person, waits) in [(&alice, true), (&bob, true), (&carol, false)] {
        let received = env.sandbox.messages(Some(&person.id))[0].received_at;
        assert_eq!(received >= begin, waits);
        let late = received.duration_since(begin).unwrap_or_default();
        assert!(late < Duration::from_secs(5), "{late:?} late");
    }
    let deliveries = env.results.iter().filter(|it| it["outcome"] == "accepted");
    assert!(deliveries.clone().count() == 3 && deliveries.clone().all(|it| it["attempts"] == 1));
    env.settled().await;
}
