//! One recipient of an event: whom to push to, and what only this one gets (contract.md §2).

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::event::Event;
use super::fault::Fault;
use crate::message::{Coding, Name, Topic};
use crate::origin::Service;
use crate::subscription::{Endpoint, Fingerprint, Keys};

/// What may be said for the whole event, and otherwise for one recipient.
#[derive(Clone, Default)]
pub struct PushOptions {
    /// The plaintext; `None` pushes without a body.
    pub payload: Option<Bytes>,
    /// Which undelivered message it replaces.
    pub topic: Option<Topic>,
    /// Whether the topic stands in for one that some service would refuse.
    pub topic_replaced: bool,
    /// The key that is to sign.
    pub vapid_key: Option<Name>,
    /// The coding that is asked for.
    pub coding: Option<Coding>,
}

/// Shows no payload.
impl fmt::Debug for PushOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushOptions")
            .field("payload", &self.payload.as_ref().map(Bytes::len))
            .field("topic", &self.topic)
            .field("vapid_key", &self.vapid_key)
            .field("coding", &self.coding)
            .finish_non_exhaustive()
    }
}

/// One recipient, still as text.
#[derive(Clone, Copy)]
pub struct RawRecipient<'a> {
    /// Its place among the recipients of this body.
    pub index: usize,
    pub(super) text: RecipientText<'a>,
}

/// The texts of one recipient.
#[derive(Clone, Copy)]
pub(super) enum RecipientText<'a> {
    /// Of an event with one `subscription`.
    Single {
        subscription: &'a RawValue,
        id: Option<&'a RawValue>,
    },
    /// A member of `recipients`.
    Listed(&'a RawValue),
}

/// What results and subscription events repeat of a recipient, as far as it could be read.
#[derive(Clone, Default)]
pub struct RecipientRef<'a> {
    /// The producer's name for it, a JSON string or integer, as it was given.
    pub id: Option<&'a RawValue>,
    /// Its endpoint as it was given; `None` also for one longer than any endpoint.
    pub endpoint: Option<Cow<'a, str>>,
    /// SHA-256 of the endpoint as it was given, of any length.
    pub fingerprint: Option<Fingerprint>,
    /// The family of push service that answers there.
    pub service: Option<Service>,
    /// The producer's own, returned byte for byte.
    pub metadata: Option<&'a RawValue>,
    /// SHA-256 of whatever tells this recipient from the others of its event.
    pub(super) key: [u8; 32],
}

/// Shows no endpoint.
impl fmt::Debug for RecipientRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecipientRef")
            .field("id", &self.id.map(RawValue::get))
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// One recipient, with an endpoint that is one and options that make sense.
///
/// Its keys are decoded when they are needed: proving a point to be on the curve costs more than
/// all the rest, and a duplicate or a removed subscription needs none.
#[derive(Clone, Debug)]
pub struct Recipient<'a> {
    /// What its results repeat.
    pub about: RecipientRef<'a>,
    /// Where to push.
    pub endpoint: Endpoint,
    /// Its own options, completed by the event's.
    pub options: PushOptions,
    keys: Option<&'a RawValue>,
}

/// Why a recipient cannot be pushed to, and what could be read of it all the same.
#[derive(Clone, Debug)]
pub struct RecipientError<'a> {
    /// The first fault.
    pub fault: Fault,
    /// For its result.
    pub about: RecipientRef<'a>,
}

impl<'a> Recipient<'a> {
    /// Decodes one recipient of `event`.
    ///
    /// `first` is the place of the body's first recipient in the event as it was published, if
    /// that is known ([`super::headers::Chunk::first`]; 0 on the first pass): faults name
    /// `recipients[first + index]` then, and a path inside the recipient otherwise.
    ///
    /// # Errors
    /// If a member of ours is wrong (`malformed_event`), or the browser's subscription has no
    /// usable endpoint (`invalid_subscription`).
    pub fn decode(
        raw: RawRecipient<'a>,
        _event: &Event<'a>,
        _first: Option<usize>,
    ) -> Result<Self, Box<RecipientError<'a>>> {
        Err(Box::new(RecipientError {
            fault: Fault::malformed("", raw.index.to_string()),
            about: RecipientRef::default(),
        }))
    }

    /// Decodes the keys that a payload is encrypted with.
    ///
    /// # Errors
    /// If they are missing or cannot be right (`invalid_subscription`).
    pub fn keys(&self) -> Result<Keys, Fault> {
        Err(Fault::malformed(
            "",
            format!("{:?}", self.keys.map(|keys| keys.get().len())),
        ))
    }
}
