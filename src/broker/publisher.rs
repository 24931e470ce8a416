//! The one task that publishes.
//!
//! What can go wrong here: lapin mixes up confirms when two tasks publish on one channel, so there
//! is one. It publishes without waiting and takes confirms in any order. A nack (a full queue) or a
//! return (no queue) is published again ([`refused`]), later and in the same generation, for ending
//! the generation would cost innocent deliveries an attempt; the delivery stays unacknowledged
//! meanwhile, and a prefetch full of such deliveries stops consumption by itself. It goes out on a new
//! channel: after a node of a cluster has died, a channel may go on sending to that node what is for a
//! quorum queue, and refuse it for as long as the node is away (rabbit_fifo_client). While the broker
//! blocks the connection, publishing just pends; otherwise what is not written in time is as overdue
//! as what is not confirmed, so that nothing hangs unseen.
//!
//! [`refused`]: crate::broker::refused

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Connection, PublisherConfirm};
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use crate::broker::answer::answered;
use crate::broker::confirms::PendingPublish;
use crate::broker::connect::open_channel;
use crate::broker::error::SessionError;
use crate::broker::outstanding::Outstanding;
use crate::broker::route::short;
use crate::broker::shared::Shared;
use crate::broker::topology::Topology;
use crate::broker::{Publication, Receipt, Route, SettledDelivery, Then};
use crate::clock::{Clock, SystemClock};

/// The delivery mode of messages that survive a restart of the broker.
const PERSISTENT: u8 = 2;

/// So many deliveries are taken, and publications written, at once: fewer writes for the connection,
/// and a bound on what lapin copies.
const BATCH: usize = 64;

/// So many publications may be unconfirmed: lapin searches all of them for each confirm.
const UNCONFIRMED_LIMIT: usize = 4096;

/// How long the last confirms may take once no delivery is left to settle.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often it is checked whether confirms are overdue.
const TICK: Duration = Duration::from_secs(1);

/// Publishes what settles deliveries, and releases each delivery to the acker when all of it is confirmed.
pub(super) struct Publisher<'a> {
    settled: &'a mut mpsc::Receiver<SettledDelivery>,
    connection: &'a Connection,
    channel: Arc<Channel>,
    /// The next channel, while it is opened for what was refused.
    reopening: Option<BoxFuture<'a, Result<Channel, SessionError>>>,
    /// Former channels, on which confirms may still come, and until when each was published on.
    former: Vec<(Instant, Arc<Channel>)>,
    topology: Arc<Topology>,
    generation: u64,
    /// Whether the delay bands are declared, and what waits for that.
    bands: watch::Receiver<bool>,
    banded: bool,
    parked: Vec<PendingPublish>,
    /// What is published next.
    outbox: VecDeque<PendingPublish>,
    /// When to give up, once no delivery is left to settle.
    closing: Option<Instant>,
    outstanding: Outstanding,
    tick: Interval,
    blocking: watch::Receiver<Blocking>,
    confirm_timeout: Duration,
}

/// Whether the broker blocks publishing, which excuses it from confirming.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Blocking {
    pub(super) now: bool,
    pub(super) changed: Option<Instant>,
}

/// The channels between the publisher and the other tasks of its generation.
pub(super) struct PublisherChannels {
    pub(super) settled: mpsc::UnboundedSender<Receipt>,
    pub(super) blocking: watch::Receiver<Blocking>,
    pub(super) bands: watch::Receiver<bool>,
}

impl<'a> Publisher<'a> {
    pub(super) fn new(
        settled: &'a mut mpsc::Receiver<SettledDelivery>,
        (connection, channel): (&'a Connection, Channel),
        generation: u64,
        shared: &Shared,
        channels: PublisherChannels,
    ) -> Self {
        let topology = Arc::clone(&shared.topology);
        let metrics = Arc::clone(&shared.metrics);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            settled,
            connection,
            channel: Arc::new(channel),
            reopening: None,
            former: Vec::new(),
            topology: Arc::clone(&topology),
            generation,
            bands: channels.bands,
            banded: false,
            parked: Vec::new(),
            outbox: VecDeque::new(),
            closing: None,
            outstanding: Outstanding::new(topology, metrics, channels.settled),
            tick,
            blocking: channels.blocking,
            confirm_timeout: shared.settings.confirm_timeout,
        }
    }

    /// Publishes until no delivery is left to settle and everything is confirmed, or the time for that
    /// is over.
    pub(super) async fn run(&mut self) -> Result<(), SessionError> {
        let mut batch = Vec::with_capacity(BATCH);
        while !self.is_finished() {
            let room = self.has_room();
            let again = self.outstanding.next_again();
            select! {
                biased;
                advanced = self.outstanding.confirms.advance() => {
                    advanced?;
                    self.outstanding.judge()?;
                }
                () = until(again), if self.reopening.is_none() => {
                    self.reopening = Some(open_publishing(self.connection).boxed());
                }
                channel = opened(&mut self.reopening) => self.publish_again(channel),
                () = declared(&mut self.bands), if !self.banded => self.publish_parked(),
                _ = self.tick.tick() => {
                    self.check_overdue()?;
                    if !room && self.settled.is_closed() {
                        self.closing.get_or_insert_with(end_of_closing);
                    }
                }
                // The broker delivers again what is not acknowledged.
                () = until(self.closing) => return Ok(()),
                taken = self.settled.recv_many(&mut batch, BATCH), if room => {
                    if taken == 0 {
                        self.closing.get_or_insert_with(end_of_closing);
                    }
                    self.take_more(&mut batch).await;
                    batch.drain(..).for_each(|settled| self.take(settled));
                }
            }
            self.publish_some();
        }
        Ok(())
    }

    /// Records the results of the generation.
    pub(super) fn leave(self, shared: &Shared) {
        if self.outstanding.has_published() {
            shared.published.store(true, Ordering::Relaxed);
        }
        self.outstanding.abandon();
    }

    /// Returns whether more deliveries may be taken.
    fn has_room(&self) -> bool {
        let open = self.outstanding.confirms.len();
        self.closing.is_none() && self.outbox.is_empty() && open < UNCONFIRMED_LIMIT
    }

    fn is_finished(&self) -> bool {
        let nothing_to_write = self.outbox.is_empty() && self.parked.is_empty();
        self.closing.is_some() && nothing_to_write && self.outstanding.all_confirmed()
    }

    /// Adds to a batch what other tasks settle before their worker comes to this one again: what is
    /// published together wakes lapin's thread once.
    async fn take_more(&mut self, batch: &mut Vec<SettledDelivery>) {
        yield_now().await;
        while batch.len() < BATCH
            && let Ok(settled) = self.settled.try_recv()
        {
            batch.push(settled);
        }
    }

    fn take(&mut self, settled: SettledDelivery) {
        // The broker delivers again what an older generation took.
        if let Then::Acknowledge { receipt, .. } = &settled.then
            && receipt.generation != self.generation
        {
            return;
        }
        if settled.publications.is_empty() {
            self.outstanding.conclude(settled.then);
            return;
        }
        self.outbox
            .extend(PendingPublish::all(settled, SystemClock.now().mono));
    }

    /// Publishes what was refused, on another channel if there is one.
    fn publish_again(&mut self, channel: Result<Channel, SessionError>) {
        self.reopening = None;
        match channel {
            Ok(channel) => {
                let former = std::mem::replace(&mut self.channel, Arc::new(channel));
                self.former.push((SystemClock.now().mono, former));
                close_idle(&mut self.former, self.outstanding.confirms.oldest());
            }
            // If the connection is lost, the confirms say so.
            Err(error) => tracing::debug!(%error, "no other channel for what was refused"),
        }
        self.outbox.extend(self.outstanding.take_again());
    }

    fn publish_parked(&mut self) {
        self.banded = true;
        self.outbox.extend(self.parked.drain(..));
    }

    /// Publishes from the outbox as much as may be written at once.
    fn publish_some(&mut self) {
        let now = SystemClock.now().mono;
        while self.outstanding.confirms.unwritten() < BATCH
            && let Some(mut pending) = self.outbox.pop_front()
        {
            if !self.banded && matches!(pending.publication().to, Route::Delay { .. }) {
                self.parked.push(pending);
                continue;
            }
            pending.published = now;
            let channel = Arc::clone(&self.channel);
            let written = write(channel, pending.publication(), &self.topology);
            self.outstanding.confirms.push(pending, written);
        }
    }

    fn check_overdue(&self) -> Result<(), SessionError> {
        let blocking = *self.blocking.borrow();
        let Some(oldest) = self.outstanding.confirms.oldest() else {
            return Ok(());
        };
        let since = blocking.changed.map_or(oldest, |end| oldest.max(end));
        let overdue = SystemClock.now().mono.duration_since(since) > self.confirm_timeout;
        if overdue && !blocking.now {
            return Err(SessionError::Unconfirmed(self.confirm_timeout));
        }
        Ok(())
    }
}

/// Publishes; ready when the frames are written, with the confirm to wait for.
pub(super) fn write(
    channel: Arc<Channel>,
    publication: &Publication,
    topology: &Topology,
) -> impl Future<Output = lapin::Result<PublisherConfirm>> + Send + 'static {
    let to = topology.routes().destination(&publication.to);
    let options = BasicPublishOptions {
        mandatory: to.mandatory,
        ..Default::default()
    };
    let properties = properties(publication, to.expiration);
    let body = publication.body.clone();
    async move {
        channel
            .basic_publish(to.exchange, to.routing_key, options, &body, properties)
            .await
    }
}

/// Opens a channel with confirms.
pub(super) async fn open_publishing(connection: &Connection) -> Result<Channel, SessionError> {
    let channel = open_channel(connection).await?;
    let options = ConfirmSelectOptions::default();
    answered("confirm.select", channel.confirm_select(options)).await?;
    Ok(channel)
}

/// Drops the channels on which nothing is open; `oldest` is when the oldest of what is open was published.
fn close_idle<C>(former: &mut Vec<(Instant, C)>, oldest: Option<Instant>) {
    former.retain(|(until, _)| oldest.is_some_and(|oldest| oldest <= *until));
}

/// Waits for a channel that is being opened, or for ever if none is.
async fn opened(
    opening: &mut Option<BoxFuture<'_, Result<Channel, SessionError>>>,
) -> Result<Channel, SessionError> {
    match opening {
        Some(opening) => opening.await,
        None => std::future::pending().await,
    }
}

fn end_of_closing() -> Instant {
    SystemClock.now().mono + CLOSE_TIMEOUT
}

/// Waits for a moment, or for ever if there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits until the delay bands are declared, or for ever if they will not be.
async fn declared(bands: &mut watch::Receiver<bool>) {
    if bands.wait_for(|&declared| declared).await.is_err() {
        std::future::pending().await
    }
}

/// Returns the properties of a publication that a delay band holds for `expiration` (broker/README.md
/// §6).
///
/// Never `user_id`, which must equal the login or the channel closes; `expiration` only in a delay
/// band, because anywhere else the broker would delete the message.
fn properties(publication: &Publication, expiration: Option<Duration>) -> BasicProperties {
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(short(&publication.message_id))
        .with_timestamp(publication.timestamp)
        .with_headers(publication.headers.clone());
    if let Some(kind) = publication.kind.message_type() {
        properties = properties
            .with_type(ShortString::from(kind))
            .with_content_type(ShortString::from("application/json"));
    }
    if let Some(event) = &publication.correlation_id {
        properties = properties.with_correlation_id(short(event.as_str()));
    }
    if let Some(priority) = publication.priority {
        properties = properties.with_priority(priority);
    }
    if let Some(expiration) = expiration {
        properties = properties.with_expiration(short(&expiration.as_millis().to_string()));
    }
    properties
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lapin::types::FieldTable;

    use super::*;
    use crate::broker::Route;
    use crate::message::EventId;
    use crate::wire::Kind;

    fn publication(kind: Kind) -> Publication {
        Publication {
            to: Route::Quarantine,
            kind,
            message_id: "m".repeat(300),
            correlation_id: EventId::parse(&"e".repeat(128)),
            timestamp: 1,
            priority: None,
            headers: FieldTable::default(),
            body: Bytes::new(),
        }
    }

    #[test]
    fn a_former_channel_is_kept_only_while_something_on_it_is_open() {
        let start = SystemClock.now().mono;
        let at = |seconds| start + Duration::from_secs(seconds);
        for (oldest, kept) in [
            (Some(5), &[10, 20, 30][..]),
            (Some(20), &[20, 30]),
            (Some(21), &[30]),
            (Some(31), &[]),
            (None, &[]),
        ] {
            let mut former: Vec<_> = [10, 20, 30].map(|until| (at(until), until)).into();
            close_idle(&mut former, oldest.map(at));
            let left: Vec<_> = former.into_iter().map(|(_, until)| until).collect();
            assert_eq!(left, kept, "{oldest:?}");
        }
    }

    #[test]
    fn every_kind_is_persistent_named_and_never_dangerous() {
        for &kind in Kind::ALL {
            let properties = properties(&publication(kind), None);
            assert_eq!(*properties.delivery_mode(), Some(PERSISTENT));
            assert_eq!(*properties.user_id(), None);
            assert_eq!(*properties.expiration(), None);
            assert_eq!(*properties.message_id(), Some(short(&"m".repeat(255))));
            let content = properties.content_type().as_ref();
            let json = content.is_some_and(|content| content.as_str() == "application/json");
            assert_eq!(json, kind != Kind::Quarantine, "{kind:?}");
            assert_eq!(properties.kind().is_some(), json, "{kind:?}");
        }
    }

    #[test]
    fn only_a_publication_with_a_priority_has_one() {
        for priority in [None, Some(0), Some(255)] {
            let publication = Publication {
                priority,
                ..publication(Kind::Retry)
            };
            assert_eq!(*properties(&publication, None).priority(), priority);
        }
    }

    #[test]
    fn a_delay_band_holds_for_whole_milliseconds() {
        let waits = Some(Duration::from_micros(1_500_700));
        let properties = properties(&publication(Kind::Retry), waits);
        assert_eq!(*properties.expiration(), Some(short("1500")));
    }
}
