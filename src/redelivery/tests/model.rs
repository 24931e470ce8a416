//! The table beside a model of the broker: nothing is lost, and one daemon repeats nothing.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::*;

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
        prop_assert_eq!(model.table.0.lock().by_key.len(), model.table.0.lock().open.len());
    }
}
