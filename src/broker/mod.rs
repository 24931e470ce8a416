//! The tasks that consume from RabbitMQ, publish to it and acknowledge.
//!
//! A [`Delivery`] goes to the pipeline and comes back as a [`SettledDelivery`]: the publications that must
//! be confirmed before the delivery may be acknowledged. Nothing outside these tasks publishes or
//! acknowledges.
//!
//! [`run`] runs one [`generation`] of connections after the other ([`session`], [`connect`]), each to one of
//! the [`addresses`], whose passwords may change ([`rotation`]). A filter makes the [`frames`] of producers readable for lapin. In each generation, [`consumers`] starts a
//! [`consumer`] per queue, whose prefetch follows its [`ramp`] and whose unacknowledged bytes are bounded by
//! a [`budget`]. The [`publisher`] publishes and counts [`confirms`]; the publications without one are
//! [`outstanding`], those that the broker refused are [`refused`]. The [`acker`] acknowledges what a
//! [`window`] of delivery tags allows. The [`prober`] sends [`probes`] through the delay bands, and
//! [`control_log`] reads what is cancelled and forgotten. [`topology`] lists the [`object`]s that must exist,
//! [`declare`] declares them, [`route`] addresses publications, and [`error`] separates what passes
//! from what an operator must mend ([`needs_operator`]), by the codes of the broker's [`reply`]. Why there
//! is no connection at all is said by [`amqp_url`], [`mod@tls`] and [`connect_error`], which broker it is by [`product`].
//!
//! For operators, [`definitions`] shows the topology ([`kubernetes`] as resources), [`permissions`] what the daemon's user needs, and
//! [`policy`] what keeps policies of others off the queues; [`mod@audit`] finds the policies that harm. Their
//! commands publish and follow results by a [`command_client`], and read the quarantine by a [`quarantine_client`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{FieldTable, ShortString};
use strum::{IntoStaticStr, VariantArray};
use tokio::sync::oneshot;

use crate::control::Bounds;
use crate::message::{EventId, Name};
use crate::redelivery;
use crate::secret::Secret;
use crate::spans::Span;
use crate::wire::Kind;

mod acker;
mod addresses;
mod amqp_url;
mod answer;
mod audit;
mod budget;
mod command_client;
mod confirms;
mod connect;
mod connect_error;
mod consumer;
mod consumers;
mod control_log;
mod declare;
mod definitions;
mod error;
mod fields;
mod frames;
mod generation;
mod kubernetes;
mod needs_operator;
mod object;
mod outstanding;
mod permissions;
mod policy;
mod prober;
mod probes;
mod product;
mod publisher;
mod quarantine_client;
mod ramp;
mod refused;
mod reply;
mod rotation;
mod route;
mod runtime;
mod session;
mod shared;
mod tls;
mod topology;
mod window;

pub use amqp_url::{check_urls, lines};
pub use audit::{AuditError, Audited, Export, Finding, Mend, Origin, Setting, audit};
pub use budget::InHand;
pub use command_client::{CommandClient, Followed, PublishError};
pub use connect::login;
pub use declare::{Declared, Inspected, check, declare_topology};
pub use definitions::{Binding, Definitions, Exchange, Queue};
pub use fields::{DEPTH_LIMIT, Unreadable};
pub use needs_operator::NeedsOperator;
pub use permissions::Permissions;
pub use policy::Policy;
pub use product::Product;
pub use quarantine_client::{QuarantineClient, Quarantined};
pub use session::{Triggers, run};
pub use tls::check_client_key;

pub use crate::redelivery::Receipt;
use crate::words::words;

words!(Source);

/// The publications that settle a delivery.
pub type Settled = redelivery::Settled<Publication>;

/// The deliveries that are not acknowledged.
pub type Redeliveries = redelivery::Redeliveries<Publication>;

/// One message taken from a queue, as the pipeline sees it.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// The lane it travels in: what must wait returns to this lane's due queue.
    pub lane: Name,
    /// Which kind of queue it came from.
    pub source: Source,
    /// The routing key that the broker delivered it with.
    pub routing_key: ShortString,
    /// The body.
    pub body: Bytes,
    /// The AMQP properties, the producer's headers among them.
    pub properties: BasicProperties,
    /// What could not be read of its properties, headers or routing key, and was overwritten.
    pub unreadable: Option<Unreadable>,
    /// Whether the broker has delivered it before.
    pub redelivered: bool,
}

/// The kinds of queues that are consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Source {
    /// `webpush.lane.<lane>`: what producers published. Its `x-pushrider-*` headers mean nothing.
    Lane,
    /// `webpush.due.<lane>`: what comes back from waiting, and chunks. Its headers are ours.
    Due,
    /// `webpush.undeliverable`: what the broker gave up on.
    Undeliverable,
}

/// A message taken from a queue, and the right to acknowledge it.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub inbound: Inbound,
    /// What the acker needs; opaque to everyone else.
    pub receipt: Receipt,
    /// Counts its bytes as in hand; belongs into [`SettledDelivery`].
    pub in_hand: InHand,
    /// Lasts until it is processed.
    pub consuming: Span,
}

/// A delivery that was processed: the publications to confirm, then the delivery to acknowledge.
#[derive(Debug)]
pub struct SettledDelivery {
    /// What must be confirmed first, in this order. Shared, because it is kept for a redelivery.
    pub publications: Arc<[Publication]>,
    /// What follows when everything is confirmed.
    pub then: Then,
}

/// What follows when publications are confirmed.
#[derive(Debug)]
pub enum Then {
    /// The delivery that caused them is acknowledged.
    Acknowledge {
        /// The delivery.
        receipt: Receipt,
        /// Counts its bytes as in hand until then.
        in_hand: InHand,
        /// Lasts until then.
        settling: Span,
    },
    /// No delivery caused them. Their author is told, or sees this dropped.
    Tell(oneshot::Sender<()>),
}

/// One message for the broker: persistent, and confirmed before anything is acknowledged for it.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Where to.
    pub to: Route,
    /// What it is: gives the AMQP `type`.
    pub kind: Kind,
    /// AMQP `message_id`: names this publication, equal for repeats.
    pub message_id: String,
    /// AMQP `correlation_id`: the event's name.
    pub correlation_id: Option<EventId>,
    /// AMQP `timestamp`, in seconds since 1970.
    pub timestamp: u64,
    /// AMQP `priority`: on a copy, the producer's.
    pub priority: Option<u8>,
    /// The white-listed headers.
    pub headers: FieldTable,
    /// The body, JSON but for quarantined originals.
    pub body: Bytes,
}

impl Publication {
    /// Returns about how many bytes it holds in memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.message_id.len() + self.body.len()
    }
}

/// Where a publication goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The results exchange, with this routing key.
    Results(String),
    /// A lane's due queue, at once.
    Due(Name),
    /// A lane's due queue, after waiting in a delay band.
    Delay {
        /// The lane it returns to.
        lane: Name,
        /// How long it should wait.
        after: Duration,
        /// How exact the wait must be.
        rounding: Rounding,
    },
    /// The quarantine queue.
    Quarantine,
}

/// How exact a wait in the delay bands must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Never early, late by at most the width of the band: retries. Where a band might hold the message
    /// until after its deadline, the wait is as with [`Rounding::Down`].
    Up {
        /// What is left until the deadline.
        within: Duration,
    },
    /// Never late but by the last hop: comes back early and is sent on. Scheduled messages.
    Down,
}

/// What an operator decides about the broker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The AMQP URL of each host of the broker, at least one, in the order in which they are tried. They
    /// carry the password.
    pub urls: Vec<Secret<String>>,
    /// The file that has the URLs, if one has: it is read again before each connect after the first.
    pub url_file: Option<PathBuf>,
    /// Certificates (PEM) trusted besides the system's, for `amqps`.
    pub ca: Option<String>,
    /// The client's own certificate, for `amqps`.
    pub client: Option<ClientCertificate>,
    /// The first word of every name on the broker.
    pub prefix: Name,
    /// Who makes queues and exchanges.
    pub declare: Declare,
    /// The lanes that are consumed; `default` is among them.
    pub lanes: Vec<Lane>,
    /// The delay bands, ascending.
    pub bands: Vec<Duration>,
    /// How often a probe goes through each delay band that is shorter; `None` for no probes.
    pub probe_interval: Option<Duration>,
    /// How often the broker delivers a message before it gives up on it.
    pub delivery_limit: u32,
    /// How long quarantined originals are kept.
    pub quarantine_age: Duration,
    /// How many results without a bound queue are kept.
    pub unrouted_messages: u32,
    /// How long results without a bound queue are kept.
    pub unrouted_age: Duration,
    /// What is kept of control messages; `None` to read none.
    pub control: Option<ControlSettings>,
    /// The AMQP heartbeat: a silent broker is noticed after twice this long.
    pub heartbeat: Duration,
    /// How long one connection attempt may take.
    pub connect_timeout: Duration,
    /// How long the broker may take to confirm a publication.
    pub confirm_timeout: Duration,
}

/// The files (PEM) of the client's certificate and its key; they are read for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, followed by those that lead to its CA.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Who makes queues and exchanges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Declare {
    /// The daemon declares them.
    #[default]
    Create,
    /// The daemon checks that they exist.
    Passive,
    /// The daemon trusts that they exist.
    None,
}

/// How much is kept of control messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlSettings {
    /// How many bytes of them the stream keeps.
    pub stream_bytes: u64,
    /// What a daemon keeps of them; the stream keeps them as long.
    pub bounds: Bounds,
}

/// Whether control messages are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlMode {
    /// They are read from a stream, which the daemon declares.
    #[default]
    On,
    /// Nothing of them is declared or read.
    Off,
}

/// One lane of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Its name: the second word of the routing key.
    pub name: Name,
    /// How many unacknowledged events the broker hands out.
    pub prefetch: u16,
    /// The same for what comes back from waiting.
    pub due_prefetch: u16,
    /// How many bytes may wait in the lane before producers are refused; `None` for no limit.
    pub max_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings with two lanes and three bands.
    pub(super) fn settings() -> Settings {
        let lane = |name| Lane {
            name: Name::parse(name).unwrap(),
            prefetch: 100,
            due_prefetch: 50,
            max_bytes: Some(1 << 30),
        };
        Settings {
            urls: vec![Secret::new("amqp://guest:secret@localhost".to_owned())],
            url_file: None,
            ca: None,
            client: None,
            prefix: Name::parse("webpush").unwrap(),
            declare: Declare::Create,
            lanes: vec![lane("default"), lane("high")],
            bands: [50, 150, 400].map(Duration::from_millis).to_vec(),
            probe_interval: None,
            delivery_limit: 20,
            quarantine_age: Duration::from_hours(14 * 24),
            unrouted_messages: 100_000,
            unrouted_age: Duration::from_hours(24),
            control: Some(ControlSettings {
                stream_bytes: 64 << 20,
                bounds: Bounds {
                    targets: 100_000,
                    retention: Duration::from_hours(58 * 24),
                },
            }),
            heartbeat: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            confirm_timeout: Duration::from_secs(30),
        }
    }

    #[test]
    fn the_words_of_sources_are_public_names() {
        let sources = [Source::Lane, Source::Due, Source::Undeliverable];
        assert_eq!(sources.map(Source::name), ["lane", "due", "undeliverable"]);
    }
}
