//! Breakers, probes and pauses.

use super::*;

const HALF_OPEN: Change = Change::Breaker(BreakerState::HalfOpen, Duration::ZERO);
const CLOSED: Change = Change::Breaker(BreakerState::Closed, Duration::ZERO);

#[tokio::test(start_paused = true)]
async fn an_open_breaker_defers_at_once_and_only_its_own_origin() {
    let (gates, at) = tripped().await;
    let before = now();
    let deferral = asked(&gates, "a", "main", at + SECOND).await.unwrap_err();
    assert_eq!(
        (deferral.why, deferral.left),
        (DeferralReason::BreakerOpen, SECOND * 4)
    );
    assert_eq!(now(), before, "nobody waited");
    assert!(asked(&gates, "b", "main", at).await.is_ok());
    assert_eq!(gates.breakers_open(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_probe_closes_the_breaker() {
    let (gates, at) = tripped().await;
    let later = at + SECOND * 5;
    let probe = asked(&gates, "a", "main", later).await.unwrap();
    assert_eq!(probe.change(), Some(HALF_OPEN));
    let second = asked(&gates, "a", "main", later).await.unwrap_err();
    assert_eq!(second.why, DeferralReason::BreakerOpen);
    assert_eq!(gates.breakers_open(), 1);
    assert_eq!(probe.report(&accepted(), later), Some(CLOSED));
    assert_eq!(gates.breakers_open(), 0);
    assert_eq!(comes_to(&gates, &accepted(), later).await, None);
    assert_at_rest(&gates, "a", 2);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_probe_leaves_the_place_to_the_next() {
    let (gates, at) = tripped().await;
    let later = at + SECOND * 5;
    drop(asked(&gates, "a", "main", later).await.unwrap());
    assert_eq!(gates.breakers_open(), 1);
    let next = asked(&gates, "a", "main", later).await.unwrap();
    assert_eq!(next.change(), Some(HALF_OPEN));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_is_counted_once() {
    let (gates, at) = tripped().await;
    let change = comes_to(&gates, &unavailable(), at + SECOND * 5).await;
    assert_eq!(
        change,
        Some(Change::Breaker(BreakerState::Open, SECOND * 10))
    );
    assert_eq!(gates.breakers_open(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_throttle_never_opens_the_breaker() {
    let (gates, at) = (Gates::new(SETTINGS), now());
    for _ in 0..100 {
        assert_eq!(comes_to(&gates, &throttled(None, 60), at).await, None);
    }
    assert_eq!(gates.breakers_open(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_back_whom_it_speaks_of() {
    for (scope, same_key, other_key) in [
        (Some(Scope::Origin), false, false),
        (Some(Scope::Key), false, true),
        (None, true, true),
    ] {
        let (gates, at) = (Gates::new(SETTINGS), now());
        let change = comes_to(&gates, &throttled(scope, 60), at).await;
        let paused = scope.map(|scope| Change::Paused(scope, SECOND * 60));
        assert_eq!(change, paused);
        for (name, admitted) in [("main", same_key), ("other", other_key)] {
            let answer = asked(&gates, "a", name, at + SECOND * 59).await;
            assert_eq!(answer.is_ok(), admitted, "{scope:?} {name}");
            let left = answer.err().map(|it| (it.why, it.left));
            assert_eq!(
                left,
                (!admitted).then_some((DeferralReason::Paused, SECOND))
            );
            assert!(asked(&gates, "a", name, at + SECOND * 60).await.is_ok());
        }
        assert!(asked(&gates, "b", "main", at).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_does_not_use_up_the_probe() {
    let (gates, at) = tripped().await;
    let later = at + SECOND * 5;
    let change = comes_to(&gates, &throttled(Some(Scope::Key), 60), later).await;
    assert_eq!(change, Some(CLOSED), "it is up");
    let paused = asked(&gates, "a", "main", later).await.unwrap_err();
    assert_eq!(paused.why, DeferralReason::Paused);
    assert!(asked(&gates, "a", "other", later).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_waited_for_room_at_a_gate_that_was_shut_meanwhile_is_deferred() {
    let (gates, at) = (Gates::new(SETTINGS), now());
    let held = [
        asked(&gates, "a", "main", at).await.unwrap(),
        asked(&gates, "a", "main", at).await.unwrap(),
    ];
    let verdict = throttled(Some(Scope::Origin), 60);
    let (waiting, ()) = tokio::join!(asked(&gates, "a", "main", at), async {
        for permit in held {
            permit.report(&verdict, at);
        }
    });
    assert_eq!(waiting.unwrap_err().why, DeferralReason::Paused);
    assert_at_rest(&gates, "a", 1);
}
