//! A rate of requests, for one origin and one key.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;

use super::*;

fn paced(requests: u32) -> Gates {
    Gates::new(Settings {
        in_flight: 1000,
        per_origin: 1000,
        rate: NonZeroU32::new(requests).map(Rate::per_second),
        ..SETTINGS
    })
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_of_one_origin_and_one_key() {
    let (gates, at) = (paced(1), now());
    for (host, name) in [("a", "main"), ("a", "other"), ("b", "main")] {
        assert!(asked(&gates, host, name, at).await.is_ok());
        assert_eq!(now(), at, "nobody waited");
    }
    assert!(asked(&gates, "a", "main", at).await.is_ok());
    assert_eq!(now(), at + SECOND, "its turn came");
    let late = asked(&gates, "a", "main", at).await.unwrap_err();
    assert_eq!((late.why, late.left), (DeferralReason::Rate, SECOND * 3));
    assert_eq!(now(), at + SECOND, "nobody waits longer here");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_its_turn_holds_no_place() {
    let gates = Gates::new(Settings {
        rate: NonZeroU32::new(1).map(Rate::per_second),
        ..SETTINGS
    });
    let at = now();
    drop(asked(&gates, "a", "main", at).await.unwrap());
    tokio::select! {
        biased;
        _ = asked(&gates, "a", "main", at) => panic!("its turn is a second off"),
        () = tokio::task::yield_now() => assert_at_rest(&gates, "a", 2),
    }
}

#[tokio::test(start_paused = true)]
async fn a_shut_gate_uses_up_no_turn() {
    let (gates, at) = (paced(1), now());
    let permit = asked(&gates, "a", "main", at).await.unwrap();
    permit.report(&throttled(Some(Scope::Origin), 5), at);
    for _ in 0..10 {
        let paused = asked(&gates, "a", "main", at).await.unwrap_err();
        assert_eq!(paused.why, DeferralReason::Paused);
    }
    let later = at + SECOND * 5;
    assert!(asked(&gates, "a", "main", later).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_place_gives_its_turn_back() {
    let gates = Gates::new(Settings {
        per_origin: 1,
        rate: NonZeroU32::new(2).map(Rate::per_second),
        ..SETTINGS
    });
    let at = now();
    let held = asked(&gates, "a", "main", at).await.unwrap();
    for _ in 0..10 {
        let waited = asked(&gates, "a", "main", at + SECOND).await.unwrap_err();
        assert_eq!(waited.why, DeferralReason::Busy);
    }
    drop(held);
    assert!(asked(&gates, "a", "main", at + SECOND).await.is_ok());
}

/// Ten thousand at once at a rate of a hundred: none comes early, and all have gone after
/// as long as it takes, without having asked often.
#[tokio::test(start_paused = true)]
async fn a_crowd_comes_back_as_it_may_be_sent() {
    let (gates, start) = (paced(100), now());
    let mut asks = 0;
    let mut sent = Vec::new();
    let mut due: BinaryHeap<_> = (0..10_000).map(|_| Reverse((start, 0))).collect();
    while let Some(Reverse((at, passes))) = due.pop() {
        asks += 1;
        let key = key("main");
        let gate = gates.gate(&origin("a"), Listing::Listed, at);
        let rate = gates.settings.rate.unwrap();
        let request = Request {
            origin: &origin("a"),
            listing: Listing::Listed,
            key: &key,
            lane: &lane(),
            deferrals: passes,
        };
        match gate.take_turn(request, rate, SECOND, at) {
            Ok(wait) => sent.push(at + wait),
            Err(deferral) => {
                let delay = deferral.delay(passes, Duration::MAX, 1.0);
                due.push(Reverse((at + delay, passes + 1)));
            }
        }
    }
    let last = *sent.iter().max().unwrap() - start;
    assert!((SECOND * 99..=SECOND * 101).contains(&last), "{last:?}");
    assert!(asks <= 20_000, "{asks}");
    for second in 0..100 {
        let (from, to) = (start + SECOND * second, start + SECOND * (second + 1));
        let count = sent.iter().filter(|at| (from..to).contains(*at)).count();
        assert!(count <= 110, "{count} in second {second}");
    }
}
