//! How a message is recognized when it is delivered again.

use aws_lc_rs::digest::{Context, SHA256};

use crate::broker::{Inbound, Source};
use crate::redelivery::Identity;
use crate::wire::headers::{Death, DeathCause, copy_id};

use super::reading::history_of;

/// Returns how a message is recognized.
///
/// A message that the broker gave up on after too many deliveries is recognized as the one that was
/// in a lane or a due queue before, since its result may be known. Copies of versions without ids
/// are recognized by their content.
#[must_use]
pub fn identity(inbound: &Inbound) -> Identity {
    let headers = inbound.properties.headers().as_ref();
    let death = headers.map(Death::read).unwrap_or_default();
    let is_ours = match inbound.source {
        Source::Lane => false,
        Source::Due => true,
        Source::Undeliverable => death.cause == DeathCause::DeliveryLimit,
    };
    if let Some(id) = headers.filter(|_| is_ours).and_then(copy_id) {
        return Identity::Copy(id);
    }
    let was_given_up = inbound.source == Source::Undeliverable;
    Identity::Content {
        digest: digest(inbound, was_given_up && !is_ours),
        again: inbound.redelivered || (was_given_up && is_ours),
    }
}

/// Digests what is equal in every delivery of a message. A message that expired in a lane was never
/// delivered from there, and its digest differs from one that was.
fn digest(inbound: &Inbound, is_expired: bool) -> u128 {
    let message_id = inbound.properties.message_id().as_ref();
    let message_id = message_id.map_or("", |id| id.as_str());
    let timestamp = inbound.properties.timestamp().unwrap_or_default();
    let mut context = Context::new(&SHA256);
    context.update(&[u8::from(is_expired)]);
    context.update(&history_of(inbound).pass.to_le_bytes());
    context.update(&timestamp.to_le_bytes());
    context.update(&message_id.len().to_le_bytes());
    context.update(message_id.as_bytes());
    context.update(&inbound.body);
    let mut first = [0; 16];
    first.copy_from_slice(&context.finish().as_ref()[..16]);
    u128::from_le_bytes(first)
}
