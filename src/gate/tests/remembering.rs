//! Which origins are remembered, and which may be forgotten.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_protects_an_origin_is_not_evicted_for_unlisted_origins() {
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
    for (host, why) in [
        ("a", DeferralReason::BreakerOpen),
        ("b", DeferralReason::Paused),
    ] {
        assert_eq!(
            asked(&gates, host, "main", later).await.unwrap_err().why,
            why
        );
    }
    let _one_more = asked(&gates, "c", "main", later).await.unwrap();
    let third = asked(&gates, "c", "main", later).await.unwrap_err();
    assert_eq!(third.why, DeferralReason::Busy, "those that are held count");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_nobody_asks_for_is_forgotten_and_no_longer_shown() {
    let (gates, at) = tripped().await;
    let much_later = at + Duration::from_secs(3600);
    drop(asked(&gates, "b", "main", much_later).await);
    assert_eq!((gates.origins(), gates.breakers_open()), (1, 0));
}

/// Pauses as many unlisted origins for a day as the table has entries, and one more eighth.
async fn paused_flood(gates: &Gates, at: Instant) {
    let pause = throttled(Some(Scope::Origin), 86_400);
    for n in 0..ORIGIN_LIMIT * 9 / 8 {
        let host = format!("s{n}.example");
        let permit = asked_as(Listing::Unlisted, gates, &host, "main", at).await;
        permit.unwrap().report(&pause, at);
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_never_shares_the_pause_of_another_in_a_full_table() {
    let (gates, at) = (Gates::new(SETTINGS), now());
    paused_flood(&gates, at).await;
    for listing in [Listing::Listed, Listing::Unlisted] {
        for host in ["x", "y", "z"] {
            let host = format!("{host}{}", listing.is_listed());
            let permit = asked_as(listing, &gates, &host, "main", at).await.unwrap();
            permit.report(&throttled(Some(Scope::Origin), 60), at);
            let again = asked_as(listing, &gates, &host, "main", at).await;
            assert_eq!(again.unwrap_err().why, DeferralReason::Paused, "{host}");
        }
    }
    assert!(gates.origins() <= ORIGIN_LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unlisted_pauses_forgets_no_listed_origin() {
    let (gates, at) = (Gates::new(SETTINGS), now());
    comes_to(&gates, &throttled(Some(Scope::Origin), 86_400), at).await;
    paused_flood(&gates, at + SECOND).await;
    let left = asked(&gates, "a", "main", at + SECOND).await.unwrap_err();
    assert_eq!(left.why, DeferralReason::Paused);
}

#[tokio::test(start_paused = true)]
async fn names_below_listed_domains_that_never_answer_are_forgotten_first() {
    let (gates, at) = (Gates::new(SETTINGS), now());
    comes_to(&gates, &throttled(Some(Scope::Origin), 86_400), at).await;
    // Each has an open breaker, so none is at rest.
    for n in 0..ORIGIN_LIMIT * 9 / 8 {
        for _ in 0..SETTINGS.breaker.failures {
            let host = format!("n{n}.notify.windows.com");
            let permit = asked(&gates, &host, "main", at + SECOND).await.unwrap();
            permit.report(&unresolved(), at + SECOND);
        }
    }
    assert!(gates.origins() <= ORIGIN_LIMIT);
    assert!(gates.breakers_open() <= ORIGIN_LIMIT);
    let left = asked(&gates, "a", "main", at + SECOND).await.unwrap_err();
    assert_eq!(
        left.why,
        DeferralReason::Paused,
        "an origin that answered is kept"
    );
    let real = asked(&gates, "real", "main", at + SECOND).await.unwrap();
    real.report(&throttled(Some(Scope::Origin), 60), at + SECOND);
    assert!(asked(&gates, "other", "main", at + SECOND).await.is_ok());
}
