//! From the consumers to the publisher: a task for the deliveries that come together.
//!
//! Why together: what one task sends reaches a connection to a push service before that connection's
//! own task gets its turn. So it wakes once for many requests, and writes their heads at once.

use std::future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::{Delivery, Publication, Redeliveries, SettledDelivery, Then};
use crate::clock::{Clock, SystemClock};
use crate::health::Health;
use crate::pipeline;
use crate::pipeline::Pipeline;
use crate::push_service::Transport;

/// So many deliveries may wait for dispatch: less room costs wake-ups of the consumers.
pub(super) const ROOM: usize = 64;

/// One task takes at most so many deliveries.
const BATCH: usize = 16;

/// A task takes no more deliveries once it has so many bytes of them: a large event has many recipients,
/// whose encryption takes long enough by itself.
const BATCH_BYTES: usize = 16 * 1024;

/// How often the watchdog's heartbeat is renewed.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How often progress is published, while there is something new.
const REPORT_INTERVAL: Duration = Duration::from_secs(3);

/// How long after a lost connection what was not confirmed is published again.
const REPORT_AGAIN: Duration = Duration::from_secs(1);

/// The deliveries under way. Their number is bounded by the prefetch of the queues.
pub(super) struct Dispatch {
    taking: JoinHandle<()>,
    under_way: TaskTracker,
    give_up: CancellationToken,
}

impl Dispatch {
    /// Starts to process what is taken; the results go to `settled`.
    pub(super) fn start<T: Transport>(
        pipeline: watch::Receiver<Arc<Pipeline<T>>>,
        redeliveries: Arc<Redeliveries>,
        taken: mpsc::Receiver<Delivery>,
        settled: mpsc::Sender<SettledDelivery>,
        health: Arc<Health>,
    ) -> Self {
        let under_way = TaskTracker::new();
        let give_up = CancellationToken::new();
        let dispatch_loop = DispatchLoop {
            pipeline,
            redeliveries,
            health,
            under_way: under_way.clone(),
            give_up: give_up.clone(),
        };
        Self {
            taking: tokio::spawn(dispatch_loop.run(taken, settled)),
            under_way,
            give_up,
        }
    }

    /// Waits until no delivery comes any more and every one that was taken is settled.
    pub(super) async fn finished(&mut self) {
        let _ = (&mut self.taking).await;
    }

    /// Drops what is under way and returns how much that was; the broker delivers it again.
    pub(super) async fn give_up(&mut self) -> usize {
        let unfinished = self.under_way.len();
        self.give_up.cancel();
        self.finished().await;
        unfinished
    }
}

struct DispatchLoop<T> {
    /// The latest one takes the next delivery.
    pipeline: watch::Receiver<Arc<Pipeline<T>>>,
    redeliveries: Arc<Redeliveries>,
    health: Arc<Health>,
    under_way: TaskTracker,
    give_up: CancellationToken,
}

impl<T: Transport> DispatchLoop<T> {
    /// Starts tasks for deliveries until none comes, then waits for the last to finish; all the while
    /// the heart beats.
    async fn run(
        self,
        mut taken: mpsc::Receiver<Delivery>,
        settled: mpsc::Sender<SettledDelivery>,
    ) {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reports = interval(REPORT_INTERVAL);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reporting = None;
        loop {
            tokio::select! {
                delivery = taken.recv() => match delivery {
                    Some(delivery) => self.process_batch(delivery, &mut taken, &settled),
                    None => break,
                },
                _ = heartbeat.tick() => self.beat(),
                _ = reports.tick() => self.report(&mut reporting, &settled),
                () = self.give_up.cancelled() => break,
            }
        }
        self.under_way.close();
        loop {
            tokio::select! {
                () = self.under_way.wait() => break,
                _ = heartbeat.tick() => self.beat(),
            }
        }
        let (told, _) = oneshot::channel();
        // Where there is no room, the broker does not take anything.
        let _full = settled.try_send(SettledDelivery {
            publications: self.pipeline.borrow().progress().into(),
            then: Then::Tell(told),
        });
    }

    /// Publishes what is new of campaigns, unless the last report is still under way.
    fn report(
        &self,
        reporting: &mut Option<JoinHandle<()>>,
        settled: &mpsc::Sender<SettledDelivery>,
    ) {
        if reporting.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let progress = self.pipeline.borrow().progress();
        if !progress.is_empty() {
            let publishing = publish(progress.into(), settled.downgrade());
            *reporting = Some(tokio::spawn(publishing));
        }
    }

    fn beat(&self) {
        self.health.beat(SystemClock.now().mono);
        self.health.set_in_flight(self.under_way.len());
    }

    /// Starts a task for a delivery and those that wait behind it.
    fn process_batch(
        &self,
        first: Delivery,
        taken: &mut mpsc::Receiver<Delivery>,
        settled: &mpsc::Sender<SettledDelivery>,
    ) {
        let batch = FuturesUnordered::new();
        let (mut next, mut bytes) = (Some(first), 0);
        while let Some(delivery) = next {
            bytes += delivery.inbound.body.len();
            // A panic leaves its own delivery unacknowledged, and no other.
            let processing = AssertUnwindSafe(self.process(delivery, settled.clone()));
            batch.push(processing.catch_unwind());
            let has_room = batch.len() < BATCH && bytes < BATCH_BYTES;
            next = has_room.then(|| taken.try_recv().ok()).flatten();
        }
        let finished = batch.for_each(|_| future::ready(()));
        let give_up = self.give_up.clone();
        tokio::spawn(give_up.run_until_cancelled_owned(finished));
    }

    /// Takes note of a delivery, and returns what processes it.
    fn process(
        &self,
        delivery: Delivery,
        settled: mpsc::Sender<SettledDelivery>,
    ) -> impl Future<Output = ()> + Send + use<T> {
        let Delivery {
            inbound,
            receipt,
            in_hand,
            consuming,
        } = delivery;
        let identity = pipeline::identity(&inbound);
        // Here and not in the task, because tasks do not start in the order of their deliveries.
        let taken = self
            .redeliveries
            .take(receipt, identity, SystemClock.now().mono);
        let pipeline = Arc::clone(&self.pipeline.borrow());
        let under_way = self.under_way.token();
        async move {
            let processing = pipeline.process_once(&inbound, taken);
            let publications = consuming.around(processing).await;
            let then = Then::Acknowledge {
                receipt,
                in_hand,
                settling: consuming.settle(),
            };
            // The publisher outlives every sender; if it is gone, so is the broker.
            let _ = settled.send(SettledDelivery { publications, then }).await;
            drop(under_way);
        }
    }
}

/// Publishes what no delivery causes until it is confirmed, or the daemon stops.
async fn publish(publications: Arc<[Publication]>, settled: mpsc::WeakSender<SettledDelivery>) {
    while let Some(sender) = settled.upgrade() {
        let (told, confirmed) = oneshot::channel();
        let publications = Arc::clone(&publications);
        let then = Then::Tell(told);
        let sent = sender.send(SettledDelivery { publications, then }).await;
        drop(sender);
        if sent.is_err() || confirmed.await.is_ok() {
            return;
        }
        sleep(REPORT_AGAIN).await;
    }
}
