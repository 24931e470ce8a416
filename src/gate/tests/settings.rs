//! Other settings for permits in use.

use super::*;

#[tokio::test]
async fn other_settings_hold_for_permits_and_origins_in_use() {
    let gates = Gates::new(SETTINGS);
    let former = granted(&gates, "a", true).await.unwrap();
    let wider = gates.with_settings(Settings {
        in_flight: 10,
        per_origin: 5,
        ..SETTINGS
    });
    assert_eq!((wider.all.free(), wider.unlisted.free()), (9, 5));
    for gates in [&gates, &wider] {
        for host in ["a", "b"] {
            let gate = gates.gate(&origin(host), Listing::Listed, now());
            let taken = usize::from(host == "a");
            assert_eq!(gate.semaphore.free(), 5 - taken, "{host}");
        }
    }
    drop(former);
    assert_eq!(wider.all.free(), 10);
    let narrow = wider.with_settings(SETTINGS);
    assert_at_rest(&narrow, "a", 2);
}

#[tokio::test]
async fn a_breaker_that_is_open_stays_open_and_the_next_one_opens_by_the_new_settings() {
    let (gates, at) = tripped().await;
    let breaker = BreakerSettings {
        failures: 1,
        ..SETTINGS.breaker
    };
    let gates = gates.with_settings(Settings {
        breaker,
        ..SETTINGS
    });
    assert_eq!(gates.breakers_open(), 1);
    assert!(asked(&gates, "a", "main", at).await.is_err());
    let permit = asked(&gates, "b", "main", at).await.unwrap();
    let opens = Some(Change::Breaker(BreakerState::Open, SECOND * 5));
    assert_eq!(permit.report(&unavailable(), at), opens);
}
