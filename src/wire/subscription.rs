//! The subscription event: what an application does to its table of subscriptions (examples/README.md, "The subscription event").

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use strum::{IntoStaticStr, VariantArray};

use super::event::EventRef;
use super::output::{self, RecipientMember, Time};
use super::recipient::RecipientRef;
use crate::app::EndpointForm;
use crate::message::{EventId, Name};
use crate::origin::Service;
use crate::outcome::{Outcome, Reason, Record};
use crate::words::words;

words!(Change);

/// What happened to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Change {
    /// It is dead: delete it.
    Gone,
    /// It belongs to an application server key that is not held here: subscribe it again.
    KeyMismatch,
}

impl Change {
    /// Returns what a reason says of the subscription; `None` if nothing.
    #[must_use]
    pub fn of(reason: Reason) -> Option<Self> {
        match reason.outcome() {
            Outcome::Gone => Some(Self::Gone),
            Outcome::Rejected if reason == Reason::KeyMismatch => Some(Self::KeyMismatch),
            Outcome::Accepted
            | Outcome::Rejected
            | Outcome::Expired
            | Outcome::Cancelled
            | Outcome::Failed => None,
        }
    }
}

/// Writes the body of a subscription event.
///
/// `sent_at` is never `null`, because the safe delete compares with it: where no request was made,
/// the browser itself has said the last word, and the moment it was noticed stands in.
#[must_use]
pub fn body(
    change: Change,
    event: &EventRef<'_>,
    recipient: &RecipientRef<'_>,
    record: &Record,
    form: EndpointForm,
) -> Bytes {
    output::write(&Body {
        version: 1,
        change: change.name(),
        reason: record.reason.name(),
        app: event.app.as_ref(),
        recipient: RecipientMember::of(recipient, form),
        push_service: recipient.service.map(Service::name),
        status: record.status,
        sent_at: Time(record.sent_at.unwrap_or(record.settled_at)),
        detected_at: Time(record.settled_at),
        event_id: event.id.as_ref(),
        metadata: event.metadata.as_deref(),
    })
}

/// Returns the routing key `subscription.<app>.<change>`.
#[must_use]
pub fn routing_key(app: &Name, change: Change) -> String {
    format!("subscription.{app}.{}", change.name())
}

/// Returns the AMQP `message_id`, equal for a repeat.
#[must_use]
pub fn message_id(event: &EventId, recipient: &RecipientRef<'_>, change: Change) -> String {
    output::message_id(&[
        b"subscription",
        event.as_str().as_bytes(),
        recipient.distinction(),
        change.name().as_bytes(),
    ])
}

/// The members in the order of the contract.
#[derive(Serialize)]
struct Body<'a> {
    version: u8,
    change: &'static str,
    reason: &'static str,
    app: Option<&'a Name>,
    recipient: RecipientMember<'a>,
    push_service: Option<&'static str>,
    status: Option<u16>,
    sent_at: Time,
    detected_at: Time,
    event_id: Option<&'a EventId>,
    metadata: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::wire::event::decode;

    #[test]
    fn only_the_end_and_another_key_change_a_subscription() {
        for &reason in Reason::ALL {
            let change = if reason == Reason::KeyMismatch {
                Some(Change::KeyMismatch)
            } else {
                (reason.outcome() == Outcome::Gone).then_some(Change::Gone)
            };
            assert_eq!(Change::of(reason), change, "{}", reason.name());
        }
    }

    #[test]
    fn a_subscription_event_is_written_as_the_contract_says() {
        let event = r#"{"id":"order-1234","app":"shop","recipient_id":7,"metadata":{},
            "subscription":{"endpoint":"https:\/\/updates.push.services.mozilla.com\/wpush\/v2\/x"}}"#;
        let body = event.into();
        let event = decode(&body).unwrap();
        let recipient = event.only_recipient();
        let noticed = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_042);
        let mut record = Record::unsent(Reason::Unsubscribed, noticed, "");
        record.status = Some(410);
        record.sent_at = Some(noticed - Duration::from_millis(42));
        let fingerprint = recipient.fingerprint.unwrap().to_hex();
        let written = |record: &Record| {
            super::body(
                Change::Gone,
                &event.about,
                &recipient,
                record,
                EndpointForm::Full,
            )
        };
        assert_eq!(
            written(&record),
            format!(
                r#"{{"version":1,"change":"gone","reason":"unsubscribed","app":"shop","recipient":{{"id":7,"endpoint":"https://updates.push.services.mozilla.com/wpush/v2/x","fingerprint":"{fingerprint}","metadata":null}},"push_service":"mozilla","status":410,"sent_at":"2023-11-14T22:13:20.000Z","detected_at":"2023-11-14T22:13:20.042Z","event_id":"order-1234","metadata":{{}}}}"#
            )
        );
        record.sent_at = None;
        let unsent = String::from_utf8(written(&record).to_vec()).unwrap();
        assert!(
            unsent.contains(r#""sent_at":"2023-11-14T22:13:20.042Z""#),
            "{unsent}"
        );
    }

    #[test]
    fn subscription_events_are_routed_by_app_and_change() {
        let shop = Name::parse("shop").unwrap();
        assert_eq!(routing_key(&shop, Change::Gone), "subscription.shop.gone");
        assert_eq!(
            routing_key(&shop, Change::KeyMismatch),
            "subscription.shop.key_mismatch"
        );
    }
}
