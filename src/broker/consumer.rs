//! Taking messages from one queue.
//!
//! What can go wrong here: the broker ends the stream without an error when the queue is deleted,
//! and after a lost connection the stream first yields stale deliveries; both end the generation.
//! RabbitMQ fixes a consumer's prefetch when it starts, so another prefetch ([`ramp`]) means to
//! subscribe again, on the same channel. What was taken before does not count against the new
//! subscription: while the prefetch grows, at most twice as many messages are in hand as it says.
//!
//! [`ramp`]: super::ramp

use std::collections::VecDeque;
use std::future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use lapin::message::Delivery as Message;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer as Stream};
use tokio::pin;
use tokio::select;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::broker::acker::{InFlight, Progress};
use crate::broker::answer::answered_in_turn;
use crate::broker::budget::{Budget, InHand};
use crate::broker::error::SessionError;
use crate::broker::frames::Found;
use crate::broker::prober::Returns;
use crate::broker::ramp::Ramp;
use crate::broker::shared::Queue;
use crate::broker::topology::Consumed;
use crate::broker::{Delivery, Inbound, Receipt, Source};
use crate::clock::{Clock, SystemClock};
use crate::spans::Span;
use crate::wire::headers::delivery_count;
use crate::wire::probe::Probe;

/// The size in bytes of an event from which on it waits for dispatch alone.
const LARGE: usize = 8 * 1024;

/// Consumes one queue.
pub(super) struct Consumer {
    channel: Channel,
    consumed: Consumed,
    /// With the tag still open.
    receipt: Receipt,
    progress: Arc<Progress>,
    in_flight: Arc<InFlight>,
    returns: Returns,
    unreadable: Arc<Found>,
    budget: Arc<Budget>,
    ramp: Ramp,
    /// What the subscriptions bring, the oldest first; only the last is not cancelled.
    streams: VecDeque<Stream>,
    /// The next subscription, while it is made.
    resubscribing: Option<BoxFuture<'static, Result<Stream, SessionError>>>,
}

impl Consumer {
    /// Subscribes to the queue with a prefetch of one.
    pub(super) async fn start(
        queue: &Queue,
        receipt: Receipt,
        in_flight: Arc<InFlight>,
        returns: Returns,
        delivery_limit: u32,
    ) -> Result<Self, SessionError> {
        let (consumed, channel) = (queue.consumed.clone(), queue.channel.clone());
        let budget = &queue.link.budget;
        let ramp = Ramp::new(consumed.prefetch, delivery_limit, budget.limit());
        let stream = subscribe(&channel, budget, &consumed.queue, ramp.prefetch()).await?;
        Ok(Self {
            channel,
            consumed,
            receipt,
            progress: Arc::clone(&queue.progress),
            in_flight,
            returns,
            unreadable: Arc::clone(&queue.link.found),
            budget: Arc::clone(budget),
            ramp,
            streams: VecDeque::from([stream]),
            resubscribing: None,
        })
    }

    /// Hands out deliveries until told to stop; the prefetch grows once `all_started`.
    pub(super) async fn run(
        mut self,
        deliveries: mpsc::Sender<Delivery>,
        stop: CancellationToken,
        all_started: CancellationToken,
    ) -> Result<(), SessionError> {
        let mut acknowledged = self.progress.acknowledged.subscribe();
        let stopped = stop.cancelled();
        pin!(stopped);
        loop {
            let message = select! {
                biased;
                () = &mut stopped => break,
                message = self.next(&mut acknowledged, &all_started) => message?,
            };
            // What was buffered when the channel broke comes again, and cannot be acknowledged.
            if message.acker.poisoned() {
                continue;
            }
            let delivery = self.take(message);
            if let Some(probe) = probe_of(&delivery.inbound) {
                self.returns.take(&probe, delivery.receipt);
                continue;
            }
            let is_large = delivery.inbound.body.len() >= LARGE;
            select! {
                biased;
                () = &mut stopped => break,
                sent = hand_out(&deliveries, delivery, is_large) => if sent.is_err() { break },
            }
        }
        // Nothing more is handed out; the answer of the broker may be a while in coming.
        drop(deliveries);
        self.cancel().await
    }

    /// Waits for the next message, and lets the prefetch grow meanwhile; dropping it loses nothing.
    async fn next(
        &mut self,
        acknowledged: &mut watch::Receiver<u64>,
        all_started: &CancellationToken,
    ) -> Result<Message, SessionError> {
        loop {
            if self.resubscribing.is_none()
                && let Some(prefetch) = self.ramp.shrink()
            {
                self.resubscribe(prefetch);
            }
            let may_grow = self.ramp.can_grow() && self.resubscribing.is_none();
            select! {
                biased;
                stream = resubscribed(&mut self.resubscribing) => {
                    self.resubscribing = None;
                    self.streams.push_back(stream?);
                }
                () = earned(&self.ramp, &self.progress, acknowledged, all_started), if may_grow => {
                    self.grow();
                }
                message = next_of(&mut self.streams) => match message {
                    Some(message) => return Ok(message?),
                    None => self.end_stream()?,
                },
            }
        }
    }

    fn take(&mut self, message: Message) -> Delivery {
        self.in_flight.taken(message.redelivered);
        self.progress.delivered.fetch_add(1, Ordering::Relaxed);
        let (tag, size) = (message.delivery_tag, message.data.len());
        self.ramp.deliver(size);
        if message.redelivered {
            let now = SystemClock.now().mono;
            self.ramp.note_redelivery(deliveries_before(&message), now);
        }
        Delivery {
            consuming: Span::consume(&self.consumed.queue, &message.properties),
            inbound: Inbound {
                lane: self.consumed.lane.clone(),
                source: self.consumed.source,
                routing_key: message.routing_key.clone(),
                body: message.data.into(),
                properties: message.properties,
                unreadable: self.unreadable.take(self.channel.id(), tag),
                redelivered: message.redelivered,
            },
            receipt: Receipt {
                tag,
                ..self.receipt
            },
            in_hand: InHand::new(&self.budget, size),
        }
    }

    /// Goes on to the next stream, after the end of one that was cancelled here.
    fn end_stream(&mut self) -> Result<(), SessionError> {
        self.streams.pop_front();
        if self.streams.is_empty() && self.resubscribing.is_none() {
            return Err(SessionError::Cancelled {
                object: format!("queue {}", self.consumed.queue),
            });
        }
        Ok(())
    }

    fn grow(&mut self) {
        let acknowledged = *self.progress.acknowledged.borrow();
        if let Some(prefetch) = self.ramp.advance(acknowledged) {
            self.resubscribe(prefetch);
        }
    }

    /// Begins to subscribe with another prefetch.
    ///
    /// The answers of the broker come behind what it has sent already, so they can take as long as
    /// the budget holds that up. Until then messages go on coming from the subscription before.
    fn resubscribe(&mut self, prefetch: u16) {
        self.progress.prefetch.store(prefetch, Ordering::Relaxed);
        let (channel, queue) = (self.channel.clone(), self.consumed.queue.clone());
        let budget = Arc::clone(&self.budget);
        let tag = self.streams.back().map(Stream::tag);
        let resubscribing = async move {
            if let Some(tag) = tag {
                cancel(&channel, &budget, tag).await?;
            }
            subscribe(&channel, &budget, &queue, prefetch).await
        };
        self.resubscribing = Some(resubscribing.boxed());
    }

    /// Ends the subscription; what the broker has already sent is not handed out.
    async fn cancel(mut self) -> Result<(), SessionError> {
        if let Some(resubscribing) = self.resubscribing.take() {
            self.streams.push_back(resubscribing.await?);
        }
        match self.streams.back() {
            Some(stream) => cancel(&self.channel, &self.budget, stream.tag()).await,
            None => Ok(()),
        }
    }
}

/// Hands something out when there is room: one place, or for a large event all of them. Several large
/// events that wait would take memory and save no time, since each has many recipients.
async fn hand_out<T>(
    places: &mpsc::Sender<T>,
    delivery: T,
    is_large: bool,
) -> Result<(), SendError<()>> {
    let needed = if is_large { places.max_capacity() } else { 1 };
    let mut free = places.reserve_many(needed).await?;
    if let Some(place) = free.next() {
        place.send(delivery);
    }
    Ok(())
}

/// Returns the probe that a message is, which goes no further; producers cannot write to due queues.
fn probe_of(inbound: &Inbound) -> Option<Probe> {
    let headers = inbound.properties.headers().as_ref();
    let of_ours = headers.filter(|_| inbound.source == Source::Due);
    of_ours.and_then(Probe::read)
}

/// Waits until the messages in hand have earned the next step of the ramp.
async fn earned(
    ramp: &Ramp,
    progress: &Progress,
    acknowledged: &mut watch::Receiver<u64>,
    all_started: &CancellationToken,
) {
    while !ramp.is_harmless(*acknowledged.borrow_and_update(), SystemClock.now().mono) {
        let in_time = async {
            match ramp.harmless_at() {
                Some(at) => sleep_until(at).await,
                None => future::pending().await,
            }
        };
        select! {
            () = in_time => {}
            changed = acknowledged.changed() => if changed.is_err() { future::pending().await }
        }
    }
    if !ramp.has_suspect() {
        progress.harmless.cancel();
        all_started.cancelled().await;
    }
}

/// Returns how often the broker delivered a message before that it marks as redelivered.
fn deliveries_before(message: &Message) -> u64 {
    let headers = message.properties.headers().as_ref();
    headers.and_then(delivery_count).unwrap_or(1).max(1)
}

async fn cancel(channel: &Channel, budget: &Budget, tag: ShortString) -> Result<(), SessionError> {
    let cancelling = channel.basic_cancel(tag, BasicCancelOptions::default());
    Ok(answered_in_turn("basic.cancel", budget, cancelling).await?)
}

async fn subscribe(
    channel: &Channel,
    budget: &Budget,
    queue: &ShortString,
    prefetch: u16,
) -> Result<Stream, SessionError> {
    let limiting = channel.basic_qos(prefetch, BasicQosOptions { global: false });
    answered_in_turn("basic.qos", budget, limiting).await?;
    let consuming = channel.basic_consume(
        queue.clone(),
        ShortString::default(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    answered_in_turn("basic.consume", budget, consuming)
        .await
        .map_err(|error| SessionError::Consume {
            object: format!("queue {queue}"),
            error,
        })
}

/// Waits for a subscription that is being made, or for ever if none is.
async fn resubscribed(
    resubscribing: &mut Option<BoxFuture<'static, Result<Stream, SessionError>>>,
) -> Result<Stream, SessionError> {
    match resubscribing {
        Some(resubscribing) => resubscribing.await,
        None => future::pending().await,
    }
}

/// Returns what the oldest stream yields; waits for ever if there is none.
async fn next_of(streams: &mut VecDeque<Stream>) -> Option<lapin::Result<Message>> {
    match streams.front_mut() {
        Some(stream) => stream.next().await,
        None => future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_large_event_waits_until_no_other_waits() {
        let (places, mut taken) = mpsc::channel(3);
        hand_out(&places, "small", false).await.unwrap();
        let mut large = hand_out(&places, "large", true).boxed();
        assert!((&mut large).now_or_never().is_none());
        assert_eq!(taken.recv().await, Some("small"));
        large.await.unwrap();
        hand_out(&places, "small", false).await.unwrap();
        let another = hand_out(&places, "another", true);
        assert!(another.now_or_never().is_none());
        assert_eq!(taken.recv().await, Some("large"));
    }
}
