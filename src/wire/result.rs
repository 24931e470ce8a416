//! The delivery result: what became of one recipient (examples/README.md, "The result").

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::event::EventRef;
use super::headers::Chunk;
use super::output::{self, RecipientMember, Time, app_word, label_word};
use super::recipient::RecipientRef;
use crate::app::EndpointForm;
use crate::message::{EventId, Name};
use crate::origin::Service;
use crate::outcome::{Outcome, Reason, Record, Warning};

/// Writes the body of a delivery result.
///
/// An event that ends as a whole has the default recipient: every member of it is `null`.
#[must_use]
pub fn body(
    event: &EventRef<'_>,
    created_at: Option<SystemTime>,
    recipient: &RecipientRef<'_>,
    record: &Record,
    form: EndpointForm,
) -> Bytes {
    let warnings = event.warnings.iter().chain(&record.warnings);
    output::write(&Body {
        version: 1,
        event_id: event.id.as_ref(),
        app: event.app.as_ref(),
        label: label_word(event.label.as_ref()),
        group: event.group.as_deref(),
        outcome: record.outcome().name(),
        reason: record.reason.name(),
        recipient: RecipientMember::of(recipient, form),
        push_service: recipient.service.map(Service::name),
        status: record.status,
        attempts: record.attempts,
        requests: record.requests,
        message_url: record.message_url.as_deref(),
        vapid_key: record.vapid_key.as_ref(),
        created_at: created_at.map(Time),
        sent_at: record.sent_at.map(Time),
        settled_at: Time(record.settled_at),
        push_ms: record.elapsed.map(millis),
        warnings: warnings.map(Warning::to_string).collect(),
        detail: record.detail.as_deref(),
        metadata: event.metadata.as_deref(),
    })
}

/// Returns the routing key `delivery.<app>.<outcome>.<label>`; `app` is the configured one, if any.
#[must_use]
pub fn routing_key(app: Option<&Name>, outcome: Outcome, label: Option<&Name>) -> String {
    format!(
        "delivery.{}.{}.{}",
        app_word(app),
        outcome.name(),
        label_word(label)
    )
}

/// Returns the AMQP `message_id`: equal for a repeat of this result, different for every other.
///
/// It is made of the event's name, the endpoint, and a payload of the recipient's own. A recipient that
/// may have them all in common with one that is pushed to is told from it by its chunk and its place
/// there, so that nobody drops the result of either as a repeat.
#[must_use]
pub fn message_id(
    event: &EventId,
    chunk: Option<Chunk>,
    recipient: &RecipientRef<'_>,
    record: &Record,
) -> String {
    let told_by_place = recipient.fingerprint.is_none() || is_of_one_row(record.reason);
    let place = told_by_place.then(|| {
        let chunk = chunk.map_or(0, |chunk| chunk.n);
        [&chunk.to_be_bytes()[..], &recipient.index.to_be_bytes()[..]].concat()
    });
    let parts = [
        &b"delivery"[..],
        event.as_str().as_bytes(),
        recipient.distinction(),
        place.as_deref().unwrap_or_default(),
    ];
    match &recipient.payload {
        Some(payload) => output::message_id(&[&parts[..], &[payload]].concat()),
        None => output::message_id(&parts),
    }
}

/// Returns whether a reason is about what one recipient says and not about its endpoint. It is the same
/// whenever the event is processed.
fn is_of_one_row(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::DuplicateRecipient | Reason::InvalidSubscription | Reason::MalformedEvent
    )
}

fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// The members in the order of the contract.
#[derive(Serialize)]
struct Body<'a> {
    version: u8,
    event_id: Option<&'a EventId>,
    app: Option<&'a Name>,
    label: &'a str,
    group: Option<&'a str>,
    outcome: &'static str,
    reason: &'static str,
    recipient: RecipientMember<'a>,
    push_service: Option<&'static str>,
    status: Option<u16>,
    attempts: u32,
    requests: u32,
    message_url: Option<&'a str>,
    vapid_key: Option<&'a Name>,
    created_at: Option<Time>,
    sent_at: Option<Time>,
    settled_at: Time,
    push_ms: Option<u64>,
    warnings: Vec<String>,
    detail: Option<&'a str>,
    metadata: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Results;
    use crate::wire::event::{Event, decode};

    const EVENT: &str = r#"{"id":"order-1234","app":"shop","group":"spring","metadata":{"a" : 1.50},
        "recipients":[{"id":"u42-laptop","metadata":{"b":[]},
        "subscription":{"endpoint":"https://fcm.googleapis.com/fcm/send/x"}},{"id":7},{}]}"#;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn with_event(check: impl FnOnce(&Event<'_>)) {
        check(&decode(&EVENT.into()).unwrap());
    }

    fn recipient<'a>(event: &Event<'a>, index: usize) -> RecipientRef<'a> {
        let raw = event.recipient(index).unwrap();
        match event.decode_recipient(raw, None) {
            Ok(recipient) => recipient.about,
            Err(error) => error.about,
        }
    }

    fn accepted() -> Record {
        Record {
            reason: Reason::Accepted,
            status: Some(201),
            attempts: 1,
            requests: 2,
            message_url: Some("https://fcm.googleapis.com/0:1".into()),
            vapid_key: Name::parse("2026"),
            sent_at: Some(at(1_700_000_000_001)),
            settled_at: at(1_700_000_000_042),
            elapsed: Some(Duration::from_micros(41_900)),
            warnings: vec![Warning::TtlClamped(9_999_999)],
            detail: None,
        }
    }

    #[test]
    fn a_result_is_written_as_the_contract_says() {
        with_event(|event| {
            let recipient = recipient(event, 0);
            let created = Some(at(1_700_000_000_000));
            let body = body(
                &event.about,
                created,
                &recipient,
                &accepted(),
                EndpointForm::Full,
            );
            let fingerprint = recipient.fingerprint.unwrap().to_hex();
            assert_eq!(
                body,
                format!(
                    r#"{{"version":1,"event_id":"order-1234","app":"shop","label":"_","group":"spring","outcome":"accepted","reason":"accepted","recipient":{{"id":"u42-laptop","endpoint":"https://fcm.googleapis.com/fcm/send/x","fingerprint":"{fingerprint}","metadata":{{"b":[]}}}},"push_service":"fcm","status":201,"attempts":1,"requests":2,"message_url":"https://fcm.googleapis.com/0:1","vapid_key":"2026","created_at":"2023-11-14T22:13:20.000Z","sent_at":"2023-11-14T22:13:20.001Z","settled_at":"2023-11-14T22:13:20.042Z","push_ms":41,"warnings":["ttl_clamped: ttl 9999999 is above 2419200 seconds (28 days), which was sent instead"],"detail":null,"metadata":{{"a" : 1.50}}}}"#
                )
            );
        });
    }

    #[test]
    fn an_end_of_the_whole_event_has_every_member_too() {
        let record = Record::unsent(Reason::MalformedEvent, at(0), "ttl: expected \"x\"");
        let body = body(
            &EventRef::default(),
            None,
            &RecipientRef::default(),
            &record,
            EndpointForm::Full,
        );
        assert_eq!(
            body,
            r#"{"version":1,"event_id":null,"app":null,"label":"_","group":null,"outcome":"rejected","reason":"malformed_event","recipient":{"id":null,"endpoint":null,"fingerprint":null,"metadata":null},"push_service":null,"status":null,"attempts":0,"requests":0,"message_url":null,"vapid_key":null,"created_at":null,"sent_at":null,"settled_at":"1970-01-01T00:00:00.000Z","push_ms":null,"warnings":[],"detail":"ttl: expected \"x\"","metadata":null}"#
        );
    }

    #[test]
    fn an_app_may_keep_endpoints_out_of_its_results() {
        with_event(|event| {
            let recipient = recipient(event, 0);
            let body = body(
                &event.about,
                None,
                &recipient,
                &accepted(),
                EndpointForm::Fingerprint,
            );
            let text = str::from_utf8(&body).unwrap();
            assert!(!text.contains("fcm/send/x"), "{text}");
            assert!(
                text.contains(&recipient.fingerprint.unwrap().to_hex()),
                "{text}"
            );
        });
    }

    #[test]
    fn results_are_routed_by_app_outcome_and_label() {
        let (shop, mail) = (Name::parse("shop"), Name::parse("mail"));
        for (app, label, key) in [
            (&shop, &mail, "delivery.shop.gone.mail"),
            (&shop, &None, "delivery.shop.gone._"),
            (&None, &mail, "delivery._unknown.gone.mail"),
        ] {
            assert_eq!(
                routing_key(app.as_ref(), Outcome::Gone, label.as_ref()),
                key
            );
        }
    }

    #[test]
    fn each_recipient_has_a_message_id_of_its_own() {
        with_event(|event| {
            let id = EventId::parse("order-1234").unwrap();
            let sent = accepted();
            let twice = Record::unsent(Reason::DuplicateRecipient, at(0), "");
            let other = EventId::parse("other").unwrap();
            let chunk = |n| Some(Chunk { n, of: 2 });
            let ids = [
                message_id(&id, None, &recipient(event, 0), &sent),
                message_id(&id, chunk(1), &recipient(event, 0), &twice),
                message_id(&id, chunk(2), &recipient(event, 0), &twice),
                message_id(&id, chunk(1), &recipient(event, 1), &sent),
                message_id(&id, chunk(2), &recipient(event, 1), &sent),
                message_id(&id, None, &recipient(event, 2), &sent),
                message_id(&id, None, &RecipientRef::default(), &sent),
                message_id(&other, None, &recipient(event, 0), &sent),
            ];
            let different: std::collections::BTreeSet<_> = ids.iter().collect();
            assert_eq!(different.len(), ids.len());
            let failed = Record::unsent(Reason::Timeout, at(9), "later");
            let again = message_id(&id, chunk(1), &recipient(event, 0), &failed);
            assert_eq!(ids[0], again);
        });
    }

    #[test]
    fn results_are_published_as_the_event_wants() {
        for &outcome in Outcome::ALL {
            assert!(Results::All.wants(outcome));
            assert_eq!(
                Results::Failures.wants(outcome),
                outcome != Outcome::Accepted
            );
            assert!(!Results::None.wants(outcome));
        }
    }
}
