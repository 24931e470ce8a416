//! Starting the consumers of a generation, while the delay bands are still being declared.
//!
//! One of the queues may hold a message that ends the connection or the process whenever it is
//! delivered, and every delivery that is open at that moment loses an attempt. So the queues start
//! one after the other, each with one message, and the next starts when that message did no harm
//! ([`ramp`]). A queue that holds nothing costs no time, nor does a message that was never delivered
//! before. When all have started, their prefetches grow side by side.
//!
//! [`ramp`]: super::ramp

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future;
use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use tokio::select;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::broker::Receipt;
use crate::broker::acker::{InFlight, Progress};
use crate::broker::answer::answered;
use crate::broker::consumer::Consumer;
use crate::broker::declare::declare;
use crate::broker::error::SessionError;
use crate::broker::prober::Returns;
use crate::broker::shared::{Queue, Shared, Tasks, first_error};

/// A queue whose messages are all acknowledged, and that yields nothing more for so long, holds
/// nothing that was returned to it.
const QUIET: Duration = Duration::from_millis(100);

/// How long events wait for the control messages from before.
const CONTROL_WAIT: Duration = Duration::from_secs(10);

/// The consumers of a generation.
pub(super) struct Consumers {
    pub(super) shared: Arc<Shared>,
    pub(super) queues: Arc<[Queue]>,
    pub(super) generation: u64,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) returns: Returns,
    /// Cancelled when the control messages from before are read.
    pub(super) control_read: CancellationToken,
}

impl Consumers {
    /// Starts the consumers, declares the delay bands, and goes on until all consumers are stopped.
    pub(super) async fn run(self, declared: watch::Sender<bool>) -> Result<(), SessionError> {
        let bands = async {
            let objects = self.shared.topology.delay_objects();
            let mode = self.shared.settings.declare;
            if let Some(queue) = self.queues.first() {
                declare(&queue.link.connection, objects, mode).await?;
            }
            declared.send_replace(true);
            Ok(())
        };
        let (mut consumers, ()) = future::try_join(self.start(), bands).await?;
        self.shared.proven.store(true, Ordering::Relaxed);
        self.shared.state.send_modify(|state| {
            state.lanes = match self.shared.stop.is_cancelled() {
                true => 0,
                false => self.shared.settings.lanes.len(),
            };
            state.problem = None;
        });
        if !self.shared.stop.is_cancelled() {
            let lanes = self.shared.settings.lanes.iter();
            let names: Vec<_> = lanes.map(|lane| lane.name.as_str()).collect();
            tracing::info!(lanes = names.join(", "), "ready, consuming");
        }
        let error = select! {
            error = first_error(&mut consumers) => error,
            () = self.shared.stop.cancelled() => {
                self.shared.state.send_modify(|state| state.lanes = 0);
                first_error(&mut consumers).await
            }
        };
        Err(error)
    }

    /// Waits until every control message from before is read, or has been too long in coming.
    async fn until_control_is_read(&self) {
        select! {
            biased;
            () = self.control_read.cancelled() => {}
            () = self.shared.stop.cancelled() => {}
            () = sleep(CONTROL_WAIT) => tracing::warn!(
                "the control messages are not read to their end within {CONTROL_WAIT:?}; consuming \
                 all the same, and what was cancelled may be pushed"
            ),
        }
    }

    async fn start(&self) -> Result<Tasks, SessionError> {
        self.until_control_is_read().await;
        let mut consumers = Tasks::new();
        let all_started = CancellationToken::new();
        for (index, queue) in self.queues.iter().enumerate() {
            let Some(deliveries) = self.shared.deliveries.upgrade() else {
                break;
            };
            let receipt = Receipt {
                generation: self.generation,
                channel: index,
                tag: 0,
            };
            let is_empty = is_empty(&queue.channel, &queue.consumed.queue).await?;
            let limit = self.shared.settings.delivery_limit;
            let in_flight = Arc::clone(&self.in_flight);
            let returns = self.returns.clone();
            let consumer = Consumer::start(queue, receipt, in_flight, returns, limit).await?;
            let stop = self.shared.stop.clone();
            consumers.spawn(consumer.run(deliveries, stop, all_started.clone()));
            if !is_empty {
                select! {
                    () = first_ack_or_timeout(&queue.progress) => {}
                    error = first_error(&mut consumers) => return Err(error),
                }
            }
        }
        all_started.cancel();
        Ok(consumers)
    }
}

/// Returns whether a queue has nothing to deliver.
async fn is_empty(channel: &Channel, queue: &ShortString) -> Result<bool, SessionError> {
    let options = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let looking = channel.queue_declare(queue.clone(), options, FieldTable::default());
    let looked =
        answered("queue.declare", looking)
            .await
            .map_err(|error| SessionError::Consume {
                object: format!("queue {queue}"),
                error,
            })?;
    Ok(looked.message_count() == 0)
}

/// Waits until the first message of a queue did no harm, or it has shown to have none.
async fn first_ack_or_timeout(progress: &Progress) {
    let quiet = async {
        loop {
            let before = progress.delivered.load(Ordering::Relaxed);
            sleep(QUIET).await;
            if progress.is_idle() && progress.delivered.load(Ordering::Relaxed) == before {
                break;
            }
        }
    };
    select! {
        () = progress.harmless.cancelled() => {}
        () = quiet => {}
    }
}
