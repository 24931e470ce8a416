//! The gate of one origin: its places, its breaker and its pauses.
//!
//! One short lock guards what is decided; the places have a lock of their own, so that who waits for
//! one holds none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::message::Name;
use crate::outcome::{Meaning, Reason, Scope, Verdict};

use super::Change;
use super::breaker;
use super::breaker::{Breaker, Ticket, Turn};
use super::deferral::{Deferral, Why};
use super::limiter::Limiter;
use super::pause::Pause;
use super::places::Places;

/// The gate of one origin.
#[derive(Debug)]
pub(super) struct OriginGate {
    pub(super) places: Arc<Places>,
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
    /// Pauses of single keys; there are as many as the configuration has keys.
    keys: Vec<(Name, Pause)>,
    used_at: Instant,
}

impl OriginGate {
    pub(super) fn new(
        limiter: Limiter,
        breaker: breaker::Settings,
        tripped: Arc<AtomicUsize>,
        now: Instant,
    ) -> Self {
        Self {
            places: Places::new(limiter.limit()),
            state: Mutex::new(State {
                limiter,
                in_flight: 0,
                breaker: Breaker::new(breaker),
                pause: Pause::default(),
                keys: Vec::new(),
                used_at: now,
            }),
            tripped,
        }
    }

    /// Tells whether nobody is admitted now, without entering.
    pub(super) fn shut(&self, key: &Name, now: Instant) -> Option<Deferral> {
        let mut state = self.lock();
        state.used_at = now;
        state.shut(key, now)
    }

    /// Enters with a place already taken.
    pub(super) fn enter(&self, key: &Name, now: Instant) -> Result<Ticket, Deferral> {
        let mut state = self.lock();
        state.used_at = now;
        // The pauses come first: a probe that may not be sent would find out nothing.
        if let Some(deferral) = state.paused(key, now) {
            return Err(deferral);
        }
        let ticket = state.breaker.ask(now).map_err(breaker_open)?;
        state.in_flight += 1;
        Ok(ticket)
    }

    /// Takes what a request that entered at `since` found out.
    pub(super) fn report(
        &self,
        ticket: Ticket,
        key: &Name,
        since: Instant,
        verdict: &Verdict,
        now: Instant,
    ) -> Option<Change> {
        let mut state = self.lock();
        let turn = state
            .breaker
            .record(ticket, !verdict.down, verdict.after, now);
        state.feel(key, since, verdict, now);
        let paused = state.throttled(key, verdict, now);
        if matches!(turn, Some(Turn::Opened(_))) {
            state.limiter.restart(now);
        }
        self.places.resize(state.limiter.limit());
        match turn {
            Some(Turn::Opened(wait)) => {
                if !ticket.probe {
                    self.tripped.fetch_add(1, Ordering::Relaxed);
                }
                Some(Change::Opened(wait))
            }
            Some(Turn::Closed) => {
                self.tripped.fetch_sub(1, Ordering::Relaxed);
                Some(Change::Closed)
            }
            None => paused,
        }
    }

    /// Takes that a request is over; `unreported` is its ticket if nothing was said about it.
    pub(super) fn leave(&self, unreported: Option<Ticket>) {
        let mut state = self.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        if let Some(ticket) = unreported {
            state.breaker.abandon(ticket);
        }
    }

    /// Tells whether forgetting it would forget nothing that protects the origin: it was not used
    /// for `idle`, and its breaker and pauses are over for as long.
    pub(super) fn is_forgettable(&self, idle: Duration, now: Instant) -> bool {
        let state = self.lock();
        let Some(then) = now.checked_sub(idle) else {
            return false;
        };
        let quiet = state.breaker.is_closed() || idle > Duration::ZERO;
        let pauses = state.keys.iter().map(|(_, pause)| pause);
        state.in_flight == 0
            && state.used_at <= then
            && quiet
            && state.breaker.shut(then).is_none()
            && pauses
                .chain([&state.pause])
                .all(|it| it.left(then).is_none())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OriginGate {
    fn drop(&mut self) {
        if !self.lock().breaker.is_closed() {
            self.tripped.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl State {
    fn shut(&self, key: &Name, now: Instant) -> Option<Deferral> {
        let open = || self.breaker.shut(now).map(breaker_open);
        self.paused(key, now).or_else(open)
    }

    fn paused(&self, key: &Name, now: Instant) -> Option<Deferral> {
        let of_key = self.keys.iter().find(|(name, _)| name == key);
        let of_key = of_key.and_then(|(_, pause)| pause.left(now));
        let left = self.pause.left(now).max(of_key)?;
        Some(Deferral {
            why: Why::Paused,
            left,
        })
    }

    /// Lets the limit feel what came of a request.
    fn feel(&mut self, key: &Name, since: Instant, verdict: &Verdict, now: Instant) {
        if verdict.reason == Reason::Timeout || verdict.pause == Some(Scope::Origin) {
            self.limiter.overloaded(since, now);
        } else if verdict.meaning == Meaning::Accepted {
            self.limiter.succeeded(self.in_flight);
            self.pause.succeeded();
            if let Some((_, pause)) = self.keys.iter_mut().find(|(name, _)| name == key) {
                pause.succeeded();
            }
        }
    }

    fn throttled(&mut self, key: &Name, verdict: &Verdict, now: Instant) -> Option<Change> {
        let scope = verdict.pause?;
        let pause = match scope {
            Scope::Origin => &mut self.pause,
            Scope::Key => self.pause_of(key),
        };
        let length = pause.throttled(verdict.after, now)?;
        Some(Change::Paused(scope, length))
    }

    fn pause_of(&mut self, key: &Name) -> &mut Pause {
        let known = self.keys.iter().position(|(name, _)| name == key);
        let index = known.unwrap_or_else(|| {
            self.keys.push((key.clone(), Pause::default()));
            self.keys.len() - 1
        });
        &mut self.keys[index].1
    }
}

fn breaker_open(left: Duration) -> Deferral {
    Deferral {
        why: Why::BreakerOpen,
        left,
    }
}
