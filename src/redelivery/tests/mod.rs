//! What one delivery, redelivery or acknowledgement does to the table.

use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::message::CopyIds;

mod model;

const MINUTE: Duration = Duration::from_mins(1);

fn now() -> Instant {
    SystemClock.now().mono
}

fn receipt(generation: u64, tag: u64) -> Receipt {
    Receipt {
        generation,
        channel: 0,
        tag,
    }
}

fn first(digest: u128) -> Identity {
    Identity::Content {
        digest,
        again: false,
    }
}

fn again(digest: u128) -> Identity {
    Identity::Content {
        digest,
        again: true,
    }
}

fn settled(number: u32, weight: usize, is_named: bool) -> Settled<u32> {
    Settled {
        publications: Arc::new([number]),
        weight,
        is_named,
    }
}

/// Takes a delivery that is not finished.
fn open(table: &Redeliveries<u32>, receipt: Receipt, identity: Identity) -> Slot<u32> {
    match table.take(receipt, identity, now()) {
        Taken::Open(slot) => slot,
        Taken::Finished => panic!("{receipt:?} is finished"),
    }
}

fn count(table: &Redeliveries<u32>) -> usize {
    let table = table.0.lock();
    assert_eq!(table.open.len(), table.by_key.len());
    table.open.len()
}

#[tokio::test]
async fn a_redelivery_waits_for_what_is_under_way() {
    let table = Redeliveries::default();
    let (go, ready) = tokio::sync::oneshot::channel();
    let one = open(&table, receipt(1, 1), first(7));
    let two = open(&table, receipt(2, 1), again(7));
    let (one, two, ()) = tokio::join!(
        one.get_or_init(|| async { settled(ready.await.unwrap(), 0, false) }),
        two.get_or_init(|| async { settled(2, 0, false) }),
        async {
            tokio::task::yield_now().await;
            go.send(1).unwrap();
        }
    );
    assert_eq!((one[0], two[0]), (1, 1));
}

#[tokio::test]
async fn a_cancelled_delivery_is_done_by_the_next() {
    let table = Redeliveries::default();
    let one = open(&table, receipt(1, 1), first(7));
    let cancelled = one.get_or_init(std::future::pending);
    assert!(
        tokio::time::timeout(Duration::ZERO, cancelled)
            .await
            .is_err()
    );
    let two = open(&table, receipt(2, 1), again(7));
    let done = two.get_or_init(|| async { settled(2, 0, false) }).await;
    assert_eq!(done[0], 2);
}

#[test]
fn of_equal_events_each_answers_one_redelivery() {
    let table = Redeliveries::default();
    let one = open(&table, receipt(1, 1), first(7));
    let two = open(&table, receipt(1, 2), first(7));
    assert!(!Arc::ptr_eq(&one, &two));
    let slots: Vec<_> = (1..=3)
        .map(|tag| open(&table, receipt(2, tag), again(7)))
        .collect();
    assert!(Arc::ptr_eq(&slots[0], &one));
    assert!(Arc::ptr_eq(&slots[1], &two));
    assert!(slots[2].get().is_none() && Arc::strong_count(&slots[2]) == 2);
    assert_eq!(count(&table), 3);
}

/// Takes, settles and acknowledges an event with an id.
fn finish(table: &Redeliveries<u32>, receipt: Receipt, identity: Identity, at: Instant) {
    let Taken::Open(slot) = table.take(receipt, identity, at) else {
        panic!("{receipt:?} is finished");
    };
    slot.set(settled(1, 0, true)).unwrap();
    table.acknowledged(receipt, false, at);
}

#[test]
fn an_event_whose_acknowledgement_is_lost_twice_is_pushed_once() {
    let table = Redeliveries::default();
    finish(&table, receipt(1, 1), first(7), now());
    for generation in 2..5 {
        let slot = open(&table, receipt(generation, 1), again(7));
        assert!(slot.get().is_some_and(|settled| settled.is_empty()));
        if generation % 2 == 0 {
            table.acknowledged(receipt(generation, 1), false, now());
        }
    }
}

#[test]
fn equal_events_with_an_id_are_all_pushed_while_the_connection_holds() {
    let table = Redeliveries::default();
    finish(&table, receipt(1, 1), first(7), now());
    // RabbitMQ returns what is on its way to a cancelled subscription, and marks it as redelivered.
    finish(&table, receipt(1, 2), again(7), now());
    finish(&table, receipt(2, 1), again(7), now());
    finish(&table, receipt(2, 2), again(7), now());
}

#[test]
fn an_acknowledgement_that_may_be_lost_answers_one_redelivery_for_some_minutes() {
    let start = now();
    for (tag, acknowledged, again_at, is_finished) in [
        (1, 0, 0, true),
        (1, 0, 9, true),
        (1, 0, 10, false),
        // The connection held for longer than a minute afterwards.
        (2, 2, 2, false),
    ] {
        let table = Redeliveries::default();
        finish(&table, receipt(1, 1), first(7), start);
        if tag > 1 {
            let later = start + acknowledged * MINUTE;
            finish(&table, receipt(1, tag), first(8), later);
        }
        // The time counts from the first delivery of the next connection.
        finish(&table, receipt(2, 1), first(9), start);
        let is_settled = |tag| {
            let at = start + again_at * MINUTE;
            let Taken::Open(slot) = table.take(receipt(2, tag), again(7), at) else {
                panic!("only copies are finished");
            };
            slot.get().is_some_and(|settled| settled.is_empty())
        };
        assert_eq!(is_settled(2), is_finished);
        assert!(!is_settled(3), "one for one");
    }
}

#[test]
fn one_acknowledgement_covers_the_earlier_deliveries_of_its_channel() {
    let table = Redeliveries::default();
    for tag in 1..=4 {
        open(&table, receipt(1, tag), first(tag.into()));
    }
    let elsewhere = Receipt {
        channel: 1,
        ..receipt(1, 1)
    };
    open(&table, elsewhere, first(9));
    table.acknowledged(receipt(1, 4), false, now());
    assert_eq!(count(&table), 4);
    table.acknowledged(receipt(1, 2), true, now());
    assert_eq!(count(&table), 2);
    let third = open(&table, receipt(2, 1), again(3));
    assert_eq!(Arc::strong_count(&third), 2);
    assert_eq!(count(&table), 2, "found, and the one in another channel");
}

#[test]
fn nothing_unacknowledged_is_forgotten_however_much_is_settled_meanwhile() {
    let table = Redeliveries::default();
    let slow = open(&table, receipt(1, 1), first(0));
    for tag in 2..100_000 {
        let slot = open(&table, receipt(1, tag), first(tag.into()));
        slot.set(settled(0, 1 << 20, true)).unwrap();
        table.acknowledged(receipt(1, tag), false, now());
    }
    assert_eq!(count(&table), 1);
    let found = open(&table, receipt(2, 1), again(0));
    assert!(Arc::ptr_eq(&slow, &found));
}

#[test]
fn what_another_daemon_got_is_dropped_after_some_minutes() {
    let table = Redeliveries::default();
    let start = now();
    let take = |generation, tag, minutes| {
        let digest = u128::from(generation * 10 + tag);
        let at = start + minutes * MINUTE;
        let taken = table.take(receipt(generation, tag), first(digest), at);
        assert!(matches!(taken, Taken::Open(_)));
    };
    take(1, 1, 0);
    // The broker is away for long: the time counts from its next delivery.
    take(2, 1, 60);
    take(2, 2, 69);
    assert_eq!(count(&table), 3);
    take(2, 3, 70);
    assert_eq!(count(&table), 3, "without the first");
    take(3, 1, 71);
    take(3, 2, 80);
    assert_eq!(count(&table), 5);
    take(3, 3, 81);
    assert_eq!(count(&table), 3);
}

#[test]
fn lost_deliveries_hold_a_bounded_number_of_bytes() {
    let table = Redeliveries::default();
    let tags = 1..=10;
    for tag in tags.clone() {
        let slot = open(&table, receipt(1, tag), first(tag.into()));
        slot.set(settled(0, LOST_WEIGHT / 4, false)).unwrap();
    }
    open(&table, receipt(2, 1), first(99));
    let known = tags.filter(|&tag| {
        let slot = open(&table, receipt(2, tag + 1), again(tag.into()));
        slot.get().is_some()
    });
    assert_eq!(known.collect::<Vec<_>>(), [8, 9, 10], "the newest");
}

#[test]
fn acknowledged_ids_are_remembered_for_minutes_and_bounded() {
    let (start, ids) = (now(), CopyIds::new(1));
    let mut recent = Recent::default();
    let id = ids.make().number();
    recent.note(id, start);
    assert!(recent.contains(id, start + ACKNOWLEDGED_AGE));
    assert!(!recent.contains(id, start + 2 * ACKNOWLEDGED_AGE));
    recent.note(id, start + 2 * ACKNOWLEDGED_AGE);
    assert!(!recent.contains(id, start + 9 * ACKNOWLEDGED_AGE));
    recent.note(id, start);
    for _ in 1..ACKNOWLEDGED_LIMIT * 2 {
        recent.note(ids.make().number(), start);
    }
    assert!(recent.contains(id, start));
    recent.note(ids.make().number(), start);
    assert!(!recent.contains(id, start));
    assert!(recent.young.len() + recent.old.len() <= 2 * ACKNOWLEDGED_LIMIT);
}
