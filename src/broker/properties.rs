//! The AMQP properties of what is published (broker/README.md §6).
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lapin::types::FieldTable;

    use super::*;
    use crate::broker::Route;
    use crate::message::EventId;
    use crate::wire::Kind;

    fn publication(kind: Kind) -> Publication {
        Publication {
            to: Route::Quarantine,
            kind,
            message_id: "m".repeat(300),
            correlation_id: EventId::parse(&"e".repeat(128)),
            timestamp: 1,
            headers: FieldTable::default(),
            body: Bytes::new(),
        }
    }

    #[test]
    fn every_kind_is_persistent_named_and_never_dangerous() {
        for &kind in Kind::ALL {
            let properties = of(&publication(kind), None);
            assert_eq!(*properties.delivery_mode(), Some(PERSISTENT));
            assert_eq!(*properties.user_id(), None);
            assert_eq!(*properties.expiration(), None);
            assert_eq!(*properties.message_id(), Some(short(&"m".repeat(255))));
            let content = properties.content_type().as_ref();
            let json = content.is_some_and(|content| content.as_str() == "application/json");
            assert_eq!(json, kind != Kind::Quarantine, "{kind:?}");
            assert_eq!(properties.kind().is_some(), json, "{kind:?}");
        }
    }

    #[test]
    fn a_delay_band_holds_for_whole_milliseconds() {
        let waits = Some(Duration::from_micros(1_500_700));
        let properties = of(&publication(Kind::Retry), waits);
        assert_eq!(*properties.expiration(), Some(short("1500")));
    }
}
