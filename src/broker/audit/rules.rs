//! Which guarantees what holds for a queue voids.

use serde_json::Value;

use super::effective::{Effective, Origin, Setting};
use crate::broker::definitions::Queue;

/// What the daemon uses a queue for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Lane,
    Due,
    Delay,
    Undeliverable,
    Quarantine,
    Unrouted,
    /// The stream of control messages.
    Control,
    /// Subscription events, which are kept until they are consumed.
    Kept,
}

impl Use {
    /// Tells the use by the name without the prefix.
    pub(super) fn of(rest: &str) -> Self {
        match rest.split('.').next().unwrap_or_default() {
            "lane" => Self::Lane,
            "due" => Self::Due,
            "delay" => Self::Delay,
            "undeliverable" => Self::Undeliverable,
            "quarantine" => Self::Quarantine,
            "unrouted" => Self::Unrouted,
            "control" => Self::Control,
            _ => Self::Kept,
        }
    }

    pub(super) fn dead_letters(self) -> bool {
        matches!(
            self,
            Self::Lane | Self::Due | Self::Delay | Self::Undeliverable
        )
    }
}

/// A value that voids a guarantee.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) key: &'static str,
    pub(super) setting: Option<Setting>,
    pub(super) voids: &'static str,
    pub(super) effect: String,
}

const AT_LEAST_ONCE: &str = "at least once";

/// The keys that a queue which dead-letters must have as declared.
const DEAD_LETTERING: [&str; 3] = [
    "dead-letter-strategy",
    "dead-letter-exchange",
    "dead-letter-routing-key",
];

/// Returns every fault of a queue that should have the arguments of `wanted`.
pub(super) fn faults(usage: Use, wanted: &Queue, found: &Effective) -> Vec<Fault> {
    let wanted = |key: &str| wanted.arguments.get(&format!("x-{key}"));
    let fault = |key: &'static str, (voids, effect): (&'static str, String)| Fault {
        key,
        setting: found.get(key).cloned(),
        voids,
        effect,
    };
    let mut faults = Vec::new();
    if let Some(after) = number(found, "expires") {
        let effect = format!(
            "RabbitMQ deletes the queue with its messages when nothing has consumed it for {after} ms"
        );
        faults.push(fault("expires", (AT_LEAST_ONCE, effect)));
    }
    faults.extend(overflow(usage, found).map(|it| fault("overflow", it)));
    for key in DEAD_LETTERING.into_iter().filter(|_| usage.dead_letters()) {
        if found.get(key).map(|it| &it.value) != wanted(key) {
            let effect = "what RabbitMQ dead-letters can be lost, or goes elsewhere";
            faults.push(fault(key, (AT_LEAST_ONCE, effect.to_owned())));
        }
    }
    for key in ["max-length", "max-length-bytes"] {
        faults.extend(length(usage, key, found).map(|it| fault(key, it)));
    }
    let time = time_to_live(usage, wanted("message-ttl"), found);
    faults.extend(time.map(|it| fault("message-ttl", it)));
    let limit = delivery_limit(usage, wanted("delivery-limit"), found);
    faults.extend(limit.map(|it| fault("delivery-limit", it)));
    faults
}

fn number(found: &Effective, key: &str) -> Option<i64> {
    found.get(key)?.value.as_i64()
}

/// Tells whether a full queue refuses what is published rather than drop messages.
fn refuses(found: &Effective) -> bool {
    let value = found.get("overflow").and_then(|it| it.value.as_str());
    value.is_some_and(|value| value.starts_with("reject-publish"))
}

fn overflow(usage: Use, found: &Effective) -> Option<(&'static str, String)> {
    let effect = if usage.dead_letters() {
        let value = found.get("overflow").map(|it| &it.value);
        if value == Some(&"reject-publish".into()) {
            return None;
        }
        "RabbitMQ dead-letters at most once without reject-publish: messages are lost when it restarts"
    } else if usage == Use::Unrouted && refuses(found) {
        "a full queue refuses results, and their events stay unacknowledged"
    } else {
        return None;
    };
    Some((AT_LEAST_ONCE, effect.to_owned()))
}

fn length(usage: Use, key: &str, found: &Effective) -> Option<(&'static str, String)> {
    let limit = number(found, key)?;
    let effect = match usage {
        // The oldest results may be dropped there.
        Use::Unrouted | Use::Control => return None,
        // Producers see a refusal and publish again.
        Use::Lane if refuses(found) => return None,
        _ if !refuses(found) => "a full queue drops its oldest messages",
        Use::Due => {
            "while it is full, what should come back from waiting stays in the delay queues"
        }
        Use::Undeliverable => "while it is full, what RabbitMQ gives up on has no result",
        Use::Lane | Use::Delay | Use::Quarantine | Use::Kept => {
            "a full queue refuses what the daemon publishes, and events stay unacknowledged"
        }
    };
    let unit = if key == "max-length" {
        "messages"
    } else {
        "bytes"
    };
    Some((AT_LEAST_ONCE, format!("{effect}, at {limit} {unit}")))
}

fn time_to_live(
    usage: Use,
    wanted: Option<&Value>,
    found: &Effective,
) -> Option<(&'static str, String)> {
    let wanted = wanted.and_then(Value::as_i64);
    let age = number(found, "message-ttl");
    let Some(age) = age else {
        let effect = "messages that wait there never come back".to_owned();
        return (usage == Use::Delay).then_some((AT_LEAST_ONCE, effect));
    };
    if wanted.is_some_and(|wanted| wanted <= age) {
        return None;
    }
    let (voids, effect) = match usage {
        Use::Unrouted | Use::Control => return None,
        Use::Lane | Use::Due => ("the event's own deadline", "events end unsent"),
        Use::Delay => ("waits as configured", "messages come back early"),
        Use::Undeliverable => (AT_LEAST_ONCE, "messages are parked without a result"),
        Use::Quarantine => ("retention as configured", "originals are dropped"),
        Use::Kept => (
            AT_LEAST_ONCE,
            "subscription events are dropped if they are not consumed",
        ),
    };
    Some((voids, format!("{effect} after {age} ms")))
}

fn delivery_limit(
    usage: Use,
    wanted: Option<&Value>,
    found: &Effective,
) -> Option<(&'static str, String)> {
    let wanted = wanted?.as_i64()?;
    if usage == Use::Quarantine {
        return reads_limit(wanted, found);
    }
    let Some(limit) = number(found, "delivery-limit").filter(|&limit| limit >= 0) else {
        let effect = "a message that kills the daemon comes back for ever".to_owned();
        return Some(("bad input costs one message", effect));
    };
    let by_policy = found.get("delivery-limit")?.origin != Origin::Argument;
    (by_policy && limit < wanted).then(|| {
        let effect = format!(
            "RabbitMQ gives up on an event after {limit} deliveries instead of {wanted}, and lost \
             connections count"
        );
        ("bad input costs one message", effect)
    })
}

/// Tells what keeps an operator from reading a quarantined original as often as it takes.
fn reads_limit(wanted: i64, found: &Effective) -> Option<(&'static str, String)> {
    let effect = match number(found, "delivery-limit") {
        // Below 0 there is no limit.
        Some(limit) if limit < 0 || limit >= wanted => return None,
        Some(limit) => format!("an original is dropped after it was read {limit} times"),
        None => "from RabbitMQ 4.0 an original is dropped after it was read 20 times".to_owned(),
    };
    Some(("retention as configured", effect))
}
