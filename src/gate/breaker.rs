//! When an origin is left alone, and how requests to it begin again.
//!
//! A push service that is down answers every request with the same failure, late. Each request costs its
//! recipient an attempt, and the others their permits. So after a number of failures in a row its breaker
//! opens: for a while no request is sent there, and no attempt is used up. Then one request, the probe, is
//! sent: a good answer closes the breaker, a bad one opens it for twice as long.
//!
//! Failures count in a row, not as a share: a bridge that fails for one subscriber in ten is no
//! reason to leave the other nine alone (classify/README.md §2, row 32). What was under way when the
//! state changed says nothing about the state after it: each [`Pass`] belongs to one epoch, and
//! in the half-open state the probe is the only one whose pass is of the present.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open at first; twice as long after each probe that fails.
    pub open: Duration,
    /// The longest it stays open.
    pub open_cap: Duration,
}

/// The breaker of one origin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Breaker {
    settings: Settings,
    state: State,
    epoch: u64,
}

/// The right to one request, in the state of the breaker that granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    epoch: u64,
    /// Whether the breaker waits for this request alone.
    pub(super) probe: bool,
}

/// What a report changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It opened, for so long.
    Opened(Duration),
    /// It closed.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open(Opening),
    HalfOpen(Opening),
}

/// One time in a row for which it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Opening {
    until: Instant,
    lasts: Duration,
    trips: u32,
}

impl Breaker {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: State::Closed { failures: 0 },
            epoch: 0,
        }
    }

    /// Changes when it opens and for how long from then on.
    pub(super) fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Returns how long it admits no request, without asking for one. While a probe is under way that is
    /// as long as the origin was left alone last, and a tenth more for the probe: if that fails, the
    /// origin is left alone for as long at least.
    pub(super) fn shut(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open(opening) if now < opening.until => Some(opening.until - now),
            State::Closed { .. } | State::Open(_) => None,
            State::HalfOpen(opening) => Some(opening.lasts.mul_f64(1.1)),
        }
    }

    /// Grants one request. An error is how long to wait.
    pub(super) fn ask(&mut self, now: Instant) -> Result<Pass, Duration> {
        if let Some(wait) = self.shut(now) {
            return Err(wait);
        }
        let probe = match self.state {
            State::Open(opening) => {
                self.turn(State::HalfOpen(opening));
                true
            }
            State::Closed { .. } | State::HalfOpen(_) => false,
        };
        let epoch = self.epoch;
        Ok(Pass { epoch, probe })
    }

    /// Records the result of a request: whether the origin is up, and how long it asked to be left
    /// alone.
    pub(super) fn record(
        &mut self,
        pass: Pass,
        up: bool,
        asked: Option<Duration>,
        now: Instant,
    ) -> Option<Turn> {
        if pass.epoch != self.epoch {
            return None;
        }
        match (self.state, up) {
            (State::Closed { .. }, true) => {
                self.state = State::Closed { failures: 0 };
                None
            }
            (State::Closed { failures }, false) if failures + 1 < self.settings.failures => {
                self.state = State::Closed {
                    failures: failures + 1,
                };
                None
            }
            (State::Closed { .. }, false) => Some(self.open(1, asked, now)),
            (State::HalfOpen(_), true) => {
                self.turn(State::Closed { failures: 0 });
                Some(Turn::Closed)
            }
            (State::HalfOpen(last), false) => {
                Some(self.open(last.trips.saturating_add(1), asked, now))
            }
            (State::Open(_), _) => None,
        }
    }

    /// Takes back a request without a result. After an abandoned probe the next request is the probe.
    pub(super) fn abandon(&mut self, pass: Pass) {
        match self.state {
            State::HalfOpen(opening) if pass.epoch == self.epoch => {
                self.turn(State::Open(opening));
            }
            State::HalfOpen(_) | State::Closed { .. } | State::Open(_) => {}
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Opens for as long as the service asked, within our own limits.
    fn open(&mut self, trips: u32, asked: Option<Duration>, now: Instant) -> Turn {
        let Settings { open, open_cap, .. } = self.settings;
        let own = Backoff::new(open, open_cap).wait(trips.saturating_sub(1));
        let lasts = own.max(asked.unwrap_or_default()).min(open_cap);
        self.turn(State::Open(Opening {
            until: now + lasts,
            lasts,
            trips,
        }));
        Turn::Opened(lasts)
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    const SECOND: Duration = Duration::from_secs(1);

    const SETTINGS: Settings = Settings {
        failures: 3,
        open: SECOND,
        open_cap: Duration::from_secs(10),
    };

    fn breaker() -> (Breaker, Instant) {
        (Breaker::new(SETTINGS), SystemClock.now().mono)
    }

    /// A breaker that has just opened for a second.
    fn tripped() -> (Breaker, Instant) {
        let (mut breaker, now) = breaker();
        for turn in [None, None, Some(Turn::Opened(SECOND))] {
            let pass = breaker.ask(now).unwrap();
            assert_eq!(breaker.record(pass, false, None, now), turn);
        }
        (breaker, now)
    }

    #[test]
    fn a_row_of_failures_opens_it_and_a_success_ends_the_row() {
        let (mut breaker, now) = breaker();
        for up in [false, false, true, false, false] {
            let pass = breaker.ask(now).unwrap();
            assert_eq!(breaker.record(pass, up, None, now), None);
        }
        let pass = breaker.ask(now).unwrap();
        let turn = breaker.record(pass, false, None, now);
        assert_eq!(turn, Some(Turn::Opened(SECOND)));
        assert_eq!(breaker.ask(now + SECOND / 4), Err(SECOND * 3 / 4));
    }

    #[test]
    fn one_probe_and_only_one_finds_out() {
        let (mut breaker, now) = tripped();
        let later = now + SECOND;
        let probe = breaker.ask(later).unwrap();
        assert!(probe.probe);
        assert_eq!(breaker.ask(later), Err(SECOND * 11 / 10));
        let turn = breaker.record(probe, true, None, later);
        assert_eq!(turn, Some(Turn::Closed));
        assert!(!breaker.ask(later).unwrap().probe);
    }

    #[test]
    fn each_bad_probe_doubles_the_pause_up_to_the_cap() {
        let (mut breaker, mut now) = tripped();
        let mut wait = SECOND;
        for seconds in [2, 4, 8, 10, 10] {
            now += wait;
            let probe = breaker.ask(now).unwrap();
            wait = Duration::from_secs(seconds);
            let turn = breaker.record(probe, false, None, now);
            assert_eq!(turn, Some(Turn::Opened(wait)));
        }
    }

    #[test]
    fn while_a_probe_is_under_way_the_last_pause_holds() {
        let (mut breaker, now) = tripped();
        let probe = breaker.ask(now + SECOND).unwrap();
        assert_eq!(breaker.shut(now + SECOND), Some(SECOND * 11 / 10));
        breaker.record(probe, false, None, now + SECOND);
        breaker.ask(now + SECOND * 3).unwrap();
        assert_eq!(breaker.shut(now + SECOND * 3), Some(SECOND * 22 / 10));
    }

    #[test]
    fn what_the_service_asks_for_is_kept_up_to_the_cap() {
        for (asked, open) in [(0, 1), (7, 7), (600, 10)] {
            let (mut breaker, now) = tripped();
            let probe = breaker.ask(now + SECOND).unwrap();
            let asked = Some(Duration::from_secs(asked));
            let turn = breaker.record(probe, false, asked, now + SECOND);
            let open = Duration::from_secs(open).max(SECOND * 2);
            assert_eq!(turn, Some(Turn::Opened(open)));
        }
    }

    #[test]
    fn stragglers_say_nothing_about_the_state_after_them() {
        let (mut breaker, now) = breaker();
        let stragglers: Vec<_> = (0..9).map(|_| breaker.ask(now).unwrap()).collect();
        for pass in &stragglers[..3] {
            breaker.record(*pass, false, None, now);
        }
        assert_eq!(breaker.record(stragglers[3], true, None, now), None);
        assert_eq!(
            breaker.shut(now),
            Some(SECOND),
            "open in spite of a success"
        );
        let later = now + SECOND;
        let probe = breaker.ask(later).unwrap();
        assert_eq!(breaker.record(stragglers[4], true, None, later), None);
        assert_eq!(breaker.record(stragglers[5], false, None, later), None);
        assert_eq!(breaker.record(probe, true, None, later), Some(Turn::Closed));
        for pass in &stragglers[6..] {
            assert_eq!(breaker.record(*pass, false, None, later), None);
        }
        assert!(breaker.is_closed(), "late time-outs do not open it again");
    }

    #[test]
    fn an_abandoned_probe_leaves_the_place_to_the_next() {
        let (mut breaker, now) = tripped();
        let probe = breaker.ask(now + SECOND).unwrap();
        breaker.abandon(probe);
        assert!(!breaker.is_closed());
        assert!(breaker.ask(now + SECOND).unwrap().probe);
    }

    #[test]
    fn abandoning_changes_nothing_else() {
        let (mut breaker, now) = breaker();
        let early = breaker.ask(now).unwrap();
        breaker.abandon(early);
        assert!(breaker.is_closed());
        let (mut breaker, now) = tripped();
        breaker.ask(now + SECOND).unwrap();
        breaker.abandon(early);
        assert!(breaker.ask(now + SECOND).is_err(), "the probe is under way");
    }

    proptest! {
        /// Whatever happens: it is never shut for longer than its cap while no request probes it, and
        /// there is never a second probe.
        #[test]
        fn it_always_comes_back(steps in proptest::collection::vec((0u8..4, 0u64..3000), 0..200)) {
            let (mut breaker, mut now) = breaker();
            let mut held = Vec::new();
            for (step, milliseconds) in steps {
                now += Duration::from_millis(milliseconds);
                match step {
                    0 => held.extend(breaker.ask(now)),
                    1 | 2 => if let Some(pass) = held.pop() {
                        breaker.record(pass, step == 1, None, now);
                    },
                    _ => if let Some(pass) = held.pop() {
                        breaker.abandon(pass);
                    },
                }
                let probes = held.iter().filter(|it| it.probe && it.epoch == breaker.epoch);
                prop_assert!(probes.count() <= 1);
            }
            for pass in held {
                breaker.abandon(pass);
            }
            prop_assert!(breaker.ask(now + SETTINGS.open_cap).is_ok());
        }
    }
}
