//! The summary: how the recipients of a chunk fared on one pass (contract.md §3).
//!
//! A chunk whose recipients must wait goes round again, perhaps in several parts, and each pass of
//! each part has a summary of its own. Every recipient is counted where it is settled, so the sum
//! of all summaries of an event counts each of them once.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;

use super::event::EventRef;
use super::headers::Chunk;
use crate::message::{EventId, Name};
use crate::outcome::Reason;

/// The recipients of one message, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    settled: BTreeMap<Reason, u32>,
    waiting: u32,
}

impl Tally {
    /// Counts a recipient that was settled.
    pub fn settled(&mut self, reason: Reason) {
        *self.settled.entry(reason).or_default() += 1;
    }

    /// Counts a recipient that goes on waiting.
    pub fn waits(&mut self) {
        self.waiting += 1;
    }
}

/// Which message a summary is of.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The chunk; `None` for an event that was not split.
    pub chunk: Option<Chunk>,
    /// The pass, from 0.
    pub pass: u32,
}

/// Writes the body of a summary.
#[must_use]
pub fn body(
    _event: &EventRef<'_>,
    _part: Part,
    _tally: &Tally,
    _created_at: SystemTime,
    _settled_at: SystemTime,
) -> Bytes {
    Bytes::new()
}

/// Returns the routing key `summary.<app>.<label>`; `app` is the configured one, if any.
#[must_use]
pub fn routing_key(_app: Option<&Name>, _label: Option<&Name>) -> String {
    String::new()
}

/// Returns the AMQP `message_id`, equal for a repeat of the same pass over the same message.
///
/// The message's body is part of it: the parts of a chunk that wait for different things share
/// chunk and pass.
#[must_use]
pub fn message_id(_event: &EventId, _part: Part, _message: &[u8]) -> String {
    String::new()
}
