//! The notification event: from the bytes of a message to what they ask for (contract.md §2).

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::fault::Fault;
use super::recipient::{PushOptions, RawRecipient, RecipientRef};
use super::result::Results;
use crate::message::{EventId, Name, Urgency};

/// The most bytes an event may have.
pub const EVENT_LIMIT: usize = 4 << 20;

/// The most recipients an event may have.
pub const RECIPIENT_LIMIT: usize = 10_000;

/// One notification event, borrowing from the body it was read from.
///
/// Recipients stay text until each is decoded by itself, so that one bad recipient fails alone.
pub struct Event<'a> {
    /// What its results repeat.
    pub about: EventRef<'a>,
    /// The TTL in seconds as asked for, not yet clamped.
    pub ttl: Option<u64>,
    /// How eagerly it is delivered.
    pub urgency: Urgency,
    /// When the producer made it.
    pub created_at: Option<SystemTime>,
    /// When it is due.
    pub deliver_at: Option<SystemTime>,
    /// After when it is worthless.
    pub expires_at: Option<SystemTime>,
    /// Which delivery results it wants.
    pub results: Option<Results>,
    /// What recipients may say otherwise.
    pub options: PushOptions,
    pub(super) body: &'a Bytes,
    pub(super) audience: Audience<'a>,
}

/// What every output repeats of the event it belongs to, as far as it could be read.
#[derive(Clone, Debug, Default)]
pub struct EventRef<'a> {
    /// Its name.
    pub id: Option<EventId>,
    /// The application it names, configured or not.
    pub app: Option<Name>,
    /// Routes its results.
    pub label: Option<Name>,
    /// Names a campaign.
    pub group: Option<Cow<'a, str>>,
    /// The producer's own, returned byte for byte.
    pub metadata: Option<&'a RawValue>,
}

/// Why a body is not an event, and what could be read of it all the same.
#[derive(Clone, Debug)]
pub struct EventError<'a> {
    /// The first fault.
    pub fault: Fault,
    /// For its result.
    pub about: EventRef<'a>,
    /// The one recipient, if it has one that can be told.
    pub recipient: RecipientRef<'a>,
}

/// Who an event is for.
pub(super) enum Audience<'a> {
    /// `subscription`, with `recipient_id`.
    One {
        subscription: &'a RawValue,
        id: Option<&'a RawValue>,
    },
    /// `recipients`: the text of each, and the place of the list in the body.
    Many {
        list: &'a RawValue,
        recipients: Vec<&'a RawValue>,
    },
}

/// Reads an event.
///
/// # Errors
/// If the body is not an event of version 1, down to and without its recipients.
pub fn decode(body: &Bytes) -> Result<Event<'_>, Box<EventError<'_>>> {
    Err(Box::new(EventError {
        fault: Fault::malformed("", body.len().to_string()),
        about: EventRef::default(),
        recipient: RecipientRef::default(),
    }))
}

impl<'a> Event<'a> {
    /// Tells whether it has `recipients`, and so a summary.
    #[must_use]
    pub fn is_fan_out(&self) -> bool {
        matches!(self.audience, Audience::Many { .. })
    }

    /// Returns the number of recipients.
    #[must_use]
    pub fn recipient_count(&self) -> usize {
        match &self.audience {
            Audience::One { .. } => 1,
            Audience::Many { recipients, .. } => recipients.len(),
        }
    }

    /// Returns the recipient at `index` of this body; `None` beyond the last.
    #[must_use]
    pub fn recipient(&self, _index: usize) -> Option<RawRecipient<'a>> {
        None
    }

    /// Walks through the recipients as text, in the order of the body.
    pub fn recipients(&self) -> impl Iterator<Item = RawRecipient<'a>> + '_ {
        (0..self.recipient_count()).filter_map(|index| self.recipient(index))
    }

    /// Writes the event again with only the recipients at `indices` of this body; everything else
    /// keeps its bytes. An event of one `subscription` comes back whole.
    #[must_use]
    pub fn subset(&self, _indices: &[usize]) -> Bytes {
        self.body.clone()
    }
}

/// Shows no endpoint, payload or key.
impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.about.id)
            .field("app", &self.about.app)
            .field("recipients", &self.recipient_count())
            .finish_non_exhaustive()
    }
}
