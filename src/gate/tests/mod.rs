//! Permits, breakers and pauses together, as the pipeline meets them.

use url::Url;

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::outcome::Scope;
use crate::outcome::{BreakerState, Meaning, Reason, Verdict};

mod fairness;
mod leaving_alone;
mod queueing;
mod rates;
mod remembering;
mod settings;
mod starving;

const SECOND: Duration = Duration::from_secs(1);

const SETTINGS: Settings = Settings {
    in_flight: 4,
    per_origin: 2,
    max_wait: SECOND,
    rate: None,
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

fn unresolved() -> Verdict {
    Verdict {
        reason: Reason::Dns,
        ..unavailable()
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
    asked_as(Listing::Listed, gates, host, name, at).await
}

async fn asked_as(
    listing: Listing,
    gates: &Gates,
    host: &str,
    name: &str,
    at: Instant,
) -> Result<Permit, Deferral> {
    let (origin, key, lane) = (origin(host), key(name), lane());
    let request = Request {
        origin: &origin,
        listing,
        key: &key,
        lane: &lane,
        deferrals: 0,
    };
    ask(gates, request, at).await
}

async fn ask(gates: &Gates, request: Request<'_>, at: Instant) -> Result<Permit, Deferral> {
    match gates.admit(request, at).await {
        Admission::Granted(permit) => Ok(permit),
        Admission::Deferred(deferral) => Err(deferral),
    }
}

async fn granted(gates: &Gates, host: &str, listed: bool) -> Option<Permit> {
    let permit = asked_as(Listing::of(listed), gates, host, "main", now()).await;
    permit.ok()
}

/// Lets a request to `a` come to `verdict`.
async fn comes_to(gates: &Gates, verdict: &Verdict, at: Instant) -> Option<Change> {
    let permit = asked(gates, "a", "main", at).await.unwrap();
    permit.report(verdict, at)
}

/// Gates that leave the origin `a` alone for five seconds.
async fn tripped() -> (Gates, Instant) {
    let (gates, at) = (Gates::new(SETTINGS), now());
    for change in [
        None,
        None,
        Some(Change::Breaker(BreakerState::Open, SECOND * 5)),
    ] {
        assert_eq!(comes_to(&gates, &unavailable(), at).await, change);
    }
    (gates, at)
}

fn assert_at_rest(gates: &Gates, host: &str, semaphore: usize) {
    assert_eq!(gates.all.free(), SETTINGS.in_flight);
    assert_eq!(gates.unlisted.free(), 2);
    let gate = gates.gate(&origin(host), Listing::Listed, now());
    assert_eq!(gate.semaphore.free(), semaphore);
}
