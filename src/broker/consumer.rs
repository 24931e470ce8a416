//! Taking messages from one queue.
//!
//! What can go wrong here: the broker ends the stream without an error when the queue is deleted,
//! and after a lost connection the stream first yields stale deliveries; both end the generation.
//! After an abnormal end the consumer is cautious: it begins with one message and doubles with each
//! window that was acknowledged, so that a message which breaks connections meets the delivery
//! limit alone instead of taking a whole prefetch of innocents along. RabbitMQ fixes a consumer's
//! prefetch when it starts, so doubling means to subscribe again, on the same channel.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use lapin::message::Delivery as Message;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer as Stream};
use tokio::pin;
use tokio::select;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::broker::acker::{InFlight, Progress};
use crate::broker::topology::Consumed;
use crate::broker::trouble::Trouble;
use crate::broker::{Delivery, Inbound, Receipt};

/// Consumes one queue.
pub(super) struct Consumer {
    channel: Channel,
    consumed: Consumed,
    /// With the tag still open.
    receipt: Receipt,
    progress: Arc<Progress>,
    in_flight: Arc<InFlight>,
    /// What is left of the stream before the last doubling.
    rest: Option<Stream>,
    stream: Stream,
    /// So many acknowledgements earn the next doubling.
    goal: u64,
}

impl Consumer {
    /// Subscribes to the queue.
    pub(super) async fn start(
        channel: Channel,
        consumed: Consumed,
        receipt: Receipt,
        progress: Arc<Progress>,
        in_flight: Arc<InFlight>,
    ) -> Result<Self, Trouble> {
        let prefetch = progress.prefetch.load(Ordering::Relaxed);
        let stream = subscribe(&channel, &consumed.queue, prefetch).await?;
        Ok(Self {
            channel,
            consumed,
            receipt,
            progress,
            in_flight,
            rest: None,
            stream,
            goal: prefetch.into(),
        })
    }

    /// Hands out deliveries until told to stop.
    pub(super) async fn run(
        mut self,
        deliveries: mpsc::Sender<Delivery>,
        stop: CancellationToken,
    ) -> Result<(), Trouble> {
        let mut acknowledged = self.progress.acknowledged.subscribe();
        let stopped = stop.cancelled();
        pin!(stopped);
        loop {
            let next = select! {
                biased;
                () = &mut stopped => break,
                Ok(_) = acknowledged.wait_for(|&count| count >= self.goal),
                    if self.rest.is_none() && self.is_cautious() => None,
                next = next(&mut self.rest, &mut self.stream) => Some(next),
            };
            let Some(next) = next else {
                self.double().await?;
                continue;
            };
            let message = next.ok_or_else(|| self.cancelled())??;
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

    fn take(&self, message: Message) -> Delivery {
        self.in_flight.taken(message.redelivered);
        if self.is_cautious() {
            self.progress.taken.store(true, Ordering::Relaxed);
        }
        Delivery {
            inbound: Inbound {
                lane: self.consumed.lane.clone(),
                source: self.consumed.source,
                body: message.data.into(),
                properties: message.properties,
                redelivered: message.redelivered,
            },
            receipt: Receipt {
                tag: message.delivery_tag,
                ..self.receipt
            },
        }
    }

    fn cancelled(&self) -> Trouble {
        Trouble::Cancelled {
            object: format!("queue {}", self.consumed.queue),
        }
    }

    fn is_cautious(&self) -> bool {
        self.progress.prefetch.load(Ordering::Relaxed) < self.consumed.prefetch
    }

    async fn double(&mut self) -> Result<(), Trouble> {
        let prefetch = self.progress.prefetch.load(Ordering::Relaxed);
        let prefetch = prefetch.saturating_mul(2).min(self.consumed.prefetch);
        self.cancel().await?;
        let stream = subscribe(&self.channel, &self.consumed.queue, prefetch).await?;
        self.rest = Some(std::mem::replace(&mut self.stream, stream));
        self.progress.prefetch.store(prefetch, Ordering::Relaxed);
        self.goal = *self.progress.acknowledged.borrow() + u64::from(prefetch);
        Ok(())
    }

    async fn cancel(&self) -> Result<(), Trouble> {
        let options = BasicCancelOptions::default();
        self.channel
            .basic_cancel(self.stream.tag(), options)
            .await?;
        Ok(())
    }
}

async fn subscribe(
    channel: &Channel,
    queue: &ShortString,
    prefetch: u16,
) -> Result<Stream, Trouble> {
    channel
        .basic_qos(prefetch, BasicQosOptions { global: false })
        .await?;
    channel
        .basic_consume(
            queue.clone(),
            ShortString::default(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(|error| Trouble::Consume {
            object: format!("queue {queue}"),
            error,
        })
}

/// Yields what is left of the old stream, then what the new one brings.
async fn next(rest: &mut Option<Stream>, stream: &mut Stream) -> Option<lapin::Result<Message>> {
    if let Some(old) = rest {
        if let Some(delivery) = old.next().await {
            return Some(delivery);
        }
        *rest = None;
    }
    stream.next().await
}
