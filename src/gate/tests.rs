//! Permits, breakers and pauses together, as the pipeline meets them.

use url::Url;

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::outcome::{Meaning, Reason, Verdict};

const SECOND: Duration = Duration::from_secs(1);

const SETTINGS: Settings = Settings {
    in_flight: 4,
    per_origin: 2,
    max_wait: SECOND,
    breaker: BreakerSettings {
        failures: 3,
        open: Duration::from_secs(5),
        open_cap: Duration::from_secs(300),
    },
};

fn origin(host: &str) -> Origin {
    Origin::of(&Url::parse(&format!("https://{host}/")).unwrap())
}

fn key(name: &str) -> Name {
    Name::parse(name).unwrap()
}

fn lane() -> Name {
    key("default")
}

fn now() -> Instant {
    SystemClock.now().mono
}

fn accepted() -> Verdict {
    Verdict::of(Meaning::Accepted, Reason::Accepted)
}

fn unavailable() -> Verdict {
    Verdict {
        meaning: Meaning::Retryable,
        reason: Reason::ServiceUnavailable,
        down: true,
        ..accepted()
    }
}

fn throttled(pause: Option<Scope>, seconds: u64) -> Verdict {
    Verdict {
        meaning: Meaning::Retryable,
        reason: Reason::Throttled,
        after: Some(Duration::from_secs(seconds)),
        pause,
        ..accepted()
    }
}

async fn asked(gates: &Gates, host: &str, name: &str, at: Instant) -> Result<Permit, Deferral> {
    let (origin, key) = (origin(host), key(name));
    match gates.admit(&origin, Listed(true), &key, &lane(), at).await {
        Admission::Granted(permit) => Ok(permit),
        Admission::Deferred(deferral) => Err(deferral),
    }
}

async fn granted(gates: &Gates, host: &str, listed: bool) -> Option<Permit> {
    let (origin, key) = (origin(host), key("main"));
    match gates
        .admit(&origin, Listed(listed), &key, &lane(), now())
        .await
    {
        Admission::Granted(permit) => Some(permit),
        Admission::Deferred(_) => None,
    }
}

/// Lets a request to `a` come to `verdict`.
async fn comes_to(gates: &Gates, verdict: &Verdict, at: Instant) -> Option<Change> {
    let permit = asked(gates, "a", "main", at).await.unwrap();
    permit.report(verdict, at)
}

/// Gates that leave the origin `a` alone for five seconds.
async fn tripped() -> (Gates, Instant) {
    let (gates, at) = (Gates::new(SETTINGS), now());
    for change in [None, None, Some(Change::Opened(SECOND * 5))] {
        assert_eq!(comes_to(&gates, &unavailable(), at).await, change);
    }
    (gates, at)
}

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
async fn strangers_share_half_of_the_whole() {
    let gates = Gates::new(SETTINGS);
    let strangers = [
        granted(&gates, "a", false).await,
        granted(&gates, "b", false).await,
    ];
    assert!(strangers.iter().all(Option::is_some));
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

fn assert_at_rest(gates: &Gates, host: &str, places: usize) {
    assert_eq!(gates.all.free(), SETTINGS.in_flight);
    assert_eq!(gates.strangers.free(), 2);
    let gate = gates.gate(&origin(host), Listed(true), now());
    assert_eq!(gate.places.free(), places);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_defers_at_once_and_only_its_own_origin() {
    let (gates, at) = tripped().await;
    let before = now();
    let deferral = asked(&gates, "a", "main", at + SECOND).await.unwrap_err();
    assert_eq!(
        (deferral.why, deferral.left),
        (Why::BreakerOpen, SECOND * 4)
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
    assert_eq!(probe.change(), Some(Change::HalfOpen));
    let second = asked(&gates, "a", "main", later).await.unwrap_err();
    assert_eq!(second.why, Why::BreakerOpen);
    assert_eq!(gates.breakers_open(), 1);
    assert_eq!(probe.report(&accepted(), later), Some(Change::Closed));
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
    assert_eq!(next.change(), Some(Change::HalfOpen));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_is_counted_once() {
    let (gates, at) = tripped().await;
    let change = comes_to(&gates, &unavailable(), at + SECOND * 5).await;
    assert_eq!(change, Some(Change::Opened(SECOND * 10)));
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
            assert_eq!(left, (!admitted).then_some((Why::Paused, SECOND)));
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
    assert_eq!(change, Some(Change::Closed), "it is up");
    let paused = asked(&gates, "a", "main", later).await.unwrap_err();
    assert_eq!(paused.why, Why::Paused);
    assert!(asked(&gates, "a", "other", later).await.is_ok());
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
    assert_eq!(waiting.unwrap_err().why, Why::Busy);
    drop(second);
    assert_at_rest(&gates, "a", 1);
    for _ in 0..10 {
        comes_to(&gates, &accepted(), at + SECOND * 2).await;
    }
    assert_at_rest(&gates, "a", 2);
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
    assert_eq!(waiting.unwrap_err().why, Why::Paused);
    assert_at_rest(&gates, "a", 1);
}

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
