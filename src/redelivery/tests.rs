use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::message::CopyIds;

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
    let table = table.lock();
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

/// What may happen to a message, chosen by a number where there is a choice.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A producer publishes an event without an id, one of three contents.
    Publish(usize),
    /// A producer publishes an event with an id, once each.
    PublishNamed,
    /// A daemon publishes a copy; the confirm is lost, so it does so twice.
    PublishCopyTwice,
    /// The broker delivers the next message.
    Deliver,
    /// A delivery's pushes end.
    Settle(usize),
    /// A settled delivery is acknowledged.
    Acknowledge(usize),
    /// The same, and the acknowledgement is lost with the connection that follows.
    AcknowledgeInVain(usize),
    /// The connection breaks.
    Reconnect,
    /// Another daemon takes the next message and dies.
    ReturnElsewhere,
    /// Another daemon takes the next message, pushes and acknowledges.
    SettleElsewhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Plain(usize),
    Named(u128),
    Copy(CopyId),
}

#[derive(Clone, Copy, Debug)]
struct Message {
    kind: Kind,
    redelivered: bool,
}

/// A broker, and the table of one daemon.
#[derive(Default)]
struct Model {
    table: Redeliveries<u32>,
    queue: VecDeque<Message>,
    hand: Vec<(Receipt, Message, Option<Slot<u32>>)>,
    /// What was acknowledged and comes again all the same.
    in_vain: Vec<Message>,
    generation: u64,
    tag: u64,
    named: u128,
    published: HashMap<Kind, usize>,
    pushed_here: HashMap<Kind, usize>,
    pushed_elsewhere: HashMap<Kind, usize>,
    lost: HashMap<Kind, usize>,
}

impl Model {
    fn publish(&mut self, kind: Kind, times: usize) {
        let message = Message {
            kind,
            redelivered: false,
        };
        self.queue.extend(std::iter::repeat_n(message, times));
        *self.published.entry(kind).or_default() += 1;
    }

    fn deliver(&mut self) {
        let Some(message) = self.queue.pop_front() else {
            return;
        };
        self.tag += 1;
        let receipt = receipt(self.generation, self.tag);
        let content = |digest| Identity::Content {
            digest,
            again: message.redelivered,
        };
        let identity = match message.kind {
            Kind::Plain(content_of) => content(content_of as u128),
            Kind::Named(digest) => content(digest),
            Kind::Copy(id) => Identity::Copy(id),
        };
        let slot = match self.table.take(receipt, identity, now()) {
            Taken::Open(slot) => Some(slot),
            Taken::Finished => None,
        };
        self.hand.push((receipt, message, slot));
    }

    fn settle(&mut self, at: usize) {
        if let Some((_, message, Some(slot))) = self.hand.get(at)
            && slot
                .set(settled(0, 1, matches!(message.kind, Kind::Named(_))))
                .is_ok()
        {
            *self.pushed_here.entry(message.kind).or_default() += 1;
        }
    }

    fn acknowledge(&mut self, at: usize, in_vain: bool) {
        let is_done = |slot: &Option<Slot<u32>>| slot.as_ref().is_none_or(|it| it.get().is_some());
        if self.hand.get(at).is_some_and(|(.., slot)| is_done(slot)) {
            let (receipt, message, _) = self.hand.remove(at);
            self.table.acknowledged(receipt, false, now());
            if in_vain {
                self.in_vain.push(message);
                *self.lost.entry(message.kind).or_default() += 1;
            }
        }
    }

    fn reconnect(&mut self) {
        let held = self.hand.drain(..).map(|(_, message, _)| message);
        let back: Vec<_> = held.chain(self.in_vain.drain(..)).collect();
        for message in back.into_iter().rev() {
            self.queue.push_front(Message {
                redelivered: true,
                ..message
            });
        }
        self.generation += 1;
        self.tag = 0;
    }

    fn step(&mut self, step: Step) {
        let at = |number: usize| number % self.hand.len().max(1);
        match step {
            Step::Publish(content) => self.publish(Kind::Plain(content), 1),
            Step::PublishNamed => {
                self.named += 1;
                self.publish(Kind::Named(100 + self.named), 1);
            }
            Step::PublishCopyTwice => {
                self.named += 1;
                let drawn = u64::try_from(self.named).unwrap();
                self.publish(Kind::Copy(CopyIds::new(drawn).make()), 2);
            }
            Step::Deliver => self.deliver(),
            Step::Settle(number) => self.settle(at(number)),
            Step::Acknowledge(number) => self.acknowledge(at(number), false),
            Step::AcknowledgeInVain(number) => self.acknowledge(at(number), true),
            Step::Reconnect => self.reconnect(),
            Step::ReturnElsewhere => {
                if let Some(message) = self.queue.front_mut() {
                    message.redelivered = true;
                }
            }
            Step::SettleElsewhere => {
                if let Some(message) = self.queue.pop_front() {
                    *self.pushed_elsewhere.entry(message.kind).or_default() += 1;
                }
            }
        }
    }

    /// Delivers, settles and acknowledges until nothing is left.
    fn finish(&mut self) {
        self.reconnect();
        while !self.queue.is_empty() {
            self.deliver();
            self.settle(0);
            self.acknowledge(0, false);
        }
        assert!(self.hand.is_empty());
    }

    fn check(&self) {
        for (kind, published) in &self.published {
            let count = |of: &HashMap<Kind, usize>| of.get(kind).copied().unwrap_or_default();
            let (here, elsewhere) = (count(&self.pushed_here), count(&self.pushed_elsewhere));
            assert!(here + elsewhere >= *published, "{kind:?} is lost");
            match kind {
                // An acknowledgement that was lost costs a push.
                Kind::Plain(_) => assert!(here <= published + count(&self.lost), "{kind:?}"),
                Kind::Named(_) | Kind::Copy(_) => assert!(here <= 1, "{kind:?} twice"),
            }
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..3usize).prop_map(Step::Publish),
        1 => Just(Step::PublishNamed),
        1 => Just(Step::PublishCopyTwice),
        4 => Just(Step::Deliver),
        3 => any::<usize>().prop_map(Step::Settle),
        3 => any::<usize>().prop_map(Step::Acknowledge),
        1 => any::<usize>().prop_map(Step::AcknowledgeInVain),
        1 => Just(Step::Reconnect),
        1 => Just(Step::ReturnElsewhere),
        1 => Just(Step::SettleElsewhere),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_nothing_is_lost_and_one_daemon_repeats_nothing(
        steps in prop::collection::vec(any_step(), 0..120),
    ) {
        let mut model = Model { generation: 1, ..Model::default() };
        for step in steps {
            model.step(step);
        }
        model.finish();
        model.check();
        prop_assert_eq!(model.table.lock().by_key.len(), model.table.lock().open.len());
    }
}
