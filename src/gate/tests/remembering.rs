//! Which origins are remembered, and which may be forgotten.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_protects_an_origin_is_not_forgotten_for_strangers() {
    let (gates, at) = tripped().await;
    let paused = asked(&gates, "b", "main", at).await.unwrap();
    paused.report(&throttled(Some(Scope::Key), 3600), at);
    let held = asked(&gates, "c", "main", at).await.unwrap();
    for n in 0..ORIGIN_LIMIT * 2 {
        let at = at + Duration::from_millis(n as u64 / 10);
        drop(asked(&gates, &format!("s{n}"), "main", at).await.unwrap());
        assert!(gates.origins() <= ORIGIN_LIMIT);
    }
    let later = at + SECOND * 4;
    for (host, why) in [("a", Why::BreakerOpen), ("b", Why::Paused)] {
        assert_eq!(
            asked(&gates, host, "main", later).await.unwrap_err().why,
            why
        );
    }
    let _one_more = asked(&gates, "c", "main", later).await.unwrap();
    let third = asked(&gates, "c", "main", later).await.unwrap_err();
    assert_eq!(third.why, Why::Busy, "those that are held count");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_nobody_asks_for_is_forgotten_and_no_longer_shown() {
    let (gates, at) = tripped().await;
    let much_later = at + Duration::from_secs(3600);
    drop(asked(&gates, "b", "main", much_later).await);
    assert_eq!((gates.origins(), gates.breakers_open()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn origins_there_is_no_room_for_share_one_gate() {
    let (gates, at) = (Gates::new(SETTINGS), now());
    let pause = throttled(Some(Scope::Origin), 3600);
    for n in 0..ORIGIN_LIMIT {
        let permit = asked(&gates, &format!("s{n}"), "main", at).await.unwrap();
        permit.report(&pause, at);
    }
    let first = asked(&gates, "x", "main", at).await.unwrap();
    let second = asked(&gates, "y", "main", at).await.unwrap();
    let third = asked(&gates, "z", "main", at).await;
    assert_eq!(third.unwrap_err().why, Why::Busy);
    assert_eq!(gates.origins(), ORIGIN_LIMIT);
    drop((first, second));
}
