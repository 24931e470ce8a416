//! What `/readyz`, the service manager's status line and its watchdog ask.
//!
//! Two questions, which must not be mixed up. *Alive*: does the pipeline still turn? If not, only a
//! restart helps. *Ready*: does it take events and publish results right now? A broker that is away
//! makes the daemon unready and never dead, since a restart would bring nothing back. A push
//! service that is down is neither: it is the business of that service's messages alone.

use std::borrow::Cow;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How old the pipeline's last heartbeat may be.
///
/// The pipeline beats about once a second, also when it has nothing to do.
pub const HEARTBEAT_LIMIT: Duration = Duration::from_secs(15);

/// The state of the daemon, shared by the tasks that set it and those that read it.
#[derive(Debug)]
pub struct Health {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    broker: BrokerState,
    beat: Instant,
    in_flight: usize,
    draining: bool,
}

/// What the daemon and the broker have to do with each other right now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerState {
    /// Whether all connections are up.
    pub connected: bool,
    /// How many lanes are consumed.
    pub lanes: usize,
    /// Whether the broker blocks publishing (memory or disk alarm).
    pub blocked: bool,
    /// Why there is no connection; carries no secret.
    pub problem: Option<String>,
}

impl Health {
    /// Starts with no broker and a heartbeat at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            state: Mutex::new(State {
                broker: BrokerState::default(),
                beat: now,
                in_flight: 0,
                draining: false,
            }),
            changed: Notify::new(),
        }
    }

    /// Records what became of the connections to the broker.
    pub fn set_broker(&self, mut broker: BrokerState) {
        // A line break would end the status line.
        let one_line = |text: String| text.replace(char::is_control, " ");
        broker.problem = broker.problem.map(one_line);
        self.state.lock().broker = broker;
        self.changed.notify_one();
    }

    /// Records that the pipeline turns.
    pub fn beat(&self, now: Instant) {
        self.state.lock().beat = now;
    }

    /// Records how many deliveries are taken and not yet acknowledged.
    pub fn set_in_flight(&self, deliveries: usize) {
        self.state.lock().in_flight = deliveries;
    }

    /// Records that the daemon takes no more events and finishes those it has.
    pub fn drain(&self) {
        self.state.lock().draining = true;
        self.changed.notify_one();
    }

    /// Returns whether the pipeline has turned lately.
    #[must_use]
    pub fn is_alive(&self, now: Instant) -> bool {
        self.state.lock().is_alive(now)
    }

    /// Returns whether the daemon is on its way out.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.state.lock().draining
    }

    /// Answers every check.
    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        let state = self.state.lock();
        let check = |name, ok: bool, why: &'static str| Check {
            name,
            problem: (!ok).then_some(why.into()),
        };
        let BrokerState {
            connected,
            lanes,
            blocked,
            ref problem,
        } = state.broker;
        let mut broker = check("broker", connected, "not connected");
        if let (Some(text), Some(problem)) = (&mut broker.problem, problem) {
            *text = format!("{text}: {problem}").into();
        }
        Report {
            checks: [
                check("pipeline", state.is_alive(now), "no heartbeat"),
                broker,
                check("consumer", connected && lanes > 0, "not consuming"),
                check(
                    "publisher",
                    connected && !blocked,
                    if connected {
                        "blocked by the broker (memory or disk alarm)"
                    } else {
                        "not connected"
                    },
                ),
                check("drain", !state.draining, "stopping"),
            ],
        }
    }

    /// Describes in a few words what the daemon does.
    #[must_use]
    pub fn status_line(&self) -> String {
        let state = self.state.lock();
        let in_flight = state.in_flight;
        match &state.broker {
            _ if state.draining => format!("draining, {in_flight} in flight"),
            BrokerState {
                connected: false,
                problem: Some(problem),
                ..
            } => format!("waiting for broker: {problem}"),
            BrokerState {
                connected: false, ..
            } => "waiting for broker".to_owned(),
            BrokerState { blocked: true, .. } => {
                format!("blocked by the broker (memory or disk alarm), {in_flight} in flight")
            }
            BrokerState { lanes: 0, .. } => "connected, not consuming yet".to_owned(),
            BrokerState { lanes: 1, .. } => format!("consuming 1 lane, {in_flight} in flight"),
            BrokerState { lanes, .. } => format!("consuming {lanes} lanes, {in_flight} in flight"),
        }
    }

    /// Waits until the broker's state or the drain has changed since the last call.
    ///
    /// There is one waiter: the service manager's reporter.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl State {
    fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.beat) <= HEARTBEAT_LIMIT
    }
}

/// Every check by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The checks, always all of them, in one order.
    pub checks: [Check; 5],
}

/// One thing that must be so for the daemon to be ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Why it is not so; `None` when it is.
    pub problem: Option<Cow<'static, str>>,
}

impl Report {
    /// Returns whether every check is fine.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.problem.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    const CONSUMING: BrokerState = BrokerState {
        connected: true,
        lanes: 3,
        blocked: false,
        problem: None,
    };

    fn health() -> (Health, Instant) {
        let now = SystemClock.now().mono;
        (Health::new(now), now)
    }

    #[test]
    fn ready_means_consuming_publishing_turning_and_not_leaving() {
        let table: [(&str, BrokerState, bool, bool); 7] = [
            ("", CONSUMING, false, false),
            (
                "broker consumer publisher",
                BrokerState::default(),
                false,
                false,
            ),
            (
                "consumer",
                BrokerState {
                    lanes: 0,
                    ..CONSUMING
                },
                false,
                false,
            ),
            (
                "publisher",
                BrokerState {
                    blocked: true,
                    ..CONSUMING
                },
                false,
                false,
            ),
            ("pipeline", CONSUMING, true, false),
            ("drain", CONSUMING, false, true),
            ("pipeline drain", CONSUMING, true, true),
        ];
        for (failing, broker, stale, draining) in table {
            let (health, start) = health();
            health.set_broker(broker);
            if draining {
                health.drain();
            }
            let late = HEARTBEAT_LIMIT + Duration::from_nanos(1);
            let report = health.report(if stale { start + late } else { start });
            let names = report.checks.iter().filter(|check| check.problem.is_some());
            let names: Vec<_> = names.map(|check| check.name).collect();
            assert_eq!(names.join(" "), failing);
            assert_eq!(report.is_ready(), failing.is_empty(), "{failing}");
        }
    }

    #[test]
    fn a_beat_keeps_it_alive_and_an_absent_broker_does_not_kill_it() {
        let (health, start) = health();
        assert!(health.is_alive(start + HEARTBEAT_LIMIT));
        assert!(!health.is_alive(start + HEARTBEAT_LIMIT * 2));
        health.beat(start + HEARTBEAT_LIMIT);
        assert!(health.is_alive(start + HEARTBEAT_LIMIT * 2));
        assert!(
            health.is_alive(start),
            "a beat from later than now is fresh"
        );
    }

    #[test]
    fn the_status_line_names_what_matters_most() {
        let (health, _) = health();
        assert_eq!(health.status_line(), "waiting for broker");
        health.set_in_flight(12);
        let mut broker = CONSUMING;
        let mut says = |health: &Health, change: fn(&mut BrokerState)| {
            change(&mut broker);
            health.set_broker(broker.clone());
            health.status_line()
        };
        assert_eq!(says(&health, |_| ()), "consuming 3 lanes, 12 in flight");
        assert_eq!(
            says(&health, |broker| broker.lanes = 1),
            "consuming 1 lane, 12 in flight"
        );
        assert_eq!(
            says(&health, |broker| broker.lanes = 0),
            "connected, not consuming yet"
        );
        assert_eq!(
            says(&health, |broker| broker.blocked = true),
            "blocked by the broker (memory or disk alarm), 12 in flight"
        );
        assert_eq!(
            says(&health, |broker| broker.connected = false),
            "waiting for broker"
        );
        let refused = |broker: &mut BrokerState| broker.problem = Some("refused\nby it".to_owned());
        assert_eq!(says(&health, refused), "waiting for broker: refused by it");
        let report = health.report(SystemClock.now().mono);
        let problem = report.checks[1].problem.as_deref();
        assert_eq!(problem, Some("not connected: refused by it"));
        health.drain();
        assert_eq!(health.status_line(), "draining, 12 in flight");
    }
}
