//! What to do with one recipient: push to it, or end it without a request.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::event::Terms;
use super::{App, Refusal};
use crate::guard;
use crate::message::PushMessage;
use crate::outcome::{Reason, Warning};
use crate::subscription::Fingerprint;
use crate::vapid::VapidKey;
use crate::wire::event::Event;
use crate::wire::recipient::Recipient;

/// The endpoints of one message that have had their turn.
#[derive(Debug, Default)]
pub struct Seen(HashSet<Fingerprint>);

/// One push to make.
#[derive(Clone, Debug)]
pub struct Push {
    /// What to encrypt and send.
    pub message: PushMessage,
    /// The key that was asked for, of the app's ring.
    pub key: Option<Arc<VapidKey>>,
    /// What was changed or ignored, the event's own warnings included.
    pub warnings: Vec<Warning>,
}

/// Plans the push to one recipient at `now`.
///
/// # Errors
/// If it ends without a request: `gone` where the browser itself says so, else `rejected`.
pub fn plan_recipient(
    _recipient: &Recipient<'_>,
    _event: &Event<'_>,
    _app: &App,
    _terms: &Terms,
    _guard: &guard::Rules,
    seen: &mut Seen,
    _now: SystemTime,
) -> Result<Push, Refusal> {
    Err(Refusal {
        reason: Reason::InternalError,
        detail: seen.0.len().to_string().into(),
    })
}
