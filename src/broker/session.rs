//! Runs one generation of connections after the other, with pauses between them.
//!
//! After an error the next host is tried, and the pause follows when all have been.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future;
use parking_lot::Mutex;
use tokio::select;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::broker::addresses::Addresses;
use crate::broker::error::SessionError;
use crate::broker::generation::Generation;
use crate::broker::probes::Probes;
use crate::broker::product::Product;
use crate::broker::rotation::UrlFile;
use crate::broker::route::band_name;
use crate::broker::shared::{ControlPosition, Shared};
use crate::broker::topology::Topology;
use crate::broker::{Delivery, NeedsOperator, Redeliveries, Settings, SettledDelivery};
use crate::clock::{Clock, Jitter, RandomJitter, SystemClock, seconds};
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

/// What can be asked of the tasks while they run.
#[derive(Clone, Debug, Default)]
pub struct Triggers {
    /// Ends the consumers.
    pub stop_consuming: CancellationToken,
    /// Has the file with the URLs read at once, for a password that was changed.
    pub read_urls: Arc<Notify>,
}

/// Runs until `settled` is closed and drained, and reconnects as needed.
///
/// Cancelling [`Triggers::stop_consuming`] ends the consumers; publishing, confirming and acknowledging go on.
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
    triggers: Triggers,
) -> Result<(), NeedsOperator> {
    let addresses = Addresses::new(&settings)?;
    let Triggers {
        stop_consuming,
        read_urls,
    } = triggers;
    let shared = Arc::new(Shared {
        topology: Arc::new(Topology::new(&settings)),
        probes: Mutex::new(probes(&settings, &metrics)),
        settings,
        deliveries: deliveries.downgrade(),
        state,
        metrics,
        redeliveries,
        withdrawn,
        control: ControlPosition::default(),
        stop: stop_consuming.clone(),
        read_urls,
        proven: AtomicBool::new(false),
        published: AtomicBool::new(false),
    });
    let session = Session {
        shared,
        addresses,
        url_file: UrlFile::default(),
        settled,
        generation: 0,
        tried: 0,
        streak: 0,
        told: HashMap::new(),
        product: None,
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

/// Prepares the probes of the delay bands, and their series.
fn probes(settings: &Settings, metrics: &Metrics) -> Probes {
    // Headers have signed numbers.
    let daemon = RandomState::new().hash_one(SystemClock.now().wall) >> 1;
    let interval = settings.probe_interval;
    let bands = settings.bands.iter().filter(|_| interval.is_some());
    let bands: Vec<_> = bands.map(|&band| (band, band_name(band))).collect();
    for (band, name) in &bands {
        metrics.start_delay_band(name, *band);
    }
    Probes::new(daemon, interval.unwrap_or_default(), bands.into_iter())
}

struct Session {
    shared: Arc<Shared>,
    addresses: Addresses,
    url_file: UrlFile,
    settled: mpsc::Receiver<SettledDelivery>,
    generation: u64,
    /// How many hosts failed since the last pause.
    tried: usize,
    /// Rounds over all hosts that failed since the last good generation.
    streak: u32,
    /// What was told last of each host that is away, and when.
    told: HashMap<String, (String, Instant)>,
    /// Which broker it was at last.
    product: Option<Product>,
}

impl Session {
    async fn live(mut self) -> Result<(), NeedsOperator> {
        loop {
            let opened = SystemClock.now().mono;
            let error = match Box::pin(self.generation()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if let Some(act) = self.needs_operator(&error) {
                return Err(self.addresses.locate(act));
            }
            let now = SystemClock.now().mono;
            if now.duration_since(opened) > GOOD_LIFE {
                (self.streak, self.tried) = (0, 0);
            }
            let pause = self.next_pause();
            self.report(&error, pause, now);
            self.addresses.advance();
            if !self.pause(pause).await {
                return Ok(());
            }
        }
    }

    /// Returns how long to wait before the next host is tried: only a whole round of errors costs time.
    fn next_pause(&mut self) -> Duration {
        self.tried += 1;
        if self.tried < self.addresses.count() {
            return Duration::ZERO;
        }
        self.tried = 0;
        let pause = pause(self.streak, RandomJitter.draw());
        self.streak = self.streak.saturating_add(1);
        pause
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
            let settings = &self.shared.settings;
            self.url_file.before_connect(&mut self.addresses, settings);
        }
        let shared = Arc::clone(&self.shared);
        let opening = Generation::open(&shared, self.addresses.current(), self.generation);
        let mut generation = select! {
            biased;
            () = drain(&mut self.settled) => return Ok(()),
            opened = opening => opened?,
        };
        tracing::info!(address = %self.addresses, generation = self.generation, "broker connected");
        self.told.clear();
        self.tell_product(generation.product());
        show_connected(&shared, true);
        let control = generation.take_control();
        let ended = select! {
            ended = generation.serve(control, &shared, &mut self.settled) => ended,
            never = self.url_file.follow(&generation, &mut self.addresses, &shared) => match never {},
        };
        show_connected(&shared, false);
        ended
    }

    /// Logs which broker it is, if it was not the same before.
    fn tell_product(&mut self, product: Option<&Product>) {
        let Some(product) = product.filter(|it| self.product.as_ref() != Some(it)) else {
            return;
        };
        tracing::info!("the broker is {product}");
        if let Some(warning) = product.warning() {
            tracing::warn!("{warning}");
        }
        self.product = Some(product.clone());
    }

    fn report(&mut self, error: &SessionError, pause: Duration, now: Instant) {
        self.shared.metrics.broker_reconnects();
        let problem = error.to_string();
        let address = self.addresses.to_string();
        let pause_s = seconds(pause);
        let is_told = self
            .told
            .get(&address)
            .is_some_and(|(told, at)| *told == problem && now.duration_since(*at) < TELL_AGAIN);
        if is_told {
            tracing::debug!(address, problem, pause_s, "no broker; trying again");
        } else {
            tracing::warn!(address, problem, pause_s, "no broker; trying again");
            self.told.insert(address, (problem.clone(), now));
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
    if shared.settings.control.is_some() {
        shared.metrics.control_read(false);
    }
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
