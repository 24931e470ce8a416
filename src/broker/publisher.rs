//! The one task that publishes.
//!
//! What can go wrong here: lapin mixes up confirms when two tasks publish on one channel, so there
//! is one. It publishes without waiting and takes confirms in any order. A nack (a full queue) or a
//! return (no queue) is published again, later and in the same generation, for ending the
//! generation would cost innocent deliveries an attempt; the delivery stays unacknowledged
//! meanwhile, and a prefetch full of such deliveries stops consumption by itself. While the broker
//! blocks the connection, publishing just pends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::{Channel, PublisherConfirm};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio::{pin, select};

use crate::broker::confirms::{Confirms, Ticket};
use crate::broker::topology::Topology;
use crate::broker::trouble::Trouble;
use crate::broker::{Owed, Publication, Receipt, Route, properties};
use crate::clock::{Clock, Jitter, RandomJitter, SystemClock};
use crate::metrics::{Confirmed, Metrics};

/// So many deliveries are taken at once.
const BATCH: usize = 64;

/// So many publications may be unconfirmed: lapin searches all of them for each confirm.
const UNCONFIRMED_LIMIT: usize = 4096;

/// How long what is unconfirmed may take when nothing more is owed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often it is checked whether confirms are overdue.
const TICK: Duration = Duration::from_secs(1);

/// The first wait before something refused is published again; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How often a refusal is worth a warning.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// Publishes what is owed, and releases each delivery to the acker when all of it is confirmed.
pub(super) struct Publisher {
    channel: Channel,
    topology: Arc<Topology>,
    generation: u64,
    /// Told when the delay bands are declared, and what waits for that.
    bands: Option<oneshot::Receiver<()>>,
    parked: Vec<Ticket>,
    /// When to give up, once nothing more is owed.
    closing: Option<Instant>,
    ledger: Ledger,
    blocking: watch::Receiver<Blocking>,
    confirm_timeout: Duration,
}

/// Whether the broker blocks publishing, which excuses it from confirming.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Blocking {
    pub(super) now: bool,
    pub(super) changed: Option<Instant>,
}

/// What connects the publisher with the other rooms of its generation.
pub(super) struct Doors {
    pub(super) settled: mpsc::UnboundedSender<Receipt>,
    pub(super) blocking: watch::Receiver<Blocking>,
    pub(super) bands: oneshot::Receiver<()>,
}

impl Publisher {
    pub(super) fn new(
        channel: Channel,
        generation: u64,
        topology: Arc<Topology>,
        metrics: Arc<Metrics>,
        confirm_timeout: Duration,
        doors: Doors,
    ) -> Self {
        Self {
            channel,
            topology: Arc::clone(&topology),
            generation,
            bands: Some(doors.bands),
            parked: Vec::new(),
            closing: None,
            ledger: Ledger {
                topology,
                metrics,
                settled: doors.settled,
                confirms: Confirms::default(),
                refused: BTreeMap::new(),
                refusals: 0,
                warned: None,
            },
            blocking: doors.blocking,
            confirm_timeout,
        }
    }

    /// Publishes until nothing more is owed and everything is confirmed, or the time for that is
    /// over.
    pub(super) async fn run(&mut self, owed: &mut mpsc::Receiver<Owed>) -> Result<(), Trouble> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_finished() {
            let room = self.closing.is_none() && self.ledger.confirms.len() < UNCONFIRMED_LIMIT;
            let again = self.ledger.next_again();
            select! {
                biased;
                answered = self.ledger.confirms.answered() => {
                    answered?;
                    self.ledger.judge()?;
                }
                () = until(again) => self.publish_again().await?,
                () = declared(&mut self.bands) => self.publish_parked().await?,
                _ = tick.tick() => self.check_overdue()?,
                () = until(self.closing) => return Ok(()),
                taken = owed.recv_many(&mut batch, BATCH), if room => {
                    if taken == 0 {
                        self.closing = Some(SystemClock.now().mono + CLOSE_TIMEOUT);
                    }
                    for owed in batch.drain(..) {
                        self.take(owed).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts what the end of the generation leaves unconfirmed.
    pub(super) fn abandon(mut self) {
        let now = SystemClock.now().mono;
        for ticket in self.ledger.confirms.abandon() {
            let elapsed = now.saturating_duration_since(ticket.published);
            let kind = ticket.publication().kind;
            self.ledger
                .metrics
                .published(kind, Confirmed::Lost, elapsed);
        }
    }

    fn is_finished(&self) -> bool {
        self.closing.is_some() && self.parked.is_empty() && self.ledger.is_paid()
    }

    async fn take(&mut self, owed: Owed) -> Result<(), Trouble> {
        // The broker delivers again what an older generation took.
        if owed.receipt.generation != self.generation {
            return Ok(());
        }
        if owed.publications.is_empty() {
            self.ledger.release(owed.receipt);
            return Ok(());
        }
        for ticket in Ticket::all(owed, SystemClock.now().mono) {
            self.publish(ticket).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, mut ticket: Ticket) -> Result<(), Trouble> {
        if self.bands.is_some() && matches!(ticket.publication().to, Route::Delay { .. }) {
            self.parked.push(ticket);
            return Ok(());
        }
        ticket.published = SystemClock.now().mono;
        let confirm = {
            let publishing = write(&self.channel, ticket.publication(), &self.topology);
            pin!(publishing);
            loop {
                select! {
                    biased;
                    written = &mut publishing => break written?,
                    // It pends while the broker blocks; what was confirmed before is settled.
                    answered = self.ledger.confirms.answered() => {
                        answered?;
                        self.ledger.judge()?;
                    }
                }
            }
        };
        self.ledger.confirms.push(ticket, confirm);
        Ok(())
    }

    async fn publish_again(&mut self) -> Result<(), Trouble> {
        let now = SystemClock.now().mono;
        while let Some(ticket) = self.ledger.take_again(now) {
            self.publish(ticket).await?;
        }
        Ok(())
    }

    async fn publish_parked(&mut self) -> Result<(), Trouble> {
        self.bands = None;
        for ticket in std::mem::take(&mut self.parked) {
            self.publish(ticket).await?;
        }
        Ok(())
    }

    fn check_overdue(&self) -> Result<(), Trouble> {
        let blocking = *self.blocking.borrow();
        let Some(oldest) = self.ledger.confirms.oldest() else {
            return Ok(());
        };
        let since = blocking.changed.map_or(oldest, |end| oldest.max(end));
        let overdue = SystemClock.now().mono.duration_since(since) > self.confirm_timeout;
        if overdue && !blocking.now {
            return Err(Trouble::Unconfirmed(self.confirm_timeout));
        }
        Ok(())
    }
}

/// What is published and not paid.
struct Ledger {
    topology: Arc<Topology>,
    metrics: Arc<Metrics>,
    settled: mpsc::UnboundedSender<Receipt>,
    confirms: Confirms,
    /// What the broker refused, by when it is published again.
    refused: BTreeMap<(Instant, u64), Ticket>,
    refusals: u64,
    warned: Option<Instant>,
}

impl Ledger {
    fn judge(&mut self) -> Result<(), Trouble> {
        let now = SystemClock.now().mono;
        for (ticket, confirmed) in self.confirms.judge(self.topology.routes())? {
            let elapsed = now.saturating_duration_since(ticket.published);
            let kind = ticket.publication().kind;
            self.metrics.published(kind, confirmed, elapsed);
            match confirmed {
                Confirmed::Ack => ticket.pay().into_iter().for_each(|paid| self.release(paid)),
                Confirmed::Nack | Confirmed::Returned | Confirmed::Lost => {
                    self.refuse(ticket, confirmed, now);
                }
            }
        }
        Ok(())
    }

    fn release(&self, receipt: Receipt) {
        // Without an acker the generation is over, and the broker delivers again.
        let _gone = self.settled.send(receipt);
    }

    fn refuse(&mut self, mut ticket: Ticket, confirmed: Confirmed, now: Instant) {
        if self.warned.is_none_or(|at| now >= at + WARNING_INTERVAL) {
            self.warned = Some(now);
            let to = self.topology.routes().destination(&ticket.publication().to);
            tracing::warn!(
                answer = confirmed.name(),
                exchange = to.exchange.as_str(),
                routing_key = to.routing_key.as_str(),
                "the broker takes no publication there; it is published again until it does"
            );
        }
        let wait = wait(ticket.refusals, RandomJitter.draw());
        ticket.refusals = ticket.refusals.saturating_add(1);
        self.refusals += 1;
        self.refused.insert((now + wait, self.refusals), ticket);
    }

    fn next_again(&self) -> Option<Instant> {
        self.refused.first_key_value().map(|((at, _), _)| *at)
    }

    fn take_again(&mut self, now: Instant) -> Option<Ticket> {
        let first = self.refused.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn is_paid(&self) -> bool {
        self.confirms.len() == 0 && self.refused.is_empty()
    }
}

/// Publishes; ready when the frames are written, with the confirm to wait for.
async fn write(
    channel: &Channel,
    publication: &Publication,
    topology: &Topology,
) -> lapin::Result<PublisherConfirm> {
    let to = topology.routes().destination(&publication.to);
    let options = BasicPublishOptions {
        mandatory: to.mandatory,
        ..Default::default()
    };
    let properties = properties::of(publication, to.expiration);
    channel
        .basic_publish(
            to.exchange,
            to.routing_key,
            options,
            &publication.body,
            properties,
        )
        .await
}

/// How long a publication waits after so many earlier refusals.
fn wait(refusals: u32, jitter: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << refusals.min(16));
    doubled.min(LONGEST_WAIT).mul_f64(0.5 + jitter / 2.0)
}

/// Waits for a moment, or for ever if there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits until the delay bands are declared, or for ever if they are or will not be.
async fn declared(bands: &mut Option<oneshot::Receiver<()>>) {
    if let Some(bands) = bands
        && bands.await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_waits_longer_each_time_and_not_for_ever() {
        assert_eq!(wait(0, 0.0), FIRST_WAIT / 2);
        assert_eq!(wait(1, 1.0), FIRST_WAIT * 2);
        assert_eq!(wait(100, 1.0), LONGEST_WAIT);
        for refusals in 0..40 {
            assert!(wait(refusals, 0.5) <= wait(refusals + 1, 0.5));
        }
    }
}
