//! A generation: its connections, the tasks that use them, and their end.
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
use std::time::Duration;

use futures_util::{Stream, StreamExt, future};
use lapin::{Channel, Event};
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::broker::SettledDelivery;
use crate::broker::acker::{Acker, InFlight};
use crate::broker::budget::BYTES_IN_HAND;
use crate::broker::connect::{Address, Link};
use crate::broker::connect_error::ConnectError;
use crate::broker::consumers::Consumers;
use crate::broker::control_log::{CONTROL_BYTES, ControlLog};
use crate::broker::declare::declare;
use crate::broker::error::SessionError;
use crate::broker::prober::{Prober, Returns};
use crate::broker::product::Product;
use crate::broker::publisher::{Blocking, Publisher, PublisherChannels, open_publishing};
use crate::broker::shared::{Queue, Shared, Tasks, first_error};
use crate::clock::{Clock, SystemClock};
use crate::metrics::Role;

/// How long the last acknowledgements may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long RabbitMQ gets to pass the last acknowledgements on.
///
/// A channel hands a quorum queue some 32 at a time and keeps the others back until the queue has
/// taken those; what it holds when it closes is forgotten, and delivered again.
const SETTLING: Duration = Duration::from_millis(200);

/// The connections and channels of a generation.
pub(super) struct Generation {
    number: u64,
    publish: Link,
    publishing: Channel,
    queues: Arc<[Queue]>,
    /// What reads the control messages, until it is taken.
    control: Option<ControlLog>,
    control_link: Option<Arc<Link>>,
}

impl Generation {
    /// Connects, and makes sure of everything that must exist before anything is consumed.
    pub(super) async fn open(
        shared: &Shared,
        address: &Address,
        number: u64,
    ) -> Result<Self, SessionError> {
        let consumed = shared.topology.consumed_queues();
        let bytes = BYTES_IN_HAND / consumed.len().max(1) as u64;
        let connecting = consumed.iter().map(|_| address.connect_to_consume(bytes));
        let (publish, links, control) = future::try_join3(
            address.connect(Role::Publish),
            future::try_join_all(connecting),
            control_link(shared, address),
        )
        .await?;
        let objects = shared.topology.essential_objects();
        declare(&publish.connection, objects, shared.settings.declare).await?;
        let publishing = open_publishing(&publish.connection).await?;
        let control = match control {
            Some(link) => ControlLog::open(shared, link).await?,
            None => None,
        };
        let queues = consumed.iter().zip(links);
        let queues = queues.map(|(consumed, link)| Queue::open(consumed.clone(), link));
        Ok(Self {
            number,
            publish,
            publishing,
            queues: future::try_join_all(queues).await?.into(),
            control_link: control.as_ref().map(|it| Arc::clone(it.link())),
            control,
        })
    }

    /// Returns which broker it is connected to, if the broker says so.
    pub(super) fn product(&self) -> Option<&Product> {
        self.publish.found.product()
    }

    /// Takes what reads the control messages, for [`Generation::serve`].
    pub(super) fn take_control(&mut self) -> Option<ControlLog> {
        self.control.take()
    }

    /// Consumes, publishes and acknowledges until no delivery is left to settle; `control` reads the
    /// control messages.
    pub(super) async fn serve(
        &self,
        control: Option<ControlLog>,
        shared: &Arc<Shared>,
        deliveries: &mut mpsc::Receiver<SettledDelivery>,
    ) -> Result<(), SessionError> {
        let (settled, settling) = mpsc::unbounded_channel();
        let returns = settled.downgrade();
        let (bands_declared, bands) = watch::channel(false);
        let probing = Prober::run(shared, &self.publish.connection, bands.clone());
        let (blocking, blocks) = watch::channel(Blocking::default());
        let channels = PublisherChannels {
            settled,
            blocking: blocks,
            bands,
        };
        let channel = (&self.publish.connection, self.publishing.clone());
        let mut publisher = Publisher::new(deliveries, channel, self.number, shared, channels);
        let in_flight = InFlight::new(Arc::clone(&shared.metrics));
        let mut acker = Tasks::new();
        acker.spawn(self.acker(shared, &in_flight).run(settling));
        let mut tasks = Tasks::new();
        for link in self.links() {
            let events = link.connection.events_listener();
            tasks.spawn(watch_events(events, Arc::clone(shared), blocking.clone()));
        }
        let control_read = CancellationToken::new();
        match control {
            Some(control) => {
                let _task = tasks.spawn(control.run(Arc::clone(shared), control_read.clone()));
            }
            None => control_read.cancel(),
        }
        let returns = Returns {
            shared: Arc::clone(shared),
            settled: returns,
        };
        let consumers = self.consumers(shared, in_flight, returns, control_read);
        tasks.spawn(consumers.run(bands_declared));
        let ended = select! {
            biased;
            ended = publisher.run() => ended,
            error = first_error(&mut tasks) => Err(error),
            error = first_error(&mut acker) => Err(error),
            never = probing => match never {},
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

    fn consumers(
        &self,
        shared: &Arc<Shared>,
        in_flight: Arc<InFlight>,
        returns: Returns,
        control_read: CancellationToken,
    ) -> Consumers {
        Consumers {
            shared: Arc::clone(shared),
            queues: Arc::clone(&self.queues),
            generation: self.number,
            in_flight,
            returns,
            control_read,
        }
    }

    async fn close(&self, mut acker: Tasks) {
        if timeout(CLOSE_TIMEOUT, acker.join_next()).await.is_err() {
            tracing::warn!("the last acknowledgements did not go out in time; expect redeliveries");
        }
        sleep(SETTLING).await;
        future::join_all(self.links().map(Link::close)).await;
    }

    /// Lists its connections.
    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        let links = self.queues.iter().map(|queue| &queue.link);
        let links = links.chain([&self.publish]);
        links.chain(self.control_link.as_deref())
    }
}

/// Connects to read control messages, if any are to be read.
async fn control_link(
    shared: &Shared,
    address: &Address,
) -> Result<Option<Link>, Box<ConnectError>> {
    if shared.settings.control.is_none() {
        return Ok(None);
    }
    address.connect_to_consume(CONTROL_BYTES).await.map(Some)
}

/// Records whether the broker blocks a connection, until the connection fails.
async fn watch_events(
    events: impl Stream<Item = Event>,
    shared: Arc<Shared>,
    blocking: watch::Sender<Blocking>,
) -> Result<(), SessionError> {
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
            // The user of a channel sees its error, and may expect it.
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
