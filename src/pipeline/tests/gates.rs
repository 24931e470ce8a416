//! Who is not admitted.

use super::*;
use crate::clock::{Clock as _, SystemClock};

#[tokio::test(start_paused = true)]
async fn without_room_a_recipient_waits_in_the_broker_and_uses_up_no_attempt() {
    let env = env_of(app(Mode::Send), [], 0);
    assert_eq!(comes_to(&env, event(json!({}))).await, ["wait 1s busy 0"]);
}

#[tokio::test(start_paused = true)]
async fn while_there_is_no_room_a_recipient_never_waits_for_more_than_half_of_its_life() {
    let env = env_of(app(Mode::Send), [], 0);
    let mut copy = env
        .pipeline
        .process(&inbound(event(json!({ "ttl": 40 }))))
        .await;
    let (mut left, mut waits) = (Duration::from_secs(40), Vec::new());
    while let Route::Delay {
        after, rounding, ..
    } = copy[0].to
    {
        let most = (left / 2).max(Duration::from_millis(100));
        assert!(after <= most, "{after:?} of {left:?}");
        assert_eq!(rounding, Rounding::Up { within: left });
        waits.push(after);
        left -= after;
        env.clock.advance(after);
        copy = env.pipeline.process(&returned(&copy[0])).await;
    }
    assert_eq!(outline(&copy), ["delivery.shop.expired._ ttl_elapsed"]);
    assert!(left < Duration::from_millis(200), "{left:?} left");
    assert!((5..20).contains(&waits.len()), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn schedules_and_retries_do_not_count_as_deferrals() {
    let env = env_of(app(Mode::Send), [], 0);
    for (deferrals, expected) in [(0, "wait 1s busy 0"), (1, "wait 3s busy 0")] {
        let history = RetryHistory {
            pass: 9,
            deferrals,
            ..RetryHistory::default()
        };
        let again = Inbound {
            source: Source::Due,
            properties: BasicProperties::default().with_headers(history.write()),
            ..inbound(event(json!({})))
        };
        let publications = env.pipeline.process(&again).await;
        assert_eq!(outline(&publications), [expected]);
        assert_eq!(
            RetryHistory::read(&publications[0].headers).deferrals,
            deferrals + 1
        );
    }
}

#[tokio::test]
async fn an_attempt_ends_the_row_of_deferrals() {
    let env = env([Says::Status(503)]);
    let history = RetryHistory {
        deferrals: 4,
        ..RetryHistory::default()
    };
    let again = Inbound {
        source: Source::Due,
        properties: BasicProperties::default().with_headers(history.write()),
        ..inbound(event(json!({})))
    };
    let publications = env.pipeline.process(&again).await;
    assert_eq!(outline(&publications), ["wait 5s service_unavailable 1"]);
    assert_eq!(RetryHistory::read(&publications[0].headers).deferrals, 0);
}

/// An event of its own endpoint and name.
fn numbered(n: usize) -> String {
    event(json!({ "id": format!("n{n}"), "subscription": fcm(&n.to_string()) }))
}

/// An environment whose push service has failed ten times in a row.
async fn env_with_open_breaker(then: impl IntoIterator<Item = Says>) -> TestEnv {
    let failures = (0..10).map(|_| Says::Status(503));
    let env = env(failures.chain(then));
    for n in 0..10 {
        let publications = comes_to(&env, numbered(n)).await;
        assert_eq!(publications, ["wait 5s service_unavailable 1"]);
    }
    env
}

#[tokio::test]
async fn who_meets_an_open_breaker_waits_and_uses_up_no_attempt() {
    let env = env_with_open_breaker([]).await;
    let first = env.pipeline.process(&inbound(numbered(10))).await;
    assert_eq!(outline(&first), ["wait 5s busy 0"], "the first in line");
    assert_eq!(env.service.requests.lock().len(), 10);
    let elsewhere = subscription("https://updates.push.services.mozilla.com/wpush/v2/a");
    assert_eq!(
        comes_to(&env, event(json!({ "subscription": elsewhere }))).await,
        ["delivery.shop.accepted._ accepted"]
    );
    env.clock.advance(Duration::from_secs(10));
    let second = env.pipeline.process(&returned(&first[0])).await;
    assert_eq!(outline(&second), ["delivery.shop.accepted._ accepted"]);
    let result = parsed(&second[0]);
    assert_eq!(
        (&result["attempts"], &result["requests"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test]
async fn a_probe_that_panics_leaves_the_place_to_the_next() {
    let env = env_with_open_breaker([Says::Panics]).await;
    env.clock.advance(Duration::from_secs(5));
    assert_eq!(
        comes_to(&env, numbered(10)).await,
        ["quarantine", "delivery.shop.rejected._ internal_error"]
    );
    assert_eq!(
        comes_to(&env, numbered(11)).await,
        ["delivery.shop.accepted._ accepted"]
    );
    let metrics = env.pipeline.metrics.render().unwrap();
    for (to, count) in [("open", 1), ("half_open", 2), ("closed", 1)] {
        let labels = format!("push_service=\"fcm\",to=\"{to}\"");
        let line = format!("pushrider_breaker_transitions_total{{{labels}}} {count}");
        assert!(metrics.contains(&line), "{line}");
    }
    assert!(metrics.contains("pushrider_breakers_open 0"));
}

#[tokio::test]
async fn who_has_no_time_for_a_pause_is_told_what_for() {
    let env = env([Says::RetryAfter(429, "120")]);
    assert_eq!(comes_to(&env, numbered(0)).await, ["wait 120s throttled 1"]);
    let short = event(json!({ "id": "e2", "ttl": 60 }));
    let publications = env.pipeline.process(&inbound(short)).await;
    assert_eq!(
        outline(&publications),
        ["delivery.shop.expired._ ttl_elapsed"]
    );
    let detail = parsed(&publications[0])["detail"].to_string();
    assert!(
        detail.contains("the pause that the push service asked for"),
        "{detail}"
    );
    assert_eq!(
        comes_to(&env, numbered(1)).await,
        ["wait 120s busy 0"],
        "the first in line"
    );
}

#[tokio::test(start_paused = true)]
async fn a_subscription_of_mozilla_whose_request_hangs_holds_up_no_other() {
    let expected = Arc::new(Notify::new());
    let env = env_of(app(Mode::Send), [Says::Holds(Arc::clone(&expected))], 2);
    let mozilla = |id: usize, token: &str| {
        let endpoint = format!("https://updates.push.services.mozilla.com/wpush/v2/{token}");
        let id = format!("{token}{id}");
        inbound(event(
            json!({ "id": id, "subscription": subscription(&endpoint) }),
        ))
    };
    let hung: Vec<_> = (0..100).map(|n| mozilla(n, "hangs")).collect();
    let pushed = async |inbound: &Inbound| outline(&env.pipeline.process(inbound).await);
    let (other, late) = (mozilla(0, "answers"), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        expected.notify_one();
    });
    let began = SystemClock.now().mono;
    let hung = futures_util::future::join_all(hung.iter().map(&pushed));
    let other = async { (pushed(&other).await, SystemClock.now().mono - began) };
    let (hung, (other, after), ()) = futures_util::join!(hung, other, late);
    assert_eq!(other, ["delivery.shop.accepted._ accepted"]);
    assert!(after < Duration::from_millis(100), "{after:?}");
    let waits = hung.iter().filter(|it| *it[0] == *"wait 1s busy 0").count();
    assert_eq!(waits, 99, "{hung:?}");
    assert_eq!(env.service.requests.lock().len(), 2);
}
