//! The summary: how the recipients of a chunk fared on one pass (examples/README.md, "The result").
//!
//! A chunk whose recipients must wait goes round again, perhaps in several parts, and each pass of
//! each part has a summary of its own. Every recipient is counted where it is settled, so the sum
//! of all summaries of an event counts each of them once.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::event::EventRef;
use super::headers::Chunk;
use super::output::{self, Time, app_word, label_word};
use crate::message::{EventId, Name};
use crate::outcome::{Outcome, Reason};

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

    /// Adds what another counted.
    pub fn add(&mut self, other: &Self) {
        for (reason, count) in &other.settled {
            *self.settled.entry(*reason).or_default() += count;
        }
        self.waiting += other.waiting;
    }

    /// Returns how many recipients were settled.
    #[must_use]
    pub fn sum(&self) -> u32 {
        self.settled.values().sum()
    }

    /// Returns how many recipients go on waiting.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting
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
    /// The pass, from 0 as in [`super::headers::RetryHistory::pass`].
    pub pass: u32,
}

/// Writes the body of a summary.
#[must_use]
pub fn body(
    event: &EventRef<'_>,
    part: Part,
    tally: &Tally,
    created_at: SystemTime,
    settled_at: SystemTime,
) -> Bytes {
    output::write(&Body {
        version: 1,
        event_id: event.id.as_ref(),
        app: event.app.as_ref(),
        label: label_word(event.label.as_ref()),
        group: event.group.as_deref(),
        chunk: part
            .chunk
            .map_or(ChunkMember { n: 1, of: 1 }, |chunk| ChunkMember {
                n: chunk.n,
                of: chunk.of,
            }),
        pass: part.pass.saturating_add(1),
        settled: tally.sum(),
        waiting: tally.waiting,
        outcomes: Counts(tally.outcomes()),
        reasons: Counts(tally.reasons()),
        created_at: Time(created_at),
        settled_at: Time(settled_at),
        metadata: event.metadata.as_deref(),
    })
}

/// Returns the routing key `summary.<app>.<label>`; `app` is the configured one, if any.
#[must_use]
pub fn routing_key(app: Option<&Name>, label: Option<&Name>) -> String {
    format!("summary.{}.{}", app_word(app), label_word(label))
}

/// Returns the AMQP `message_id`, equal for a repeat of the same pass over the same message.
///
/// The message's body is part of it: the parts of a chunk that wait for different things share
/// chunk and pass.
#[must_use]
pub fn message_id(event: &EventId, part: Part, message: &[u8]) -> String {
    let chunk = part.chunk.map_or(0, |chunk| chunk.n);
    output::message_id(&[
        b"summary",
        event.as_str().as_bytes(),
        &chunk.to_be_bytes(),
        &part.pass.to_be_bytes(),
        message,
    ])
}

impl Tally {
    /// Every outcome, also those that no recipient had.
    pub(super) fn outcomes(&self) -> Vec<(&'static str, u32)> {
        let of = |outcome| {
            let settled = self.settled.iter();
            let counts = settled.filter(|(reason, _)| reason.outcome() == outcome);
            counts.map(|(_, count)| count).sum()
        };
        Outcome::ALL
            .iter()
            .map(|outcome| (outcome.name(), of(*outcome)))
            .collect()
    }

    /// The reasons that some recipient had.
    fn reasons(&self) -> Vec<(&'static str, u32)> {
        let settled = self.settled.iter();
        settled
            .map(|(reason, count)| (reason.name(), *count))
            .collect()
    }
}

/// The members in their order.
#[derive(Serialize)]
struct Body<'a> {
    version: u8,
    event_id: Option<&'a EventId>,
    app: Option<&'a Name>,
    label: &'a str,
    group: Option<&'a str>,
    chunk: ChunkMember,
    pass: u32,
    settled: u32,
    waiting: u32,
    outcomes: Counts,
    reasons: Counts,
    created_at: Time,
    settled_at: Time,
    metadata: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct ChunkMember {
    n: u32,
    of: u32,
}

/// Words and how often each was counted, as an object.
pub(super) struct Counts(pub(super) Vec<(&'static str, u32)>);

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event() -> EventRef<'static> {
        EventRef {
            id: EventId::parse("order-1234"),
            app: Name::parse("shop"),
            label: Name::parse("mail"),
            ..EventRef::default()
        }
    }

    #[test]
    fn a_summary_counts_every_recipient_of_its_message() {
        let mut tally = Tally::default();
        for reason in [
            Reason::Accepted,
            Reason::Accepted,
            Reason::Unsubscribed,
            Reason::NotFound,
            Reason::Timeout,
        ] {
            tally.settled(reason);
        }
        tally.waits();
        let part = Part {
            chunk: Some(Chunk { n: 2, of: 4 }),
            pass: 0,
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_042);
        assert_eq!(
            body(&event(), part, &tally, SystemTime::UNIX_EPOCH, now),
            r#"{"version":1,"event_id":"order-1234","app":"shop","label":"mail","group":null,"chunk":{"n":2,"of":4},"pass":1,"settled":5,"waiting":1,"outcomes":{"accepted":2,"gone":2,"rejected":0,"expired":0,"cancelled":0,"failed":1},"reasons":{"accepted":2,"unsubscribed":1,"not_found":1,"timeout":1},"created_at":"1970-01-01T00:00:00.000Z","settled_at":"2023-11-14T22:13:20.042Z","metadata":null}"#
        );
    }

    #[test]
    fn each_message_of_each_pass_has_a_message_id_of_its_own() {
        let id = EventId::parse("order-1234").unwrap();
        let part = |n, pass| Part {
            chunk: Some(Chunk { n, of: 3 }),
            pass,
        };
        let whole = Part {
            chunk: None,
            pass: 0,
        };
        let ids = [
            message_id(&id, part(1, 0), b"a"),
            message_id(&id, part(2, 0), b"a"),
            message_id(&id, part(1, 1), b"a"),
            message_id(&id, part(1, 1), b"b"),
            message_id(&id, whole, b"a"),
        ];
        let different: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(different.len(), ids.len());
        assert_eq!(ids[0], message_id(&id, part(1, 0), b"a"));
    }

    #[test]
    fn summaries_are_routed_by_app_and_label() {
        let shop = Name::parse("shop");
        assert_eq!(routing_key(shop.as_ref(), None), "summary.shop._");
        assert_eq!(routing_key(None, shop.as_ref()), "summary._unknown.shop");
    }
}
