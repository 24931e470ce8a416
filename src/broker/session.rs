//! Runs one generation of connections after the other, with pauses between them.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future;
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::broker::connect::Address;
use crate::broker::error::SessionError;
use crate::broker::generation::Generation;
use crate::broker::shared::{ControlPosition, Shared};
use crate::broker::topology::Topology;
use crate::broker::{Delivery, NeedsOperator, Redeliveries, Settings, SettledDelivery};
use crate::clock::{Clock, Jitter, RandomJitter, SystemClock};
use crate::control::Withdrawn;
use crate::health::BrokerState;
use crate::metrics::{Metrics, Role};

/// The pause after the first error; it doubles with each further one, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A generation that lived so long was a good one: the next pause is short again.
const GOOD_LIFE: Duration = LONGEST_PAUSE;

/// A problem that stays is told again after so long.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Runs until `settled` is closed and drained, and reconnects as needed.
///
/// Cancelling `stop_consuming` ends the consumers; publishing, confirming and acknowledging go on.
/// `deliveries` is closed then, behind the last one: the pipeline drains it, and closes `settled` when
/// it has settled what it settles. What was acknowledged is noted in `redeliveries`, and what control
/// messages say in `withdrawn`.
///
/// # Errors
/// If the first connect shows that an operator must act. After the first success nothing is fatal.
pub async fn run(
    settings: Settings,
    deliveries: mpsc::Sender<Delivery>,
    settled: mpsc::Receiver<SettledDelivery>,
    state: watch::Sender<BrokerState>,
    metrics: Arc<Metrics>,
    (redeliveries, withdrawn): (Arc<Redeliveries>, Arc<Withdrawn>),
    stop_consuming: CancellationToken,
) -> Result<(), NeedsOperator> {
    let address = Address::new(&settings)?;
    let shared = Arc::new(Shared {
        topology: Arc::new(Topology::new(&settings)),
        settings,
        deliveries: deliveries.downgrade(),
        state,
        metrics,
        redeliveries,
        withdrawn,
        control: ControlPosition::default(),
        stop: stop_consuming.clone(),
        proven: AtomicBool::new(false),
        published: AtomicBool::new(false),
    });
    let session = Session {
        shared,
        address,
        settled,
        generation: 0,
        streak: 0,
        told: None,
    };
    let open_until_stopped = async move {
        stop_consuming.cancelled().await;
        drop(deliveries);
        future::pending().await
    };
    select! {
        ended = session.live() => ended,
        never = open_until_stopped => never,
    }
}

struct Session {
    shared: Arc<Shared>,
    address: Address,
    settled: mpsc::Receiver<SettledDelivery>,
    generation: u64,
    /// Failures since the last good generation.
    streak: u32,
    /// What was told last of a broker that is away, and when.
    told: Option<(String, Instant)>,
}

impl Session {
    async fn live(mut self) -> Result<(), NeedsOperator> {
        loop {
            let opened = SystemClock.now().mono;
            let error = match self.generation().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if let Some(act) = self.needs_operator(&error) {
                return Err(act);
            }
            let now = SystemClock.now().mono;
            if now.duration_since(opened) > GOOD_LIFE {
                self.streak = 0;
            }
            let pause = pause(self.streak, RandomJitter.draw());
            self.streak = self.streak.saturating_add(1);
            self.report(&error, pause, now);
            if !self.pause(pause).await {
                return Ok(());
            }
        }
    }

    /// Returns whether an operator must act. That is never so after a first success.
    fn needs_operator(&self, error: &SessionError) -> Option<NeedsOperator> {
        let went_well = if matches!(error, SessionError::Publish(_)) {
            &self.shared.published
        } else {
            &self.shared.proven
        };
        if went_well.load(Ordering::Relaxed) {
            return None;
        }
        error.needs_operator(self.shared.settings.declare)
    }

    /// Runs one generation; `Ok` if no delivery is left to settle.
    async fn generation(&mut self) -> Result<(), SessionError> {
        self.generation += 1;
        if self.generation > 1 {
            self.read_url_again();
        }
        let shared = Arc::clone(&self.shared);
        let opening = Generation::open(&shared, &self.address, self.generation);
        let generation = select! {
            biased;
            () = drain(&mut self.settled) => return Ok(()),
            opened = opening => opened?,
        };
        tracing::info!(address = %self.address, generation = self.generation, "broker connected");
        self.told = None;
        show_connected(&shared, true);
        let ended = generation.serve(&shared, &mut self.settled).await;
        show_connected(&shared, false);
        ended
    }

    /// Reads the file that has the URL again, because passwords rotate.
    fn read_url_again(&mut self) {
        let settings = &self.shared.settings;
        let Some(path) = &settings.url_file else {
            return;
        };
        let read = fs::read_to_string(path).map_err(|error| error.to_string());
        let address = read.and_then(|text| {
            let address = Address::with_url(text.trim(), settings);
            address.map_err(|error| error.to_string())
        });
        match address {
            Ok(address) => self.address = address,
            Err(problem) => tracing::warn!(
                path = %path.display(),
                problem,
                "the URL of the broker cannot be read again; the former one is used"
            ),
        }
    }

    fn report(&mut self, error: &SessionError, pause: Duration, now: Instant) {
        self.shared.metrics.broker_reconnects();
        let problem = error.to_string();
        let address = &self.address;
        let is_told = self
            .told
            .as_ref()
            .is_some_and(|(told, at)| *told == problem && now.duration_since(*at) < TELL_AGAIN);
        if is_told {
            tracing::debug!(%address, problem, ?pause, "no broker; trying again");
        } else {
            tracing::warn!(%address, problem, ?pause, "no broker; trying again");
            self.told = Some((problem.clone(), now));
        }
        self.shared
            .state
            .send_modify(|state| state.problem = Some(problem));
    }

    /// Waits; tells whether to go on.
    async fn pause(&mut self, pause: Duration) -> bool {
        select! {
            biased;
            () = drain(&mut self.settled) => false,
            () = sleep(pause) => true,
        }
    }
}

/// Drops settled deliveries until no more come: without a generation nothing can be settled, and
/// the broker delivers it again.
async fn drain(settled: &mut mpsc::Receiver<SettledDelivery>) {
    while settled.recv().await.is_some() {}
}

fn show_connected(shared: &Shared, connected: bool) {
    for &role in Role::ALL {
        shared.metrics.broker_connected(role, connected);
    }
    shared.metrics.broker_blocked(false);
    shared.metrics.control_read(false);
    shared.state.send_modify(|state| {
        state.connected = connected;
        state.lanes = 0;
        state.blocked = false;
    });
}

/// Returns the pause after so many errors in a row.
fn pause(streak: u32, jitter: f64) -> Duration {
    let pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE).wait(streak);
    pause.mul_f64(1.0 - jitter * 0.3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_the_first_to_the_longest_and_are_spread() {
        assert_eq!(pause(0, 0.0), FIRST_PAUSE);
        assert_eq!(pause(1, 0.0), FIRST_PAUSE * 2);
        assert_eq!(pause(u32::MAX, 0.0), LONGEST_PAUSE);
        for streak in 0..40 {
            assert!(pause(streak, 0.5) <= pause(streak + 1, 0.5));
            assert!(pause(streak, 0.999) < pause(streak, 0.0));
        }
    }
}
