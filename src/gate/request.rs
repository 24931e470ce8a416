//! A request for a permit, and what it may change.

use std::time::Duration;

use crate::message::Name;
use crate::origin::{Listing, Origin};
use crate::outcome::{BreakerState, Scope};

/// A request for a permit.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Where to.
    pub origin: &'a Origin,
    /// Whether the origin is listed.
    pub listing: Listing,
    /// The key that signs.
    pub key: &'a Name,
    /// The lane of the message.
    pub lane: &'a Name,
    /// How often the recipient was deferred in a row before.
    pub deferrals: u32,
}

impl Request<'_> {
    pub(super) fn is_new(&self) -> bool {
        self.deferrals == 0
    }
}

/// A change of the gate of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its breaker is in another state, for so long if that is open.
    Breaker(BreakerState, Duration),
    /// It is paused, whole or for one key, for so long.
    Paused(Scope, Duration),
}
