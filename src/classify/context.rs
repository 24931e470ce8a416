//! What is known about a request besides the answer to it.

use std::time::Duration;

use crate::origin::{Listing, Service};
use crate::outcome::Again;

/// What is known about a request besides the answer to it.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The family of push service that answered.
    pub service: Service,
    /// Whether its host is on the list of the large services.
    pub listing: Listing,
    /// Which attempt at the recipient it was; the first is 1.
    pub attempt: u32,
    /// The status of the attempt before this one.
    pub last_status: Option<u16>,
    /// What the service said with the same status of earlier messages to the subscription, if it
    /// called the subscription dead and took no message since.
    pub earlier_answers: Option<EarlierAnswers>,
    /// What the request changed, if it was not the attempt's first.
    pub tried: Option<Again>,
    /// How old the VAPID token was that signed the request.
    pub token_age: Duration,
    /// Whether the answer's `Date` lies outside the time in which that token is good.
    pub token_untimely: bool,
    /// The bytes of the request's body.
    pub body_len: usize,
    /// The longest wait that a service may ask for.
    pub retry_after_cap: Duration,
}

/// Earlier answers that call a subscription dead and are not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlierAnswers {
    /// How long ago the first of them came.
    pub age: Duration,
    /// How many there were.
    pub times: u32,
}
