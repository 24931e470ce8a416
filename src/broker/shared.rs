//! What the tasks of a generation share, and what all generations share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use futures_util::future;
use lapin::Channel;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::broker::acker::Progress;
use crate::broker::connect::{Link, open_channel};
use crate::broker::error::SessionError;
use crate::broker::probes::Probes;
use crate::broker::topology::{Consumed, Topology};
use crate::broker::{Delivery, Redeliveries, Settings};
use crate::control::Withdrawn;
use crate::health::BrokerState;
use crate::metrics::Metrics;

/// What all generations share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) topology: Arc<Topology>,
    /// Gone when consuming is to stop.
    pub(super) deliveries: mpsc::WeakSender<Delivery>,
    pub(super) state: watch::Sender<BrokerState>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) redeliveries: Arc<Redeliveries>,
    pub(super) probes: Mutex<Probes>,
    /// What the control messages say.
    pub(super) withdrawn: Arc<Withdrawn>,
    /// How far the stream of control messages has been read.
    pub(super) control: ControlPosition,
    pub(super) stop: CancellationToken,
    /// Asks for a look at the file that has the URLs.
    pub(super) read_urls: Arc<Notify>,
    /// Whether any generation came up completely.
    pub(super) proven: AtomicBool,
    /// Whether the broker ever took a publication.
    pub(super) published: AtomicBool,
}

/// Up to where control messages have been read, over all generations.
#[derive(Debug, Default)]
pub(super) struct ControlPosition {
    /// The offset after the last that was read; 0 is the beginning.
    pub(super) next: AtomicU64,
    /// How many attempts to read it to the end began since the last that did.
    attempts: AtomicU32,
    /// Whether it was told that there are too many.
    pub(super) told_full: AtomicBool,
}

impl ControlPosition {
    /// After so many attempts in a row events are pushed without control messages, once: a stream that is
    /// broken for good must not stop them.
    const ATTEMPTS: u32 = 5;

    /// Notes that an attempt to read the stream begins; returns whether it may.
    pub(super) fn begin(&self) -> bool {
        let may = self.attempts.fetch_add(1, Ordering::Relaxed) < Self::ATTEMPTS;
        if !may {
            self.attempts.store(0, Ordering::Relaxed);
        }
        may
    }

    /// The most offsets in a row that RabbitMQ gives to entries of its own, which no consumer gets; it
    /// writes one where a segment begins.
    const OWN_ENTRIES: u64 = 8;

    /// Notes that a message was read; returns whether some before it are missing, since a stream drops
    /// whole segments when it is full, read or not.
    pub(super) fn advance(&self, offset: u64) -> bool {
        let expected = self.next.swap(offset + 1, Ordering::Relaxed);
        offset > expected.saturating_add(Self::OWN_ENTRIES)
    }

    /// Notes that what was in the stream is read, or that nothing of it is to be read.
    pub(super) fn succeed(&self) {
        self.attempts.store(0, Ordering::Relaxed);
    }
}

/// A queue that is consumed, and what it is consumed on.
pub(super) struct Queue {
    pub(super) consumed: Consumed,
    pub(super) link: Link,
    pub(super) channel: Channel,
    pub(super) progress: Arc<Progress>,
}

/// Tasks of a generation; dropped, they end.
pub(super) type Tasks = JoinSet<Result<(), SessionError>>;

impl Queue {
    pub(super) async fn open(consumed: Consumed, link: Link) -> Result<Self, SessionError> {
        let channel = open_channel(&link.connection).await?;
        Ok(Self {
            consumed,
            link,
            channel,
            progress: Progress::new(),
        })
    }
}

/// Waits for a task to end with an error. A panic of a task is resumed here.
pub(super) async fn first_error(tasks: &mut Tasks) -> SessionError {
    loop {
        match tasks.join_next().await {
            Some(Ok(Err(error))) => return error,
            Some(Ok(Ok(()))) => {}
            Some(Err(ended)) => {
                if let Ok(panic) = ended.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
            None => return future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stream_dropped_before_it_was_read_is_noticed() {
        let position = ControlPosition::default();
        let offsets = [0, 1, 3, 4, 60, 61, 5, 6];
        let missed = offsets.map(|offset| (offset, position.advance(offset)));
        let missed: Vec<_> = missed.iter().filter(|(_, is)| *is).collect();
        assert_eq!(missed, [&(60, true)]);
        assert!(ControlPosition::default().advance(60));
    }

    #[test]
    fn a_stream_whose_reading_always_ends_early_does_not_stop_events_for_ever() {
        let position = ControlPosition::default();
        let first: Vec<_> = (0..7).map(|_| position.begin()).collect();
        assert_eq!(first, [true, true, true, true, true, false, true]);
        position.succeed();
        assert_eq!((0..5).filter(|_| position.begin()).count(), 5);
        assert!(!position.begin());
    }
}
