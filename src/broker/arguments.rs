//! The x-arguments of queues, with the reasons of broker.md §2.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};

use crate::broker::route::short;

/// A replicated queue.
pub(super) fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    insert(&mut arguments, "x-queue-type", text("quorum"));
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
