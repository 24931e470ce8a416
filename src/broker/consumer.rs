//! Taking messages from one queue.
//!
//! What can go wrong here: the broker ends the stream without an error when the queue is deleted,
//! and after a lost connection the stream first yields stale deliveries; both end the generation.
//! RabbitMQ fixes a consumer's prefetch when it starts, so a prefetch that grows ([`ramp`]) means to
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
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::broker::acker::{InFlight, Progress};
use crate::broker::answer::answered;
use crate::broker::frames::Found;
use crate::broker::ramp::Ramp;
use crate::broker::topology::Consumed;
use crate::broker::trouble::Trouble;
use crate::broker::{Delivery, Inbound, Receipt};
use crate::clock::{Clock, SystemClock};
use crate::wire::headers::delivery_count;

/// Consumes one queue.
pub(super) struct Consumer {
    channel: Channel,
    consumed: Consumed,
    /// With the tag still open.
    receipt: Receipt,
    progress: Arc<Progress>,
    in_flight: Arc<InFlight>,
    unreadable: Arc<Found>,
    ramp: Ramp,
    /// What the subscriptions bring, the oldest first; only the last is not cancelled.
    streams: VecDeque<Stream>,
    /// The next subscription, while it is made.
    resubscribing: Option<BoxFuture<'static, Result<Stream, Trouble>>>,
}

impl Consumer {
    /// Subscribes to the queue with a prefetch of one.
    pub(super) async fn start(
        channel: Channel,
        consumed: Consumed,
        receipt: Receipt,
        progress: Arc<Progress>,
        in_flight: Arc<InFlight>,
        delivery_limit: u32,
        unreadable: Arc<Found>,
    ) -> Result<Self, Trouble> {
        let ramp = Ramp::new(consumed.prefetch, delivery_limit);
        let stream = subscribe(&channel, &consumed.queue, ramp.prefetch()).await?;
        Ok(Self {
            channel,
            consumed,
            receipt,
            progress,
            in_flight,
            unreadable,
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
    ) -> Result<(), Trouble> {
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
            select! {
                biased;
                () = &mut stopped => break,
                sent = deliveries.send(delivery) => if sent.is_err() { break },
            }
        }
        self.cancel().await
    }

    /// Waits for the next message, and lets the prefetch grow meanwhile; dropping it loses nothing.
    async fn next(
        &mut self,
        acknowledged: &mut watch::Receiver<u64>,
        all_started: &CancellationToken,
    ) -> Result<Message, Trouble> {
        loop {
            let may_grow = !self.ramp.is_done() && self.resubscribing.is_none();
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
        if !self.ramp.is_done() {
            let before = deliveries_before(&message);
            self.ramp.deliver(before, SystemClock.now().mono);
        }
        let tag = message.delivery_tag;
        Delivery {
            inbound: Inbound {
                lane: self.consumed.lane.clone(),
                source: self.consumed.source,
                body: message.data.into(),
                properties: message.properties,
                unreadable: self.unreadable.take(self.channel.id(), tag),
                redelivered: message.redelivered,
            },
            receipt: Receipt {
                tag,
                ..self.receipt
            },
        }
    }

    /// Goes on to the next stream, after the end of one that was cancelled here.
    fn end_stream(&mut self) -> Result<(), Trouble> {
        self.streams.pop_front();
        if self.streams.is_empty() && self.resubscribing.is_none() {
            return Err(Trouble::Cancelled {
                object: format!("queue {}", self.consumed.queue),
            });
        }
        Ok(())
    }

    fn grow(&mut self) {
        let acknowledged = *self.progress.acknowledged.borrow();
        let Some(prefetch) = self.ramp.advance(acknowledged) else {
            return;
        };
        self.progress.prefetch.store(prefetch, Ordering::Relaxed);
        let (channel, queue) = (self.channel.clone(), self.consumed.queue.clone());
        let tag = self.streams.back().map(Stream::tag);
        let resubscribing = async move {
            if let Some(tag) = tag {
                cancel(&channel, tag).await?;
            }
            subscribe(&channel, &queue, prefetch).await
        };
        self.resubscribing = Some(resubscribing.boxed());
    }

    /// Ends the subscription; what the broker has already sent is not handed out.
    async fn cancel(mut self) -> Result<(), Trouble> {
        if let Some(resubscribing) = self.resubscribing.take() {
            self.streams.push_back(resubscribing.await?);
        }
        match self.streams.back() {
            Some(stream) => cancel(&self.channel, stream.tag()).await,
            None => Ok(()),
        }
    }
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

/// Returns how often the broker delivered a message before.
fn deliveries_before(message: &Message) -> u64 {
    if !message.redelivered {
        return 0;
    }
    let headers = message.properties.headers().as_ref();
    headers.and_then(delivery_count).unwrap_or(1).max(1)
}

async fn cancel(channel: &Channel, tag: ShortString) -> Result<(), Trouble> {
    let options = BasicCancelOptions::default();
    Ok(answered("basic.cancel", channel.basic_cancel(tag, options)).await?)
}

async fn subscribe(
    channel: &Channel,
    queue: &ShortString,
    prefetch: u16,
) -> Result<Stream, Trouble> {
    let options = BasicQosOptions { global: false };
    answered("basic.qos", channel.basic_qos(prefetch, options)).await?;
    let consuming = channel.basic_consume(
        queue.clone(),
        ShortString::default(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    answered("basic.consume", consuming)
        .await
        .map_err(|error| Trouble::Consume {
            object: format!("queue {queue}"),
            error,
        })
}

/// Waits for a subscription that is being made, or for ever if none is.
async fn resubscribed(
    resubscribing: &mut Option<BoxFuture<'static, Result<Stream, Trouble>>>,
) -> Result<Stream, Trouble> {
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
