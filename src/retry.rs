//! When to try again, and when to give up.

use std::time::Duration;

/// How often and how late a failed attempt is repeated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Attempts in all, the first included.
    pub max_attempts: u32,
    /// The wait after the first attempt; it doubles with each further one.
    pub base: Duration,
    /// The longest wait of our own choosing.
    pub cap: Duration,
    /// The longest wait that a push service may ask for.
    pub retry_after_cap: Duration,
}
