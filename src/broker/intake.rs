//! Starting the consumers of a generation.
//!
//! Normally all start at once, while the delay bands are still being declared. After an abnormal
//! end one of the queues may hold a message that breaks the connection whenever it is delivered,
//! and every delivery that is open at that moment loses an attempt. So the queues start one after
//! the other, each when the first message of the one before is acknowledged or none came.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future;
use lapin::Channel;
use tokio::select;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::broker::Receipt;
use crate::broker::acker::{InFlight, Progress};
use crate::broker::connect::Link;
use crate::broker::consumer::Consumer;
use crate::broker::declare::declare;
use crate::broker::generation::{Rooms, Shared, first_trouble};
use crate::broker::topology::Consumed;
use crate::broker::trouble::Trouble;

/// A queue that yields nothing for so long holds nothing that breaks connections.
const QUIET: Duration = Duration::from_millis(100);

/// How long the first message of a queue may take to be acknowledged.
const PROBATION: Duration = Duration::from_secs(2);

/// The consumers of a generation.
pub(super) struct Intake {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Arc<Link>,
    pub(super) desks: Vec<(Channel, Arc<Progress>, Consumed)>,
    pub(super) generation: u64,
    pub(super) cautious: bool,
    pub(super) in_flight: Arc<InFlight>,
}

impl Intake {
    /// Starts the consumers, declares the delay bands, and goes on until all consumers are stopped.
    pub(super) async fn run(self, declared: watch::Sender<bool>) -> Result<(), Trouble> {
        let bands = async {
            let objects = self.shared.topology.delay_objects();
            let mode = self.shared.settings.declare;
            declare(&self.link.connection, objects, mode).await?;
            declared.send_replace(true);
            Ok(())
        };
        let (mut consumers, ()) = future::try_join(self.start(), bands).await?;
        self.shared.proven.store(true, Ordering::Relaxed);
        self.shared.state.send_modify(|state| {
            state.consuming = !self.shared.stop.is_cancelled();
            state.problem = None;
        });
        let trouble = select! {
            trouble = first_trouble(&mut consumers) => trouble,
            () = self.shared.stop.cancelled() => {
                self.shared.state.send_modify(|state| state.consuming = false);
                first_trouble(&mut consumers).await
            }
        };
        Err(trouble)
    }

    async fn start(&self) -> Result<Rooms, Trouble> {
        let mut consumers = Rooms::new();
        for (index, (channel, progress, consumed)) in self.desks.iter().enumerate() {
            let Some(deliveries) = self.shared.deliveries.upgrade() else {
                break;
            };
            let receipt = Receipt {
                generation: self.generation,
                channel: index,
                tag: 0,
            };
            let consumer = Consumer::start(
                channel.clone(),
                consumed.clone(),
                receipt,
                Arc::clone(progress),
                Arc::clone(&self.in_flight),
            )
            .await?;
            consumers.spawn(consumer.run(deliveries, self.shared.stop.clone()));
            if self.cautious {
                select! {
                    () = probation(progress) => {}
                    trouble = first_trouble(&mut consumers) => return Err(trouble),
                }
            }
        }
        Ok(consumers)
    }
}

/// Waits until the queue's first message is acknowledged, or it has shown to have none, or for
/// long enough.
async fn probation(progress: &Progress) {
    let mut acknowledged = progress.acknowledged.subscribe();
    let first = acknowledged.wait_for(|&count| count > 0);
    let quiet = async {
        sleep(QUIET).await;
        if progress.taken.load(Ordering::Relaxed) {
            sleep(PROBATION).await;
        }
    };
    select! {
        _ = first => {}
        () = quiet => {}
    }
}
