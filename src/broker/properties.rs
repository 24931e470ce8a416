//! The AMQP properties of what is published (broker.md §6).
//!
//! Never `user_id`, which must equal the login or the channel closes; `expiration` only in a delay
//! band, because anywhere else the broker would delete the message.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::ShortString;

use crate::broker::Publication;
use crate::broker::route::short;

const PERSISTENT: u8 = 2;

/// Returns the properties of a publication that a delay band holds for `expiration`.
pub(super) fn of(publication: &Publication, expiration: Option<Duration>) -> BasicProperties {
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(short(&publication.message_id))
        .with_timestamp(publication.timestamp)
        .with_headers(publication.headers.clone());
    if let Some(kind) = publication.kind.message_type() {
        properties = properties
            .with_type(ShortString::from(kind))
            .with_content_type(ShortString::from("application/json"));
    }
    if let Some(event) = &publication.correlation_id {
        properties = properties.with_correlation_id(short(event.as_str()));
    }
    if let Some(expiration) = expiration {
        properties = properties.with_expiration(short(&expiration.as_millis().to_string()));
    }
    properties
}
