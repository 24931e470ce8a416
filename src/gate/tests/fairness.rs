//! How many requests are under way, and which recipients wait for a permit.

use futures_util::FutureExt as _;

use super::*;

#[tokio::test(start_paused = true)]
async fn one_origin_cannot_take_the_room_of_another() {
    let gates = Gates::new(SETTINGS);
    let stalled = [
        granted(&gates, "a", true).await,
        granted(&gates, "a", true).await,
    ];
    assert!(stalled.iter().all(Option::is_some));
    assert!(granted(&gates, "a", true).await.is_none());
    assert!(granted(&gates, "b", true).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn unlisted_origins_share_half_of_the_whole() {
    let gates = Gates::new(SETTINGS);
    let unlisted = [
        granted(&gates, "a", false).await,
        granted(&gates, "b", false).await,
    ];
    assert!(unlisted.iter().all(Option::is_some));
    assert!(granted(&gates, "c", false).await.is_none());
    assert!(granted(&gates, "c", true).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_permit_frees_its_places_for_who_waits() {
    let gates = Gates::new(SETTINGS);
    let first = granted(&gates, "a", false).await;
    let _second = granted(&gates, "a", false).await;
    let (third, ()) = tokio::join!(granted(&gates, "a", false), async { drop(first) });
    assert!(third.is_some());
}

#[tokio::test(start_paused = true)]
async fn who_is_deferred_leaves_nothing_behind() {
    let gates = Gates::new(SETTINGS);
    let held = [
        granted(&gates, "a", false).await,
        granted(&gates, "a", false).await,
    ];
    assert!(granted(&gates, "a", false).await.is_none());
    drop(held);
    assert_at_rest(&gates, "a", 2);
}

#[tokio::test(start_paused = true)]
async fn places_that_are_held_when_the_limit_shrinks_do_not_come_back() {
    let (gates, at) = (Gates::new(SETTINGS), now());
    let slow = Verdict {
        reason: Reason::Timeout,
        ..unavailable()
    };
    let first = asked(&gates, "a", "main", at).await.unwrap();
    let second = asked(&gates, "a", "main", at).await.unwrap();
    first.report(&slow, at + SECOND);
    let waiting = asked(&gates, "a", "main", at + SECOND).await;
    assert_eq!(waiting.unwrap_err().why, DeferralReason::Busy);
    drop(second);
    assert_at_rest(&gates, "a", 1);
    for _ in 0..10 {
        comes_to(&gates, &accepted(), at + SECOND * 2).await;
    }
    assert_at_rest(&gates, "a", 2);
}

#[test]
fn a_lane_that_takes_all_the_slots_it_can_leaves_some_to_every_other() {
    let gates = Gates::new(Settings {
        in_flight: 500,
        ..SETTINGS
    });
    let take = |lane: &str| {
        let slots = gates.slots(&key(lane));
        std::iter::from_fn(|| slots.take()).collect::<Vec<_>>()
    };
    let bulk = take("bulk");
    assert_eq!(bulk.len(), 1000, "alone, two for each request in flight");
    let urgent = take("urgent");
    assert!(urgent.len() >= 400, "{}", urgent.len());
    assert!(take("third").len() >= 200);
    drop(bulk);
    assert!(take("bulk").len() >= 400);
}

/// Unlisted origins that stall hold the half of the whole that is theirs, and others ask beside them.
#[tokio::test(start_paused = true)]
async fn unlisted_origins_have_a_small_share_of_the_waiters_in_all() {
    let gates = Gates::new(Settings {
        in_flight: 500,
        per_origin: 200,
        ..SETTINGS
    });
    let mut held = Vec::new();
    for n in 0..250 {
        let permit = granted(&gates, &format!("s{n}.example"), false).await;
        held.push(permit.unwrap());
    }
    let ask = |n| {
        let gates = &gates;
        async move { granted(gates, &format!("s{n}.example"), false).await }.boxed_local()
    };
    let mut asking: Vec<_> = (250..500).map(ask).collect();
    let pending = asking.iter_mut().map(|it| it.now_or_never().is_none());
    assert_eq!(pending.filter(|waits| *waits).count(), 50);
}
