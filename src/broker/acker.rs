//! The one task that acknowledges.
//!
//! What can go wrong here: acknowledging too early loses a message, twice closes the channel, late
//! costs a repeated push after a crash. So it receives a delivery only when everything it caused
//! is confirmed, [`Window`] keeps the tags straight, and nothing settled waits longer than
//! [`STUCK_TIMEOUT`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use lapin::Channel;
use lapin::options::BasicAckOptions;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::broker::answer::answered;
use crate::broker::error::SessionError;
use crate::broker::window::Window;
use crate::broker::{Receipt, Redeliveries};
use crate::clock::{Clock, SystemClock};
use crate::metrics::Metrics;

/// So many settled deliveries are acknowledged at once.
const BATCH: usize = 64;

/// A settled delivery waits so long for others.
const BATCH_TIMEOUT: Duration = Duration::from_millis(5);

/// A settled delivery waits so long behind one that is not.
const STUCK_TIMEOUT: Duration = Duration::from_millis(250);

/// How far the consumer of one queue has come.
#[derive(Debug)]
pub(super) struct Progress {
    /// How many unacknowledged deliveries it may have.
    pub(super) prefetch: AtomicU16,
    /// How many messages were delivered.
    pub(super) delivered: AtomicU64,
    /// How many deliveries were acknowledged.
    pub(super) acknowledged: watch::Sender<u64>,
    /// Its first messages did no harm.
    pub(super) harmless: CancellationToken,
}

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            prefetch: AtomicU16::new(1),
            delivered: AtomicU64::new(0),
            acknowledged: watch::Sender::new(0),
            harmless: CancellationToken::new(),
        })
    }

    /// Returns whether every message that was delivered is acknowledged.
    pub(super) fn is_idle(&self) -> bool {
        self.delivered.load(Ordering::Relaxed) <= *self.acknowledged.borrow()
    }

    /// So many settled deliveries may be stuck behind a hole.
    fn stuck_limit(&self) -> usize {
        usize::from(self.prefetch.load(Ordering::Relaxed) / 4)
    }
}

/// Counts the deliveries of a generation that are not acknowledged; those that never are, because
/// the generation is over, are counted off when it is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    metrics: Arc<Metrics>,
    open: AtomicUsize,
}

impl InFlight {
    pub(super) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            open: AtomicUsize::new(0),
        })
    }

    pub(super) fn taken(&self, redelivered: bool) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.metrics.delivery_taken(redelivered);
    }

    fn ended(&self, count: usize) {
        self.open.fetch_sub(count, Ordering::Relaxed);
        for _ in 0..count {
            self.metrics.delivery_ended();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.ended(self.open.load(Ordering::Relaxed));
    }
}

/// Acknowledges what is settled.
pub(super) struct Acker {
    consumers: Vec<ConsumerChannel>,
    in_flight: Arc<InFlight>,
    redeliveries: Arc<Redeliveries>,
    /// Settled since the last acknowledgement.
    fresh: usize,
    flush_at: Instant,
    sweep_at: Instant,
}

/// One consuming channel.
struct ConsumerChannel {
    channel: Channel,
    /// With the tag still open.
    receipt: Receipt,
    progress: Arc<Progress>,
    window: Window,
}

impl Acker {
    /// Acknowledges on these channels of a generation, by their index in [`Receipt`], and notes
    /// what was acknowledged in `redeliveries`.
    pub(super) fn new(
        generation: u64,
        channels: impl Iterator<Item = (Channel, Arc<Progress>)>,
        in_flight: Arc<InFlight>,
        redeliveries: Arc<Redeliveries>,
    ) -> Self {
        let consumers = channels
            .enumerate()
            .map(|(index, (channel, progress))| ConsumerChannel {
                channel,
                receipt: Receipt {
                    generation,
                    channel: index,
                    tag: 0,
                },
                progress,
                window: Window::default(),
            });
        let now = SystemClock.now().mono;
        Self {
            consumers: consumers.collect(),
            in_flight,
            redeliveries,
            fresh: 0,
            flush_at: now,
            sweep_at: now,
        }
    }

    /// Acknowledges until nothing more can be settled.
    pub(super) async fn run(
        mut self,
        mut settled: mpsc::UnboundedReceiver<Receipt>,
    ) -> Result<(), SessionError> {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let receiving = settled.recv_many(&mut batch, BATCH);
            let received = match self.next_flush() {
                None => receiving.await,
                Some(at) => match timeout_at(at, receiving).await {
                    Ok(received) => received,
                    Err(_elapsed) => {
                        self.flush().await?;
                        continue;
                    }
                },
            };
            if received == 0 {
                return self.flush_everything().await;
            }
            self.note(&mut batch);
            if self.fresh >= BATCH {
                self.flush().await?;
            }
        }
    }

    fn note(&mut self, batch: &mut Vec<Receipt>) {
        if self.fresh == 0 {
            let now = SystemClock.now().mono;
            self.flush_at = now + BATCH_TIMEOUT;
            if !self.is_stuck() {
                self.sweep_at = now + STUCK_TIMEOUT;
            }
        }
        self.fresh += batch.len();
        for receipt in batch.drain(..) {
            if let Some(consumer) = self.consumers.get_mut(receipt.channel) {
                consumer.window.settle(receipt.tag);
            }
        }
    }

    fn next_flush(&self) -> Option<Instant> {
        if self.fresh > 0 {
            Some(self.flush_at)
        } else {
            self.is_stuck().then_some(self.sweep_at)
        }
    }

    fn is_stuck(&self) -> bool {
        self.consumers
            .iter()
            .any(|consumer| consumer.window.is_stuck())
    }

    async fn flush(&mut self) -> Result<(), SessionError> {
        let now = SystemClock.now().mono;
        if now >= self.sweep_at {
            self.sweep_at = now + STUCK_TIMEOUT;
            return self.flush_everything().await;
        }
        self.fresh = 0;
        for consumer in &mut self.consumers {
            let limit = consumer.progress.stuck_limit();
            let count = consumer.acknowledge(limit, &self.redeliveries).await?;
            self.in_flight.ended(count);
        }
        Ok(())
    }

    async fn flush_everything(&mut self) -> Result<(), SessionError> {
        self.fresh = 0;
        for consumer in &mut self.consumers {
            let count = consumer.acknowledge(0, &self.redeliveries).await?;
            self.in_flight.ended(count);
        }
        Ok(())
    }
}

impl ConsumerChannel {
    /// Acknowledges what is due, and returns how many deliveries that is.
    async fn acknowledge(
        &mut self,
        stuck: usize,
        redeliveries: &Redeliveries,
    ) -> Result<usize, SessionError> {
        let due = self.window.take_due(stuck);
        if due.count == 0 {
            return Ok(0);
        }
        if let Some(tag) = due.up_to {
            let options = BasicAckOptions { multiple: true };
            answered("basic.ack", self.channel.basic_ack(tag, options)).await?;
            self.note(tag, true, redeliveries);
        }
        let singly = due.singly.iter().map(async |&tag| {
            let options = BasicAckOptions::default();
            self.channel.basic_ack(tag, options).await?;
            self.note(tag, false, redeliveries);
            Ok::<_, lapin::Error>(())
        });
        answered("basic.ack", try_join_all(singly)).await?;
        self.progress
            .acknowledged
            .send_modify(|count| *count += due.count as u64);
        Ok(due.count)
    }

    fn note(&self, tag: u64, multiple: bool, redeliveries: &Redeliveries) {
        let receipt = Receipt {
            tag,
            ..self.receipt
        };
        redeliveries.acknowledged(receipt, multiple, SystemClock.now().mono);
    }
}
