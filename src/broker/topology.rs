//! The topology as data: every exchange, queue and binding.
//!
//! The names stand in config/README.md, "Names on the broker", the arguments and their reasons in
//! broker/README.md §2.
//! Whatever the broker itself dead-letters goes at-least-once: the default strategy loses messages
//! when the broker restarts. That strategy needs quorum queues which refuse rather than drop when
//! they are full, and due queues without a limit, so that waiting messages can always come back.

use lapin::types::{FieldTable, ShortString};

use crate::broker::object::{
    Destination, ExchangeKind, Object, at_least_once, insert, number, quorum, stream, text, ttl,
};
use crate::broker::route::{Routes, short};
use crate::broker::{Settings, Source};
use crate::message::Name;

/// How many undeliverable messages are in flight: they are rare, and parked without a push.
const UNDELIVERABLE_PREFETCH: u16 = 16;

/// How often a quarantined original may be read. RabbitMQ counts each time that one is taken and given
/// back, and from 4.0 drops it after 20 where no limit is set.
const READS_LIMIT: u64 = 1_000_000;

/// The routing key of what a daemon writes into the stream of control messages to find its end.
pub(super) const MARKER_KEY: &str = "pushrider.marker";

/// A queue that is consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Consumed {
    pub(super) queue: ShortString,
    pub(super) lane: Name,
    pub(super) source: Source,
    pub(super) prefetch: u16,
}

/// Every name and argument, made once from the settings.
#[derive(Debug)]
pub(super) struct Topology {
    routes: Routes,
    essential: Vec<Object>,
    delays: Vec<Object>,
    control: Vec<Object>,
    consumed: Vec<Consumed>,
}

impl Topology {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut topology = Self {
            routes: Routes::new(settings),
            essential: Vec::new(),
            delays: Vec::new(),
            control: Vec::new(),
            consumed: Vec::new(),
        };
        topology.essential = topology.essential(settings);
        topology.delays = topology.delays();
        topology.control = topology.control(settings);
        topology.consumed = topology.consumed(settings);
        topology
    }

    /// Returns what must exist before anything is consumed.
    pub(super) fn essential_objects(&self) -> &[Object] {
        &self.essential
    }

    /// Returns the delay bands, which may be declared while messages are consumed already.
    pub(super) fn delay_objects(&self) -> &[Object] {
        &self.delays
    }

    /// Returns what control messages need; nothing if none are read.
    pub(super) fn control_objects(&self) -> &[Object] {
        &self.control
    }

    /// Returns everything, in the order in which it can be declared.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.essential
            .iter()
            .chain(&self.delays)
            .chain(&self.control)
    }

    /// Returns the queues that are consumed.
    pub(super) fn consumed_queues(&self) -> &[Consumed] {
        &self.consumed
    }

    /// Returns the ways from here to a queue.
    pub(super) fn routes(&self) -> &Routes {
        &self.routes
    }

    fn name(&self, rest: &str) -> ShortString {
        self.routes.name(rest)
    }

    fn essential(&self, settings: &Settings) -> Vec<Object> {
        let mut objects = self.output(settings);
        let unmatched = self.name("events.unmatched");
        let purpose = "the way of events whose routing key names no lane";
        objects.push(Object::fanout(unmatched.clone(), purpose));
        objects.push(Object::Exchange {
            name: self.name("events"),
            kind: ExchangeKind::Topic,
            alternate: Some(unmatched.clone()),
            purpose: "where producers publish events, by <app>.<lane>",
        });
        for lane in &settings.lanes {
            let queue = self.name(&format!("lane.{}", lane.name));
            let mut arguments = self.parking(settings, "undeliverable");
            if let Some(limit) = lane.max_bytes {
                insert(&mut arguments, "x-max-length-bytes", number(limit));
            }
            let key = short(&format!("*.{}", lane.name));
            let purpose = "the events of this lane";
            objects.push(Object::queue(queue.clone(), arguments, purpose));
            objects.push(Object::binding(self.name("events"), queue.clone(), key));
            if lane.name.as_str() == "default" {
                objects.push(Object::binding(unmatched.clone(), queue, short("")));
            }
            let due = self.routes.due(&lane.name);
            let parking = self.parking(settings, "undeliverable");
            let purpose = "what comes back from waiting, and the chunks of large events";
            objects.push(Object::queue(due, parking, purpose));
        }
        objects
    }

    /// Where results and what cannot be handled go.
    fn output(&self, settings: &Settings) -> Vec<Object> {
        let unrouted = self.name("unrouted");
        let mut dropping = quorum();
        insert(&mut dropping, "x-overflow", text("drop-head"));
        insert(
            &mut dropping,
            "x-max-length",
            number(settings.unrouted_messages.into()),
        );
        insert(&mut dropping, "x-message-ttl", ttl(settings.unrouted_age));
        let mut kept = quorum();
        insert(&mut kept, "x-message-ttl", ttl(settings.quarantine_age));
        insert(&mut kept, "x-delivery-limit", number(READS_LIMIT));
        let parking = self.parking(settings, "quarantine");
        let mut objects = vec![
            Object::queue(
                self.name("quarantine"),
                kept,
                "originals of what was not understood or broke the daemon, for people to look at",
            ),
            Object::queue(
                self.name("undeliverable"),
                parking,
                "what the broker gave up on; the daemon publishes the results",
            ),
            Object::fanout(unrouted.clone(), "the way of results no queue is bound for"),
            Object::queue(
                unrouted.clone(),
                dropping,
                "results no queue is bound for; the oldest are dropped",
            ),
            Object::binding(unrouted.clone(), unrouted.clone(), short("")),
            Object::Exchange {
                name: self.name("results"),
                kind: ExchangeKind::Topic,
                alternate: Some(unrouted),
                purpose: "results, summaries and subscription events",
            },
            // A binding keeps progress off the alternate exchange, whether or not a queue takes it.
            Object::Exchange {
                name: self.name("progress"),
                kind: ExchangeKind::Topic,
                alternate: None,
                purpose: "progress of campaigns, dropped where no queue is bound for it",
            },
            Object::Binding {
                exchange: self.name("results"),
                destination: Destination::Exchange(self.name("progress")),
                key: short("progress.#"),
            },
        ];
        for (queue, key, purpose) in [
            (
                "dead-subscriptions",
                "subscription.*.gone",
                "subscriptions to delete, kept until they are consumed",
            ),
            (
                "resubscribe",
                "subscription.*.key_mismatch",
                "subscriptions of another application server key, kept until they are consumed",
            ),
        ] {
            let queue = self.name(queue);
            objects.push(Object::queue(queue.clone(), quorum(), purpose));
            objects.push(Object::binding(self.name("results"), queue, short(key)));
        }
        objects
    }

    fn delays(&self) -> Vec<Object> {
        self.routes
            .bands()
            .flat_map(|(band, name)| {
                let mut arguments = at_least_once();
                insert(&mut arguments, "x-message-ttl", ttl(band));
                [
                    Object::fanout(name.clone(), "the way into this delay band"),
                    Object::queue(
                        name.clone(),
                        arguments,
                        "waits so long, then goes to the due queue its routing key names",
                    ),
                    Object::binding(name.clone(), name.clone(), short("")),
                ]
            })
            .collect()
    }

    fn control(&self, settings: &Settings) -> Vec<Object> {
        let Some(control) = settings.control else {
            return Vec::new();
        };
        let (exchange, queue) = (self.routes.control(), self.routes.control_log());
        let mut objects = vec![
            Object::Exchange {
                name: exchange.clone(),
                kind: ExchangeKind::Topic,
                alternate: None,
                purpose: "where producers cancel and forget, by <app>.cancel and <app>.forget",
            },
            Object::queue(
                queue.clone(),
                stream(control.stream_bytes, control.bounds.retention),
                "what is cancelled and forgotten; every daemon reads it from its beginning",
            ),
        ];
        for key in ["*.cancel", "*.forget", MARKER_KEY] {
            let (exchange, queue) = (exchange.clone(), queue.clone());
            objects.push(Object::binding(exchange, queue, short(key)));
        }
        objects
    }

    fn consumed(&self, settings: &Settings) -> Vec<Consumed> {
        let mut consumed = Vec::new();
        for lane in &settings.lanes {
            consumed.push(Consumed {
                queue: self.name(&format!("lane.{}", lane.name)),
                lane: lane.name.clone(),
                source: Source::Lane,
                prefetch: lane.prefetch,
            });
            consumed.push(Consumed {
                queue: self.routes.due(&lane.name),
                lane: lane.name.clone(),
                source: Source::Due,
                prefetch: lane.due_prefetch,
            });
        }
        if let Some(lane) = default_lane(settings) {
            consumed.push(Consumed {
                queue: self.name("undeliverable"),
                lane: lane.clone(),
                source: Source::Undeliverable,
                prefetch: UNDELIVERABLE_PREFETCH,
            });
        }
        consumed
    }

    /// The arguments of a queue whose poison ends in the queue `park`.
    fn parking(&self, settings: &Settings, park: &str) -> FieldTable {
        let mut arguments = at_least_once();
        insert(
            &mut arguments,
            "x-delivery-limit",
            number(settings.delivery_limit.into()),
        );
        insert(
            &mut arguments,
            "x-dead-letter-routing-key",
            text(self.name(park).as_str()),
        );
        arguments
    }
}

/// Returns the lane of what has none of its own: the default one, or the first.
pub(super) fn default_lane(settings: &Settings) -> Option<&Name> {
    let is_default = |name: &&Name| name.as_str() == "default";
    let mut lanes = settings.lanes.iter().map(|lane| &lane.name);
    lanes.clone().find(is_default).or_else(|| lanes.next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::settings;

    #[test]
    fn every_queue_that_dead_letters_loses_nothing() {
        let topology = Topology::new(&settings());
        let mut dead_lettering = 0;
        for object in topology.objects() {
            let Object::Queue {
                name, arguments, ..
            } = object
            else {
                continue;
            };
            let says = |key: &str| arguments.inner().get(key).cloned();
            let kind = match name.as_str() {
                "webpush.control.log" => "stream",
                _ => "quorum",
            };
            assert_eq!(says("x-queue-type"), Some(text(kind)), "{name}");
            if says("x-dead-letter-exchange").is_some() {
                dead_lettering += 1;
                assert_eq!(
                    says("x-dead-letter-strategy"),
                    Some(text("at-least-once")),
                    "{name}"
                );
                assert_eq!(says("x-overflow"), Some(text("reject-publish")), "{name}");
            }
            if name.as_str().contains(".delay.") {
                assert_eq!(says("x-dead-letter-routing-key"), None, "{name}");
            }
            if name.as_str().contains(".due.") {
                assert_eq!(says("x-max-length-bytes"), None, "{name}");
            }
        }
        assert_eq!(dead_lettering, 2 * 2 + 1 + 3);
    }

    #[test]
    fn without_control_nothing_of_it_is_declared() {
        let names = |control| {
            let topology = Topology::new(&Settings {
                control,
                ..settings()
            });
            let objects = topology.objects().map(ToString::to_string);
            objects.filter(|it| it.contains("control")).count()
        };
        assert_eq!(names(None), 0);
        assert_eq!(names(settings().control), 5);
    }

    #[test]
    fn what_a_binding_names_is_declared_before_it() {
        let topology = Topology::new(&settings());
        let mut known = Vec::new();
        for object in topology.objects() {
            match object {
                Object::Exchange {
                    name, alternate, ..
                } => {
                    assert!(
                        alternate
                            .iter()
                            .all(|name| known.contains(&("exchange", name)))
                    );
                    known.push(("exchange", name));
                }
                Object::Queue { name, .. } => known.push(("queue", name)),
                Object::Binding {
                    exchange,
                    destination,
                    ..
                } => {
                    assert!(known.contains(&("exchange", exchange)), "{exchange}");
                    let destination = (destination.kind(), destination.name());
                    assert!(known.contains(&destination), "{destination:?}");
                }
            }
        }
    }

    #[test]
    fn each_lane_and_its_due_queue_and_the_undeliverable_are_consumed() {
        let topology = Topology::new(&settings());
        let queues: Vec<_> = topology
            .consumed_queues()
            .iter()
            .map(|consumed| (consumed.queue.as_str(), consumed.source, consumed.prefetch))
            .collect();
        assert_eq!(
            queues,
            [
                ("webpush.lane.default", Source::Lane, 100),
                ("webpush.due.default", Source::Due, 50),
                ("webpush.lane.high", Source::Lane, 100),
                ("webpush.due.high", Source::Due, 50),
                (
                    "webpush.undeliverable",
                    Source::Undeliverable,
                    UNDELIVERABLE_PREFETCH
                ),
            ]
        );
    }
}
