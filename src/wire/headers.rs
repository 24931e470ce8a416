//! What our own headers say of a message that was here before.
//!
//! Whatever waits, and every chunk of a large event, leaves as a new message. These headers carry
//! what the next pass must know. They are written from a white list: `x-death` and its relatives
//! grow with every hop, and `CC` and `BCC` would be routed again by the broker (broker/README.md §6).

use std::time::SystemTime;

use lapin::types::FieldTable;

pub use super::death::{Death, DeathCause};
use super::event::RECIPIENT_LIMIT;
pub use super::positions::Positions;
use super::table;
use super::trace::Trace;
use crate::message::{CopyId, EventId, Name};
use crate::outcome::{Reason, Refusal, Waiting};

/// What happened to a message on its earlier passes; the default is a first pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryHistory {
    /// How often it has left and come back, whatever for.
    pub pass: u32,
    /// How often in a row it was deferred for want of a permit, without an attempt in between.
    pub deferrals: u32,
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
    /// The key to begin with, where the earlier passes came to another than one would.
    pub vapid_key: Option<Name>,
    /// Which part of a large event it is.
    pub chunk: Option<Chunk>,
    /// Which chunks it is still to be split into, if earlier ones were published.
    pub unsplit: Option<Unsplit>,
    /// Where its recipients stand in the event, if that is known; a message that was not here before
    /// is the event.
    pub positions: Option<Positions>,
    /// Why every recipient ends without a request.
    pub refusal: Option<Refusal>,
    /// The event's name, where the body has none.
    pub event_id: Option<EventId>,
    /// Whether that name was derived, for want of one by the producer.
    pub derived_id: bool,
    /// The application that it is for, where the body names none.
    pub app: Option<Name>,
    /// The routing key with which its producer published it, if that is known.
    pub routing_key: Option<Box<str>>,
    /// W3C trace context, passed on.
    pub trace: Trace,
}

/// Which part of an event with `recipients` a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its number, from 1.
    pub n: u32,
    /// How many chunks there are.
    pub of: u32,
}

/// What is left of a large event of which the first chunks were published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsplit {
    /// The number of the next chunk, from 1.
    pub next: u32,
    /// How many chunks the event has in all, as far as that was known.
    pub of: u32,
}

const PASS: &str = "x-pushrider-pass";
const DEFERRALS: &str = "x-pushrider-deferrals";
const ATTEMPT: &str = "x-pushrider-attempt";
const REQUESTS: &str = "x-pushrider-requests";
const CREATED_AT: &str = "x-pushrider-created-at";
const NOT_BEFORE: &str = "x-pushrider-not-before";
const WAITING: &str = "x-pushrider-waiting";
const LAST_STATUS: &str = "x-pushrider-last-status";
const VAPID_KEY: &str = "x-pushrider-vapid-key";
const CHUNK: &str = "x-pushrider-chunk";
const CHUNKS: &str = "x-pushrider-chunks";
const POSITIONS: &str = "x-pushrider-recipients";
const NEXT_CHUNK: &str = "x-pushrider-next-chunk";
const REFUSAL: &str = "x-pushrider-refusal";
const DETAIL: &str = "x-pushrider-detail";
const EVENT_ID: &str = "x-pushrider-event-id";
const DERIVED_ID: &str = "x-pushrider-derived-id";
const APP: &str = "x-pushrider-app";
const ROUTING_KEY: &str = "x-pushrider-routing-key";
const COPY_ID: &str = "x-pushrider-copy-id";
/// RabbitMQ's own, on messages of a quorum queue that it delivers again.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// Returns how often the broker has delivered a message before; `None` where it does not say.
///
/// Only on a message that is marked as redelivered does the header come from the broker.
#[must_use]
pub fn delivery_count(headers: &FieldTable) -> Option<u64> {
    table::number(headers, DELIVERY_COUNT)
}

impl RetryHistory {
    /// Reads the headers of a message from one of our own queues; nonsense counts as absent.
    #[must_use]
    pub fn read(headers: &FieldTable) -> Self {
        Self {
            pass: table::count(headers, PASS).unwrap_or_default(),
            deferrals: table::count(headers, DEFERRALS).unwrap_or_default(),
            attempts: table::count(headers, ATTEMPT).unwrap_or_default(),
            requests: table::count(headers, REQUESTS).unwrap_or_default(),
            created_at: table::moment(headers, CREATED_AT),
            not_before: table::moment(headers, NOT_BEFORE),
            waiting: table::text(headers, WAITING).and_then(Waiting::parse),
            last_status: table::count(headers, LAST_STATUS)
                .and_then(|status| status.try_into().ok())
                .filter(|status| (100..=999).contains(status)),
            vapid_key: table::text(headers, VAPID_KEY).and_then(Name::parse),
            chunk: Chunk::read(headers),
            unsplit: Unsplit::read(headers),
            positions: table::text(headers, POSITIONS).and_then(|text| text.parse().ok()),
            refusal: read_refusal(headers),
            event_id: table::text(headers, EVENT_ID).and_then(EventId::parse),
            derived_id: table::number(headers, DERIVED_ID).is_some(),
            app: table::text(headers, APP).and_then(Name::parse),
            routing_key: table::text(headers, ROUTING_KEY).map(Box::from),
            trace: Trace::read(headers),
        }
    }

    /// Reads the headers of a message from a lane: the trace alone, since producers have no say in
    /// the rest.
    #[must_use]
    pub fn fresh(headers: &FieldTable) -> Self {
        Self {
            trace: Trace::read(headers),
            ..Self::default()
        }
    }

    /// Reads the headers of a copy that the broker gave up on: what its result needs.
    #[must_use]
    pub fn given_up(headers: &FieldTable) -> Self {
        let read = Self::read(headers);
        Self {
            app: read.app,
            routing_key: read.routing_key,
            trace: read.trace,
            ..Self::default()
        }
    }

    /// Returns whether the message is an event as it was published, and no copy.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.pass == 0 && self.chunk.is_none() && self.unsplit.is_none()
    }

    /// Returns the place that the recipient at `index` of the message has in the event as it was
    /// published, if that is known.
    #[must_use]
    pub fn position_of(&self, index: usize) -> Option<u32> {
        match &self.positions {
            Some(positions) => positions.get(index),
            None if self.is_first() => u32::try_from(index).ok(),
            None => None,
        }
    }

    /// Returns the positions of some recipients of the message, if they are known.
    #[must_use]
    pub fn positions_of(&self, indices: &[usize]) -> Option<Positions> {
        let positions: Option<Vec<u32>> = indices.iter().map(|it| self.position_of(*it)).collect();
        positions.map(Positions::of)
    }

    /// Writes the headers of the next pass, exactly as they stand here.
    #[must_use]
    pub fn write(&self) -> FieldTable {
        let mut headers = FieldTable::default();
        table::put_number(&mut headers, PASS, self.pass);
        if self.deferrals > 0 {
            table::put_number(&mut headers, DEFERRALS, self.deferrals);
        }
        table::put_number(&mut headers, ATTEMPT, self.attempts);
        table::put_number(&mut headers, REQUESTS, self.requests);
        if let Some(moment) = self.created_at {
            table::put_moment(&mut headers, CREATED_AT, moment);
        }
        if let Some(moment) = self.not_before {
            table::put_moment(&mut headers, NOT_BEFORE, moment);
        }
        if let Some(waiting) = self.waiting {
            table::put_text(&mut headers, WAITING, waiting.name());
        }
        if let Some(status) = self.last_status {
            table::put_number(&mut headers, LAST_STATUS, status);
        }
        if let Some(key) = &self.vapid_key {
            table::put_text(&mut headers, VAPID_KEY, key.as_str());
        }
        if let Some(chunk) = self.chunk {
            chunk.write(&mut headers);
        }
        if let Some(unsplit) = self.unsplit {
            unsplit.write(&mut headers);
        }
        let positions = self.positions.as_ref().map(Positions::to_string);
        // Part of a list would name the wrong recipients.
        if let Some(positions) = positions.filter(|text| text.len() <= table::TEXT_LIMIT) {
            table::put_text(&mut headers, POSITIONS, &positions);
        }
        if let Some(refusal) = &self.refusal {
            table::put_text(&mut headers, REFUSAL, refusal.reason.name());
            table::put_text(&mut headers, DETAIL, &refusal.detail);
        }
        if let Some(id) = &self.event_id {
            table::put_text(&mut headers, EVENT_ID, id.as_str());
        }
        if self.derived_id {
            table::put_number(&mut headers, DERIVED_ID, 1_u32);
        }
        if let Some(app) = &self.app {
            table::put_text(&mut headers, APP, app.as_str());
        }
        if let Some(key) = &self.routing_key {
            table::put_text(&mut headers, ROUTING_KEY, key);
        }
        self.trace.write(&mut headers);
        headers
    }
}

/// Reads the id of a copy; copies of versions before it have none.
#[must_use]
pub fn copy_id(headers: &FieldTable) -> Option<CopyId> {
    table::text(headers, COPY_ID).and_then(CopyId::parse)
}

/// Writes the id of a copy.
pub fn put_copy_id(headers: &mut FieldTable, id: CopyId) {
    table::put_text(headers, COPY_ID, &id.to_string());
}

fn read_refusal(headers: &FieldTable) -> Option<Refusal> {
    Some(Refusal {
        reason: table::text(headers, REFUSAL).and_then(Reason::parse)?,
        detail: table::text(headers, DETAIL).unwrap_or_default().into(),
    })
}

/// Returns whether an event may have so many recipients, and so as many chunks.
fn below_limit(count: u32) -> bool {
    usize::try_from(count).is_ok_and(|count| count <= RECIPIENT_LIMIT)
}

/// A whole event.
impl Default for Unsplit {
    fn default() -> Self {
        Self { next: 1, of: 1 }
    }
}

impl Unsplit {
    /// A message that is a chunk is never split again.
    fn read(headers: &FieldTable) -> Option<Self> {
        if table::count(headers, CHUNK).is_some() {
            return None;
        }
        Some(Self {
            next: table::count(headers, NEXT_CHUNK).filter(|next| below_limit(*next))?,
            of: table::count(headers, CHUNKS).filter(|of| below_limit(*of))?,
        })
    }

    fn write(self, headers: &mut FieldTable) {
        table::put_number(headers, NEXT_CHUNK, self.next);
        table::put_number(headers, CHUNKS, self.of);
    }
}

impl Chunk {
    fn read(headers: &FieldTable) -> Option<Self> {
        let of = table::count(headers, CHUNKS).filter(|of| below_limit(*of))?;
        Some(Self {
            n: table::count(headers, CHUNK).filter(|n| (1..=of).contains(n))?,
            of,
        })
    }

    fn write(self, headers: &mut FieldTable) {
        table::put_number(headers, CHUNK, self.n);
        table::put_number(headers, CHUNKS, self.of);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lapin::types::{AMQPValue, ShortString};
    use proptest::prelude::*;

    use super::*;
    use crate::message::CopyIds;
    use crate::outcome::Reason;

    fn whole() -> RetryHistory {
        RetryHistory {
            pass: 3,
            deferrals: 2,
            attempts: 2,
            requests: 4,
            created_at: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)),
            not_before: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_009_456)),
            waiting: Some(Waiting::Retry(Reason::Throttled)),
            last_status: Some(429),
            vapid_key: Name::parse("2025"),
            chunk: Some(Chunk { n: 2, of: 200 }),
            unsplit: None,
            positions: Some(Positions::of([50, 51, 60])),
            refusal: Some(Refusal {
                reason: Reason::UnknownApp,
                detail: "app: is missing".into(),
            }),
            event_id: EventId::parse("order-1"),
            derived_id: true,
            app: Name::parse("shop"),
            routing_key: Some("shop.high".into()),
            trace: Trace {
                traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
                tracestate: Some("a=b".into()),
            },
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let unsplit = RetryHistory {
            unsplit: Some(Unsplit { next: 7, of: 200 }),
            chunk: None,
            ..whole()
        };
        for history in [RetryHistory::default(), whole(), unsplit] {
            assert_eq!(RetryHistory::read(&history.write()), history);
        }
    }

    #[test]
    fn places_that_do_not_fit_into_a_header_are_not_known() {
        let scattered = RetryHistory {
            positions: Some(Positions::of((0..1000).map(|n| 2 * n))),
            ..whole()
        };
        let read = RetryHistory::read(&scattered.write());
        assert_eq!((read.positions.as_ref(), read.position_of(0)), (None, None));
        assert_eq!(whole().position_of(2), Some(60));
        assert_eq!(RetryHistory::default().position_of(7), Some(7));
    }

    #[test]
    fn a_producer_has_no_say_but_in_the_trace() {
        let fresh = RetryHistory {
            trace: whole().trace,
            ..RetryHistory::default()
        };
        assert_eq!(RetryHistory::fresh(&whole().write()), fresh);
    }

    #[test]
    fn only_the_white_list_is_written() {
        let written: Vec<String> = whole()
            .write()
            .inner()
            .keys()
            .map(|key| key.to_string())
            .collect();
        assert_eq!(
            written,
            [
                "traceparent",
                "tracestate",
                APP,
                ATTEMPT,
                CHUNK,
                CHUNKS,
                CREATED_AT,
                DEFERRALS,
                DERIVED_ID,
                DETAIL,
                EVENT_ID,
                LAST_STATUS,
                NOT_BEFORE,
                PASS,
                POSITIONS,
                REFUSAL,
                REQUESTS,
                ROUTING_KEY,
                VAPID_KEY,
                WAITING
            ]
        );
    }

    #[test]
    fn a_chunk_that_cannot_be_is_none() {
        for (n, of) in [(0, 3), (4, 3), (1, 10_001), (1, 0)] {
            let mut headers = FieldTable::default();
            Chunk { n, of }.write(&mut headers);
            assert_eq!(RetryHistory::read(&headers).chunk, None, "{n} of {of}");
        }
    }

    #[test]
    fn a_copy_id_is_read_as_it_was_written() {
        let id = CopyIds::new(u64::MAX - 1).make();
        let mut headers = FieldTable::default();
        assert_eq!(copy_id(&headers), None);
        put_copy_id(&mut headers, id);
        assert_eq!(copy_id(&headers), Some(id));
        for nonsense in ["", "1", "+0000000000000000000000000000001"] {
            table::put_text(&mut headers, COPY_ID, nonsense);
            assert_eq!(copy_id(&headers), None, "{nonsense}");
        }
    }

    fn any_value() -> impl Strategy<Value = AMQPValue> {
        prop_oneof![
            any::<i64>().prop_map(AMQPValue::LongLongInt),
            any::<u64>().prop_map(AMQPValue::Timestamp),
            any::<f64>().prop_map(AMQPValue::Double),
            prop::collection::vec(any::<u8>(), 0..40)
                .prop_map(|it| AMQPValue::LongString(it.into())),
            Just(AMQPValue::Void),
        ]
    }

    proptest! {
        #[test]
        fn nonsense_is_read_as_something_that_can_be_written(
            values in prop::collection::vec(any_value(), 17),
        ) {
            let names = whole().write();
            let mut headers = FieldTable::default();
            for (name, value) in names.inner().keys().zip(values) {
                headers.insert(ShortString::from(name.as_str()), value);
            }
            let history = RetryHistory::read(&headers);
            prop_assert_eq!(&RetryHistory::read(&history.write()), &history);
        }
    }
}
