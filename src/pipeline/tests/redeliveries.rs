//! One message delivered several times: each recipient is pushed to once.

use lapin::types::{AMQPValue, FieldTable};

use super::*;
use crate::broker::{Receipt, Redeliveries};
use crate::clock::Clock as _;
use crate::pipeline::identity;

/// A pipeline behind the table of what is not acknowledged.
struct Daemon {
    env: TestEnv,
    table: Redeliveries,
    generation: u64,
    tag: u64,
}

impl Daemon {
    fn answering(script: impl IntoIterator<Item = Says>) -> Self {
        Self {
            env: env(script),
            table: Redeliveries::default(),
            generation: 1,
            tag: 0,
        }
    }

    /// Takes a delivery and returns its receipt and its publications.
    async fn take(&mut self, inbound: &Inbound) -> (Receipt, Arc<[Publication]>) {
        self.tag += 1;
        let receipt = Receipt {
            generation: self.generation,
            channel: 0,
            tag: self.tag,
        };
        let now = self.env.clock.now().mono;
        let taken = self.table.take(receipt, identity(inbound), now);
        let publications = self.env.pipeline.process_once(inbound, taken).await;
        (receipt, publications)
    }

    fn acknowledge(&self, receipt: Receipt) {
        let now = self.env.clock.now().mono;
        self.table.acknowledged(receipt, false, now);
    }

    fn reconnect(&mut self) {
        self.generation += 1;
        self.tag = 0;
    }

    fn requests(&self) -> usize {
        self.env.service.requests.lock().len()
    }
}

fn again(inbound: &Inbound) -> Inbound {
    Inbound {
        redelivered: true,
        ..inbound.clone()
    }
}

/// What the broker makes of a message that it gave up on.
fn given_up(inbound: &Inbound, reason: &str) -> Inbound {
    let mut headers = inbound.properties.headers().clone().unwrap_or_default();
    let mut death = FieldTable::default();
    let reason = AMQPValue::LongString(reason.into());
    death.insert("reason".into(), reason);
    let deaths = vec![AMQPValue::FieldTable(death)];
    headers.insert("x-death".into(), AMQPValue::FieldArray(deaths.into()));
    Inbound {
        source: Source::Undeliverable,
        properties: inbound.properties.clone().with_headers(headers),
        redelivered: false,
        ..inbound.clone()
    }
}

#[tokio::test]
async fn a_redelivery_gets_the_result_of_the_first_delivery() {
    let mut daemon = Daemon::answering([Says::Status(503)]);
    let first = inbound(event(json!({})));
    let (_, publications) = daemon.take(&first).await;
    daemon.reconnect();
    let (_, publications_again) = daemon.take(&again(&first)).await;
    assert!(Arc::ptr_eq(&publications, &publications_again));
    assert_eq!(daemon.requests(), 1);
    let (_, another) = daemon.take(&first).await;
    assert_eq!(outline(&another), ["delivery.shop.accepted._ accepted"]);
    assert_eq!(daemon.requests(), 2, "another event");
}

#[tokio::test]
async fn a_copy_published_twice_is_pushed_once() {
    let mut daemon = Daemon::answering([Says::Status(503)]);
    let first = inbound(event(json!({})));
    let (_, publications) = daemon.take(&first).await;
    // The confirm is lost, and the same copy is published again.
    daemon.reconnect();
    let (_, publications_again) = daemon.take(&again(&first)).await;
    daemon.env.clock.advance(Duration::from_secs(5));
    let (receipt, once) = daemon.take(&returned(&publications[0])).await;
    assert_eq!(outline(&once), ["delivery.shop.accepted._ accepted"]);
    let (_, twice) = daemon.take(&returned(&publications_again[0])).await;
    assert!(Arc::ptr_eq(&once, &twice), "while it is not acknowledged");
    daemon.acknowledge(receipt);
    let (_, late) = daemon.take(&returned(&publications_again[0])).await;
    assert!(late.is_empty(), "all of it was confirmed");
    assert_eq!(daemon.requests(), 2);
}

#[tokio::test]
async fn every_chunk_is_pushed() {
    let mut daemon = Daemon::answering([]);
    let (_, chunks) = daemon.take(&inbound(campaign(120))).await;
    for chunk in chunks.iter() {
        daemon.take(&returned(chunk)).await;
    }
    assert_eq!(daemon.requests(), 120);
}

#[tokio::test]
async fn a_copy_of_a_version_without_ids_is_pushed_and_remembered() {
    let mut daemon = Daemon::answering([]);
    let headers = RetryHistory {
        pass: 1,
        ..RetryHistory::default()
    }
    .write();
    let copy = Inbound {
        source: Source::Due,
        properties: BasicProperties::default().with_headers(headers),
        ..inbound(event(json!({})))
    };
    let (_, publications) = daemon.take(&copy).await;
    assert_eq!(
        outline(&publications),
        ["delivery.shop.accepted._ accepted"]
    );
    daemon.reconnect();
    daemon.take(&again(&copy)).await;
    assert_eq!(daemon.requests(), 1);
}

#[tokio::test]
async fn an_equal_event_that_was_never_pushed_here_is_pushed() {
    let mut daemon = Daemon::answering([]);
    let tick = json!({ "subscription": fcm("a"), "payload": "tick" }).to_string();
    let (receipt, _) = daemon.take(&inbound(tick.clone())).await;
    daemon.acknowledge(receipt);
    daemon.reconnect();
    // Another daemon that died had it, or it was only buffered when the connection broke.
    daemon.take(&again(&inbound(tick))).await;
    assert_eq!(daemon.requests(), 2);
}

#[tokio::test]
async fn an_event_with_an_id_whose_acknowledgement_was_lost_is_not_pushed_again() {
    let by_property = BasicProperties::default().with_message_id("m1".into());
    let plain = json!({ "subscription": fcm("a"), "payload": "tick" }).to_string();
    let named = Inbound {
        properties: by_property,
        ..inbound(plain)
    };
    for event in [named, inbound(event(json!({})))] {
        let mut daemon = Daemon::answering([]);
        let (receipt, _) = daemon.take(&event).await;
        daemon.acknowledge(receipt);
        daemon.reconnect();
        let (_, publications) = daemon.take(&again(&event)).await;
        assert!(publications.is_empty(), "{:?}", outline(&publications));
        assert_eq!(daemon.requests(), 1);
    }
}

#[tokio::test]
async fn what_the_broker_gave_up_on_gets_the_result_of_its_last_delivery() {
    let mut daemon = Daemon::answering([Says::Status(503)]);
    let first = inbound(event(json!({})));
    let (_, publications) = daemon.take(&first).await;
    daemon.reconnect();
    let (_, expected) = daemon.take(&given_up(&first, "delivery_limit")).await;
    assert!(
        Arc::ptr_eq(&publications, &expected),
        "{:?}",
        outline(&expected)
    );
    let copy = returned(&publications[0]);
    daemon.env.clock.advance(Duration::from_secs(5));
    let (_, publications) = daemon.take(&copy).await;
    daemon.reconnect();
    let (_, expected) = daemon.take(&given_up(&copy, "delivery_limit")).await;
    assert!(
        Arc::ptr_eq(&publications, &expected),
        "{:?}",
        outline(&expected)
    );
}

#[tokio::test]
async fn what_the_broker_gave_up_on_elsewhere_ends_as_poison() {
    let mut daemon = Daemon::answering([]);
    let dead = given_up(&inbound(event(json!({}))), "delivery_limit");
    let (_, expected) = daemon.take(&dead).await;
    assert_eq!(
        outline(&expected),
        ["quarantine", "delivery.shop.rejected._ poison"]
    );
}

#[tokio::test]
async fn what_expired_in_a_lane_is_not_taken_for_an_equal_event() {
    let mut daemon = Daemon::answering([]);
    let first = inbound(event(json!({})));
    daemon.take(&first).await;
    daemon.reconnect();
    let expired = given_up(&first, "expired");
    for expired in [expired.clone(), again(&expired)] {
        let (_, expected) = daemon.take(&expired).await;
        assert_eq!(
            outline(&expected),
            ["quarantine", "delivery.shop.expired._ producer_expiration"]
        );
    }
}

#[tokio::test]
async fn a_producer_cannot_name_a_copy() {
    let mut daemon = Daemon::answering([Says::Status(503)]);
    let (_, publications) = daemon.take(&inbound(event(json!({})))).await;
    daemon.env.clock.advance(Duration::from_secs(5));
    let copy = returned(&publications[0]);
    let forged = Inbound {
        source: Source::Lane,
        ..copy.clone()
    };
    daemon.take(&forged).await;
    daemon.take(&copy).await;
    assert_eq!(daemon.requests(), 3);
}
