//! A generation: its connections, the rooms that live on them, and their end.
//!
//! One connection publishes. Each queue is consumed on one of its own, because that is where the
//! bytes in hand are bounded ([`budget`]).
//!
//! What can go wrong here: everything, at any moment. Any error, a consumer that the broker
//! cancels, a failed acknowledgement or a confirm that never comes ends the whole generation, for
//! half of one would publish what it can no longer acknowledge, or take what it cannot settle. The
//! broker then delivers again what was open. lapin's own recovery mixes the deliveries of two
//! connections, so it is not used.
//!
//! [`budget`]: super::budget

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::{Stream, StreamExt, future};
use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Event};
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::broker::acker::{Acker, InFlight, Progress};
use crate::broker::answer::answered;
use crate::broker::budget::BYTES_IN_HAND;
use crate::broker::connect::{Address, Link, open_channel};
use crate::broker::declare::declare;
use crate::broker::intake::Intake;
use crate::broker::publisher::{Blocking, Doors, Publisher};
use crate::broker::topology::{Consumed, Topology};
use crate::broker::trouble::Trouble;
use crate::broker::{Delivery, Owed, Redeliveries, Settings, State};
use crate::clock::{Clock, SystemClock};
use crate::metrics::{Metrics, Role};

/// How long the last acknowledgements may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long RabbitMQ gets to pass the last acknowledgements on.
///
/// A channel hands a quorum queue some 32 at a time and keeps the others back until the queue has
/// taken those; what it holds when it closes is forgotten, and delivered again.
const SETTLING: Duration = Duration::from_millis(200);

/// What all generations share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) address: Address,
    pub(super) topology: Arc<Topology>,
    /// Gone when consuming is to stop.
    pub(super) deliveries: mpsc::WeakSender<Delivery>,
    pub(super) state: watch::Sender<State>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) redeliveries: Arc<Redeliveries>,
    pub(super) stop: CancellationToken,
    /// Whether any generation came up completely.
    pub(super) proven: AtomicBool,
    /// Whether the broker ever took a publication.
    pub(super) published: AtomicBool,
}

/// The connections and channels of a generation.
pub(super) struct Generation {
    number: u64,
    publish: Link,
    publishing: Channel,
    queues: Arc<[Queue]>,
}

/// A queue that is consumed, and what it is consumed on.
pub(super) struct Queue {
    pub(super) consumed: Consumed,
    pub(super) link: Link,
    pub(super) channel: Channel,
    pub(super) progress: Arc<Progress>,
}

/// Tasks of a generation; dropped, they end.
pub(super) type Rooms = JoinSet<Result<(), Trouble>>;

impl Generation {
    /// Connects, and makes sure of everything that must exist before anything is consumed.
    pub(super) async fn open(shared: &Shared, number: u64) -> Result<Self, Trouble> {
        let consumed = shared.topology.consumed_queues();
        let bytes = BYTES_IN_HAND / consumed.len().max(1) as u64;
        let connecting = consumed
            .iter()
            .map(|_| shared.address.connect_to_consume(bytes));
        let (publish, links) = future::try_join(
            shared.address.connect(Role::Publish),
            future::try_join_all(connecting),
        )
        .await?;
        let objects = shared.topology.essential_objects();
        declare(&publish.connection, objects, shared.settings.declare).await?;
        let publishing = open_channel(&publish.connection).await?;
        let options = ConfirmSelectOptions::default();
        answered("confirm.select", publishing.confirm_select(options)).await?;
        let queues = consumed.iter().zip(links);
        let queues = queues.map(|(consumed, link)| Queue::open(consumed.clone(), link));
        Ok(Self {
            number,
            publish,
            publishing,
            queues: future::try_join_all(queues).await?.into(),
        })
    }

    /// Consumes, publishes and acknowledges until nothing more is owed.
    pub(super) async fn serve(
        self,
        shared: &Arc<Shared>,
        owed: &mut mpsc::Receiver<Owed>,
    ) -> Result<(), Trouble> {
        let (settled, settling) = mpsc::unbounded_channel();
        let (bands_declared, bands) = watch::channel(false);
        let (blocking, blocks) = watch::channel(Blocking::default());
        let doors = Doors {
            settled,
            blocking: blocks,
            bands,
        };
        let channel = self.publishing.clone();
        let mut publisher = Publisher::new(owed, channel, self.number, shared, doors);
        let in_flight = InFlight::new(Arc::clone(&shared.metrics));
        let mut acker = Rooms::new();
        acker.spawn(self.acker(shared, &in_flight).run(settling));
        let mut rooms = Rooms::new();
        let links = self.queues.iter().map(|queue| &queue.link);
        for link in links.chain([&self.publish]) {
            let events = link.connection.events_listener();
            rooms.spawn(watch_events(events, Arc::clone(shared), blocking.clone()));
        }
        rooms.spawn(self.intake(shared, in_flight).run(bands_declared));
        let ended = select! {
            biased;
            ended = publisher.run() => ended,
            trouble = first_trouble(&mut rooms) => Err(trouble),
            trouble = first_trouble(&mut acker) => Err(trouble),
        };
        publisher.leave(shared);
        ended?;
        self.close(acker).await;
        Ok(())
    }

    fn acker(&self, shared: &Shared, in_flight: &Arc<InFlight>) -> Acker {
        let channels = self.queues.iter();
        let channels = channels.map(|queue| (queue.channel.clone(), Arc::clone(&queue.progress)));
        let redeliveries = Arc::clone(&shared.redeliveries);
        Acker::new(self.number, channels, Arc::clone(in_flight), redeliveries)
    }

    fn intake(&self, shared: &Arc<Shared>, in_flight: Arc<InFlight>) -> Intake {
        Intake {
            shared: Arc::clone(shared),
            queues: Arc::clone(&self.queues),
            generation: self.number,
            in_flight,
        }
    }

    async fn close(self, mut acker: Rooms) {
        if timeout(CLOSE_TIMEOUT, acker.join_next()).await.is_err() {
            tracing::warn!("the last acknowledgements did not go out in time; expect redeliveries");
        }
        sleep(SETTLING).await;
        let links = self.queues.iter().map(|queue| &queue.link);
        future::join_all(links.chain([&self.publish]).map(Link::close)).await;
    }
}

impl Queue {
    async fn open(consumed: Consumed, link: Link) -> Result<Self, Trouble> {
        let channel = open_channel(&link.connection).await?;
        Ok(Self {
            consumed,
            link,
            channel,
            progress: Progress::new(),
        })
    }
}

/// Waits for a task to end in trouble; a panic goes on.
pub(super) async fn first_trouble(rooms: &mut Rooms) -> Trouble {
    loop {
        match rooms.join_next().await {
            Some(Ok(Err(trouble))) => return trouble,
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

/// Watches what the broker says about a connection.
async fn watch_events(
    events: impl Stream<Item = Event>,
    shared: Arc<Shared>,
    blocking: watch::Sender<Blocking>,
) -> Result<(), Trouble> {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::ConnectionBlocked(reason) => {
                tracing::warn!(reason, "the broker blocks publishing");
                show_blocked(&shared, &blocking, true);
            }
            Event::ConnectionUnblocked => {
                tracing::info!("the broker takes publications again");
                show_blocked(&shared, &blocking, false);
            }
            // A channel's error is its user's to see, who may expect it.
            Event::Error(error) if error.is_amqp_soft_error() => {}
            Event::Error(error) => return Err(error.into()),
            Event::Connected | Event::SendFlow(_) | _ => {}
        }
    }
    Ok(())
}

fn show_blocked(shared: &Shared, blocking: &watch::Sender<Blocking>, now: bool) {
    let changed = Some(SystemClock.now().mono);
    blocking.send_replace(Blocking { now, changed });
    shared.metrics.broker_blocked(now);
    shared.state.send_modify(|state| state.blocked = now);
}
