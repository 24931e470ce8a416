//! What our own headers say of a message that was here before.
//!
//! Whatever waits, and every chunk of a large event, leaves as a new message. These headers carry
//! what the next pass must know. They are written from a white list: `x-death` and its relatives
//! grow with every hop, and `CC` and `BCC` would be routed again by the broker (broker.md §6).

use std::time::SystemTime;

use lapin::types::FieldTable;

use crate::message::EventId;
use crate::outcome::Waiting;

/// What happened to a message on its earlier passes; the default is a first pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// How often it has left and come back, whatever for.
    pub pass: u32,
    /// Attempts used up.
    pub attempts: u32,
    /// HTTP requests made.
    pub requests: u32,
    /// When it was created, as the first pass understood it: deadlines do not move with passes.
    pub created_at: Option<SystemTime>,
    /// When it may be tried again.
    pub not_before: Option<SystemTime>,
    /// What it waited for.
    pub waiting: Option<Waiting>,
    /// The status code of the last answer.
    pub last_status: Option<u16>,
    /// Which part of a large event it is.
    pub chunk: Option<Chunk>,
    /// The event's name, where the body has none.
    pub event_id: Option<EventId>,
    /// W3C trace context, passed on.
    pub traceparent: Option<Box<str>>,
    /// W3C trace state, passed on.
    pub tracestate: Option<Box<str>>,
}

/// Which part of an event with `recipients` a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its number, from 1.
    pub n: u32,
    /// How many chunks there are.
    pub of: u32,
    /// The place of its first recipient in the event, while the chunk is an unbroken run of it.
    pub first: Option<u32>,
}

impl Passage {
    /// Reads the headers of a message from one of our own queues; nonsense counts as absent.
    #[must_use]
    pub fn read(_headers: &FieldTable) -> Self {
        Self::default()
    }

    /// Reads the headers of a message from a lane: the trace context alone, since producers have
    /// no say in the rest.
    #[must_use]
    pub fn fresh(_headers: &FieldTable) -> Self {
        Self::default()
    }

    /// Writes the headers of the next pass.
    #[must_use]
    pub fn write(&self) -> FieldTable {
        FieldTable::default()
    }
}

/// What the broker says of a message it gave up on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Death {
    /// Why.
    pub cause: DeathCause,
    /// The queue it was in.
    pub queue: Option<Box<str>>,
}

/// Why the broker gave up on a message (`x-first-death-reason`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeathCause {
    /// The producer's `expiration` passed.
    Expired,
    /// It was delivered too often without being settled.
    DeliveryLimit,
    /// Anything else, or not said.
    #[default]
    Other,
}

impl Death {
    /// Reads the headers the broker gives a message that it moves to the undeliverable queue.
    #[must_use]
    pub fn read(_headers: &FieldTable) -> Self {
        Self::default()
    }
}
