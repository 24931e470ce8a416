//! The task that sends probes through the delay bands of a generation.
//!
//! It has a channel of its own, because one task publishes on the publisher's. What goes wrong with a
//! probe ends neither the channel of the publisher nor the generation: to find such faults is what
//! probes are for.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future;
use lapin::{Channel, Confirmation, Connection};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::broker::error::SessionError;
use crate::broker::publisher::{open_publishing, write};
use crate::broker::reply::Plain;
use crate::broker::shared::Shared;
use crate::broker::topology::default_lane;
use crate::broker::{Publication, Receipt, Rounding, Route};
use crate::clock::{Clock, SystemClock};
use crate::message::Name;
use crate::wire::Kind;
use crate::wire::probe::Probe;

/// How often the ages are shown and it is looked whether a probe is due.
const TICK: Duration = Duration::from_secs(1);

/// Where probes that come back are noted.
#[derive(Clone)]
pub(super) struct Returns {
    pub(super) shared: Arc<Shared>,
    /// The acker, while the generation lasts.
    pub(super) settled: mpsc::WeakUnboundedSender<Receipt>,
}

impl Returns {
    /// Notes a probe and has its delivery acknowledged.
    pub(super) fn take(&self, probe: &Probe, receipt: Receipt) {
        let now = SystemClock.now().mono;
        if self.shared.probes.lock().returned(probe, now) {
            self.shared.metrics.delay_probe_returned(&probe.band);
        }
        if let Some(settled) = self.settled.upgrade() {
            // Without an acker the generation is over, and the broker delivers again.
            let _gone = settled.send(receipt);
        }
    }
}

/// Sends probes.
pub(super) struct Prober<'a> {
    shared: &'a Shared,
    /// Where they come back.
    lane: &'a Name,
    tick: Duration,
}

impl<'a> Prober<'a> {
    /// Sends what is due on the connection once the delay bands are declared, until consuming ends; goes
    /// on for ever and sends nothing where probes are turned off.
    pub(super) async fn run(
        shared: &'a Shared,
        connection: &Connection,
        mut bands: watch::Receiver<bool>,
    ) -> Infallible {
        let lane = default_lane(&shared.settings);
        if let Some((interval, lane)) = shared.settings.probe_interval.zip(lane)
            && bands.wait_for(|&declared| declared).await.is_ok()
        {
            shared.probes.lock().resume(SystemClock.now().mono);
            let tick = TICK.min(interval);
            let prober = Self { shared, lane, tick };
            let probing = future::join(prober.watch(), prober.send(connection));
            shared.stop.run_until_cancelled(probing).await;
        }
        future::pending().await
    }

    /// Keeps the metrics up to date; never ends.
    async fn watch(&self) {
        loop {
            self.show();
            sleep(self.tick).await;
        }
    }

    /// Gives up what is overdue, and shows the ages.
    fn show(&self) {
        let now = SystemClock.now().mono;
        let metrics = &self.shared.metrics;
        let mut probes = self.shared.probes.lock();
        for band in probes.give_up(now) {
            tracing::warn!(band, "the probe of a delay band did not come back");
            metrics.delay_probe_lost(&band);
        }
        for (band, age) in probes.ages(now) {
            metrics.delay_probe_age(band, age);
        }
    }

    /// Sends what is due; never ends.
    async fn send(&self, connection: &Connection) {
        let mut channel = None;
        loop {
            let due = self.shared.probes.lock().due(SystemClock.now());
            for (band, probe) in due {
                match self.send_one(connection, &mut channel, band, &probe).await {
                    Ok(is_taken) => self.note(&probe, is_taken),
                    // It was neither taken nor refused; the next one is sent in its time.
                    Err(error) => tracing::debug!(%error, "a probe is not sent"),
                }
            }
            sleep(self.tick).await;
        }
    }

    fn note(&self, probe: &Probe, is_taken: bool) {
        let now = SystemClock.now().mono;
        if is_taken {
            return self.shared.probes.lock().confirmed(probe, now);
        }
        self.shared.probes.lock().refused(probe, now);
        self.shared.metrics.delay_probe_lost(&probe.band);
    }

    /// Publishes a probe and returns whether a queue has it.
    async fn send_one(
        &self,
        connection: &Connection,
        channel: &mut Option<Arc<Channel>>,
        band: Duration,
        probe: &Probe,
    ) -> Result<bool, SessionError> {
        let open = match channel.take() {
            Some(open) => open,
            None => Arc::new(open_publishing(connection).await?),
        };
        let publication = self.publication(band, probe);
        let writing = write(Arc::clone(&open), &publication, &self.shared.topology);
        let confirming = async { writing.await?.await };
        let reason = match self.in_time(confirming).await {
            Some(Ok(Confirmation::Ack(None))) => {
                *channel = Some(open);
                return Ok(true);
            }
            // Another channel may know another leader of the queue (broker/README.md §4).
            Some(Ok(_refusal)) => "no queue takes it".to_owned(),
            Some(Err(error)) if error.is_amqp_soft_error() => Plain(&error).to_string(),
            Some(Err(error)) => return Err(error.into()),
            None => SessionError::Unconfirmed(self.shared.settings.confirm_timeout).to_string(),
        };
        tracing::warn!(
            band = probe.band,
            reason,
            "the broker does not take the probe of a delay band"
        );
        Ok(false)
    }

    /// Waits for an answer; `None` if none comes in time though the broker does not block publishing.
    async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = pin!(answer);
        loop {
            let waiting = timeout(self.shared.settings.confirm_timeout, answer.as_mut());
            match waiting.await {
                Ok(answer) => return Some(answer),
                Err(_elapsed) if self.shared.state.borrow().blocked => {}
                Err(_elapsed) => return None,
            }
        }
    }

    /// Makes what goes the way of a message that waits as long as the band is.
    fn publication(&self, band: Duration, probe: &Probe) -> Publication {
        let sent_at = probe.sent_at.duration_since(SystemTime::UNIX_EPOCH);
        let sent_at = sent_at.unwrap_or_default();
        Publication {
            to: Route::Delay {
                lane: self.lane.clone(),
                after: band,
                rounding: Rounding::Up {
                    within: Duration::MAX,
                },
            },
            kind: Kind::Retry,
            message_id: format!("probe-{}-{}", probe.band, sent_at.as_millis()),
            correlation_id: None,
            timestamp: sent_at.as_secs(),
            priority: None,
            headers: probe.headers(),
            body: Probe::body(),
        }
    }
}
