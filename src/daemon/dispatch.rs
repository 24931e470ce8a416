//! One task for every delivery, from the consumer to the publisher.

use std::sync::Arc;
use std::time::Duration;

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
    /// Starts a task for each delivery until none comes, then waits for the last to finish; all the
    /// while the heart beats.
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
                    Some(delivery) => self.process(delivery, settled.clone()),
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

    fn process(&self, delivery: Delivery, settled: mpsc::Sender<SettledDelivery>) {
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
        let (pipeline, give_up) = (Arc::clone(&self.pipeline.borrow()), self.give_up.clone());
        self.under_way.spawn(async move {
            let settled = async {
                let processing = pipeline.process_once(&inbound, taken);
                let publications = consuming.around(processing).await;
                // The publisher outlives every sender; if it is gone, so is the broker.
                let _ = settled
                    .send(SettledDelivery {
                        publications,
                        then: Then::Acknowledge {
                            receipt,
                            in_hand,
                            settling: consuming.settle(),
                        },
                    })
                    .await;
            };
            tokio::select! {
                () = settled => {}
                () = give_up.cancelled() => {}
            }
        });
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
