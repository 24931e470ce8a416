//! The gate of one origin: its permits, its breaker, its pauses and rates.
//!
//! One short lock guards what is decided. The permits have a lock of their own, so that a waiter holds no
//! lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::message::Name;
use crate::origin::Listing;
use crate::outcome::{BreakerState, DeferralReason, Meaning, Reason, Scope, Verdict};

use super::breaker;
use super::breaker::{Breaker, Pass, Turn};
use super::deferral::{Deferral, Shut};
use super::fair_semaphore::FairSemaphore;
use super::flow::Flows;
use super::keys::Keys;
use super::limiter::Limiter;
use super::pause::Pause;
use super::rate::Rate;
use super::request::{Change, Request};
use super::waiters::{QueuePosition, Waiters};

/// The gate of one origin.
#[derive(Debug)]
pub(super) struct OriginGate {
    pub(super) semaphore: Arc<FairSemaphore>,
    pub(super) waiters: Waiters,
    listing: Listing,
    state: Mutex<State>,
    /// How many breakers are not closed, over all origins.
    tripped: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct State {
    limiter: Limiter,
    in_flight: usize,
    breaker: Breaker,
    pause: Pause,
    keys: Keys,
    flows: Flows,
    used_at: Instant,
    /// Whether the host has ever answered a request.
    answered: bool,
}

/// How much is lost by forgetting a gate, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Worth {
    /// The origin is listed, and has answered.
    known: bool,
    /// The origin has answered, and is failing, paused or limited by a rate.
    protected: bool,
    used_at: Instant,
}

/// What a gate begins with.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) listing: Listing,
    /// How many requests may be under way.
    pub(super) limiter: Limiter,
    /// How many may wait for a place in memory.
    pub(super) waiters: Waiters,
    pub(super) breaker: breaker::Settings,
}

/// What an operator allows one origin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How many requests may be under way.
    pub(super) requests: usize,
    /// How many of a lane may wait in memory at first.
    pub(super) first_waiters: usize,
    /// How many of a lane may wait in memory at most.
    pub(super) waiters: usize,
    pub(super) breaker: breaker::Settings,
}

impl OriginGate {
    pub(super) fn new(begins: Beginning, tripped: Arc<AtomicUsize>, now: Instant) -> Self {
        Self {
            semaphore: FairSemaphore::new(begins.limiter.limit()),
            waiters: begins.waiters,
            listing: begins.listing,
            state: Mutex::new(State {
                limiter: begins.limiter,
                in_flight: 0,
                breaker: Breaker::new(begins.breaker),
                pause: Pause::default(),
                keys: Keys::default(),
                flows: Flows::default(),
                used_at: now,
                answered: false,
            }),
            tripped,
        }
    }

    /// Changes its limits. What it has learned of the origin stays.
    pub(super) fn adopt(&self, limits: Limits) {
        let mut state = self.state.lock();
        state.limiter.set_most(limits.requests);
        state.breaker.set(limits.breaker);
        self.semaphore.resize(state.limiter.limit());
        self.waiters.resize(limits.first_waiters, limits.waiters);
    }

    /// Takes the next turn at the rate of a key, which may be up to `patience` from now.
    pub(super) fn take_turn(
        &self,
        request: Request<'_>,
        rate: Rate,
        patience: Duration,
        now: Instant,
    ) -> Result<Duration, Deferral> {
        let mut state = self.state.lock();
        state.used_at = now;
        if let Some(shut) = state.shut(request.key, now) {
            return Err(state.defer(request, shut, now));
        }
        let bucket = &mut state.keys.of(request.key).bucket;
        bucket
            .take(rate, patience, request.is_new(), now)
            .map_err(|left| Deferral::of(DeferralReason::Rate, left))
    }

    /// Gives back a turn that was not used.
    pub(super) fn give_turn_back(&self, key: &Name, rate: Rate) {
        self.state.lock().keys.of(key).bucket.give_back(rate);
    }

    /// Returns whether no request is admitted now, without entering.
    pub(super) fn shut(&self, key: &Name, now: Instant) -> Option<Shut> {
        let mut state = self.state.lock();
        state.used_at = now;
        state.shut(key, now)
    }

    /// Returns which share of the waiters a request may use.
    pub(super) fn position(&self, request: Request<'_>, now: Instant) -> QueuePosition {
        let is_awaited = || {
            self.state
                .lock()
                .flows
                .is_awaited(request.lane, request.key, now)
        };
        match request.deferrals {
            0 if is_awaited() => QueuePosition::Behind,
            0 | 1 => QueuePosition::Equal,
            _ => QueuePosition::Ahead,
        }
    }

    /// Refuses a request.
    pub(super) fn defer(&self, request: Request<'_>, shut: Shut, now: Instant) -> Deferral {
        self.state.lock().defer(request, shut, now)
    }

    /// Enters with a place already taken.
    pub(super) fn enter(&self, request: Request<'_>, now: Instant) -> Result<Pass, Shut> {
        let mut state = self.state.lock();
        state.used_at = now;
        // The pauses come first: a probe that may not be sent would find out nothing.
        if let Some(pause) = state.paused(request.key, now) {
            return Err(pause);
        }
        let pass = state.breaker.ask(now).map_err(open)?;
        state.in_flight += 1;
        state.keys.of(request.key);
        state.flows.admitted(request.lane, request.key, now);
        Ok(pass)
    }

    /// Records the result of a request that entered at `since`.
    pub(super) fn report(
        &self,
        pass: Pass,
        key: &Name,
        since: Instant,
        verdict: &Verdict,
        now: Instant,
    ) -> Option<Change> {
        let mut state = self.state.lock();
        state.answered |= is_answer(verdict.reason);
        let turn = state
            .breaker
            .record(pass, !verdict.down, verdict.after, now);
        state.feel(key, since, verdict, now);
        let paused = state.throttled(key, verdict, now);
        if matches!(turn, Some(Turn::Opened(_))) {
            state.limiter.down(now);
        }
        self.semaphore.resize(state.limiter.limit());
        match turn {
            Some(Turn::Opened(wait)) => {
                if !pass.probe {
                    self.tripped.fetch_add(1, Ordering::Relaxed);
                }
                Some(Change::Breaker(BreakerState::Open, wait))
            }
            Some(Turn::Closed) => {
                self.waiters.allow_most();
                self.tripped.fetch_sub(1, Ordering::Relaxed);
                Some(Change::Breaker(BreakerState::Closed, Duration::ZERO))
            }
            None => paused,
        }
    }

    /// Records that a request is over; `unreported` is its pass if its result was not reported.
    pub(super) fn leave(&self, unreported: Option<Pass>) {
        let mut state = self.state.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        if let Some(pass) = unreported {
            state.breaker.abandon(pass);
        }
    }

    /// Returns whether nothing that protects the origin was used or in force for `idle`.
    pub(super) fn is_unused(&self, idle: Duration, now: Instant) -> bool {
        let state = self.state.lock();
        let Some(then) = now.checked_sub(idle) else {
            return false;
        };
        state.in_flight == 0
            && state.used_at <= then
            && state.breaker.shut(then).is_none()
            && state.is_open(then)
    }

    /// Returns what forgetting the gate loses; `None` while requests are under way.
    pub(super) fn worth(&self, now: Instant) -> Option<Worth> {
        let state = self.state.lock();
        (state.in_flight == 0).then(|| Worth {
            known: self.listing.is_listed() && state.answered,
            protected: state.answered && !(state.breaker.is_closed() && state.is_open(now)),
            used_at: state.used_at,
        })
    }
}

impl Drop for OriginGate {
    fn drop(&mut self) {
        if !self.state.lock().breaker.is_closed() {
            self.tripped.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl State {
    /// Returns whether no pause holds and no key has taken turns ahead.
    fn is_open(&self, now: Instant) -> bool {
        self.pause.left(now).is_none() && self.keys.are_at_rest(now)
    }

    fn shut(&self, key: &Name, now: Instant) -> Option<Shut> {
        let is_open = || self.breaker.shut(now).map(open);
        self.paused(key, now).or_else(is_open)
    }

    fn defer(&mut self, request: Request<'_>, shut: Shut, now: Instant) -> Deferral {
        self.flows.defer(request, shut, self.in_flight, now)
    }

    fn paused(&self, key: &Name, now: Instant) -> Option<Shut> {
        let of_key = self.keys.get(key).and_then(|it| it.pause.left(now));
        let both = [self.pause.left(now), of_key];
        both.into_iter().flatten().max_by_key(|it| it.left)
    }

    /// Adjusts the limit to the result of a request.
    fn feel(&mut self, key: &Name, since: Instant, verdict: &Verdict, now: Instant) {
        if verdict.reason == Reason::Timeout || verdict.pause == Some(Scope::Origin) {
            self.limiter.overloaded(since, now);
        } else if verdict.meaning == Meaning::Accepted {
            self.limiter.succeeded(self.in_flight);
            self.pause.succeeded();
            self.keys.of(key).pause.succeeded();
        }
    }

    fn throttled(&mut self, key: &Name, verdict: &Verdict, now: Instant) -> Option<Change> {
        let scope = verdict.pause?;
        let pause = match scope {
            Scope::Origin => &mut self.pause,
            Scope::Key => &mut self.keys.of(key).pause,
        };
        let length = pause.throttled(verdict.after, now)?;
        // The other keys' requests go on, and keep the limit at what the origin serves.
        if scope == Scope::Origin || self.keys.is_one() {
            self.limiter.paused(now);
        }
        Some(Change::Paused(scope, length))
    }
}

fn open(left: Duration) -> Shut {
    let why = DeferralReason::BreakerOpen;
    Shut { why, left }
}

/// Returns whether a verdict is about an answer: what never answers may not exist.
fn is_answer(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::Dns | Reason::EndpointForbidden | Reason::Network | Reason::Tls | Reason::Timeout
    )
}
