//! Permits: how much may be under way, in all and per origin.

use std::time::Duration;

/// What an operator decides about permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Requests in flight, over all origins.
    pub in_flight: usize,
    /// Requests in flight to one listed origin.
    pub per_origin: usize,
    /// How long a recipient waits for a permit before it is deferred to the broker.
    pub max_wait: Duration,
}
