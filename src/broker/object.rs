//! One exchange, queue or binding.

use std::fmt;

use lapin::types::{FieldTable, ShortString};
use strum::IntoStaticStr;

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
    /// The way from an exchange to a queue.
    Binding {
        exchange: ShortString,
        queue: ShortString,
        key: ShortString,
    },
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
        Self::Binding {
            exchange,
            queue,
            key,
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
                queue,
                key,
            } => write!(
                f,
                "binding of {queue} to {exchange} ({key:?})",
                key = key.as_str()
            ),
        }
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
