//! One exchange, queue or binding, and its arguments with the reasons of broker/README.md §2.

use std::fmt;
use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable, ShortString};
use strum::IntoStaticStr;

use crate::broker::route::short;

/// A stream drops whole segments, so it is made of so many.
const SEGMENTS: u64 = 16;

/// Something that must exist on the broker.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    /// A durable exchange.
    Exchange {
        name: ShortString,
        kind: ExchangeKind,
        /// Where to send what no binding wants.
        alternate: Option<ShortString>,
        /// What it is for, to operators.
        purpose: &'static str,
    },
    /// A durable queue.
    Queue {
        name: ShortString,
        arguments: FieldTable,
        /// What it is for, to operators.
        purpose: &'static str,
    },
    /// The way from an exchange to a queue, or to another exchange.
    Binding {
        exchange: ShortString,
        destination: Destination,
        key: ShortString,
    },
}

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    Queue(ShortString),
    Exchange(ShortString),
}

/// The kinds of exchanges that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(super) enum ExchangeKind {
    Topic,
    Fanout,
}

impl Object {
    pub(super) fn fanout(name: ShortString, purpose: &'static str) -> Self {
        Self::Exchange {
            name,
            kind: ExchangeKind::Fanout,
            alternate: None,
            purpose,
        }
    }

    pub(super) fn queue(name: ShortString, arguments: FieldTable, purpose: &'static str) -> Self {
        Self::Queue {
            name,
            arguments,
            purpose,
        }
    }

    pub(super) fn binding(exchange: ShortString, queue: ShortString, key: ShortString) -> Self {
        let destination = Destination::Queue(queue);
        Self::Binding {
            exchange,
            destination,
            key,
        }
    }
}

impl Destination {
    pub(super) fn name(&self) -> &ShortString {
        let (Self::Queue(name) | Self::Exchange(name)) = self;
        name
    }

    /// Returns the word of RabbitMQ's definitions.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Queue(_) => "queue",
            Self::Exchange(_) => "exchange",
        }
    }
}

impl ExchangeKind {
    /// Returns AMQP's word.
    pub(super) fn name(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange { name, .. } => write!(f, "exchange {name}"),
            Self::Queue { name, .. } => write!(f, "queue {name}"),
            Self::Binding {
                exchange,
                destination,
                key,
            } => write!(
                f,
                "binding of {} to {exchange} ({key:?})",
                destination.name(),
                key = key.as_str()
            ),
        }
    }
}

/// Sends what no binding of an exchange wants to another.
pub(super) fn alternate_exchange(name: &ShortString) -> FieldTable {
    let mut arguments = FieldTable::default();
    insert(&mut arguments, "alternate-exchange", text(name.as_str()));
    arguments
}

/// A replicated queue.
pub(super) fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    insert(&mut arguments, "x-queue-type", text("quorum"));
    arguments
}

/// A replicated log, which every consumer reads for itself.
pub(super) fn stream(bytes: u64, retention: Duration) -> FieldTable {
    let mut arguments = FieldTable::default();
    insert(&mut arguments, "x-queue-type", text("stream"));
    let age = format!("{}s", retention.as_secs().max(1));
    insert(&mut arguments, "x-max-age", text(&age));
    insert(&mut arguments, "x-max-length-bytes", number(bytes));
    let segment = number(bytes / SEGMENTS);
    insert(&mut arguments, "x-stream-max-segment-size-bytes", segment);
    arguments
}

/// A quorum queue that dead-letters to another queue and loses nothing on the way.
pub(super) fn at_least_once() -> FieldTable {
    let mut arguments = quorum();
    insert(&mut arguments, "x-dead-letter-exchange", text(""));
    insert(
        &mut arguments,
        "x-dead-letter-strategy",
        text("at-least-once"),
    );
    insert(&mut arguments, "x-overflow", text("reject-publish"));
    arguments
}

/// Sets an argument.
pub(super) fn insert(arguments: &mut FieldTable, name: &str, value: AMQPValue) {
    arguments.insert(short(name), value);
}

/// An argument that is a text.
pub(super) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// An argument that is a number.
pub(super) fn number(value: u64) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX))
}

/// A time to live, in milliseconds.
pub(super) fn ttl(age: Duration) -> AMQPValue {
    number(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

/// Returns the reason for an argument, for operators.
pub(super) fn reason(argument: &str) -> &'static str {
    match argument {
        "alternate-exchange" => "what no binding takes goes there instead of being lost",
        "x-queue-type" => {
            "quorum queues are replicated, and can dead-letter without loss; every daemon reads a stream"
        }
        "x-delivery-limit" => {
            "a message returned more often is given up on, or it would come back for ever"
        }
        "x-dead-letter-exchange" => {
            "\"\" is the default exchange: straight to the queue that the routing key names"
        }
        "x-dead-letter-routing-key" => {
            "the queue for what is given up on; in delay queues each message keeps its own key"
        }
        "x-dead-letter-strategy" => "the default one loses messages when the broker restarts",
        "x-overflow" => {
            "at-least-once dead-lettering needs reject-publish; drop-head only where the oldest may go"
        }
        "x-max-length" => "so many messages are kept",
        "x-max-length-bytes" => {
            "so much may wait before producers are refused: back-pressure; a stream drops the oldest"
        }
        "x-max-age" => {
            "so long what was cancelled or forgotten is known to daemons that start later"
        }
        "x-stream-max-segment-size-bytes" => "a stream drops whole segments, once they are full",
        "x-message-ttl" => "milliseconds a message stays",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_exchange_kinds_are_amqps() {
        assert_eq!(ExchangeKind::Fanout.name(), "fanout");
        assert_eq!(ExchangeKind::Topic.name(), "topic");
    }
}
