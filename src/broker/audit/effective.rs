//! What holds for a queue: its arguments, one user policy and one operator policy together, by the
//! rules of broker/README.md §7.

use std::collections::BTreeMap;

use serde_json::Value;

use super::export::{ExportedPolicy, ExportedQueue};

/// The keys that can void a guarantee.
const KEYS: [&str; 9] = [
    "overflow",
    "expires",
    "max-length",
    "max-length-bytes",
    "message-ttl",
    "delivery-limit",
    "dead-letter-strategy",
    "dead-letter-exchange",
    "dead-letter-routing-key",
];

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An argument of the queue.
    Argument,
    /// The user policy of this name.
    Policy(String),
    /// The operator policy of this name.
    OperatorPolicy(String),
}

/// A value that holds for a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// A number or a text.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// What holds for a queue, by the keys of policies.
pub(super) type Effective = BTreeMap<&'static str, Setting>;

/// Returns what holds for a queue with these policies.
pub(super) fn effective(
    queue: &ExportedQueue,
    policy: Option<&ExportedPolicy>,
    operator: Option<&ExportedPolicy>,
) -> Effective {
    let arguments = queue.arguments();
    let setting = |value: &Value, origin| Setting {
        value: value.clone(),
        origin,
    };
    let of = |policy: &ExportedPolicy, key: &str, origin: fn(String) -> Origin| {
        let definition = policy.definition();
        let value = definition.get(key)?;
        Some(setting(value, origin(policy.name.clone())))
    };
    let mut effective = Effective::new();
    for key in KEYS {
        let user = policy.and_then(|it| of(it, key, Origin::Policy));
        let operator = operator.and_then(|it| of(it, key, Origin::OperatorPolicy));
        let argument = arguments.get(&format!("x-{key}"));
        let argument = argument.map(|value| setting(value, Origin::Argument));
        let merged = if is_minimum(key) {
            minimum(key, minimum(key, argument, user), operator)
        } else if key == "expires" {
            minimum(key, user, operator).or(argument)
        } else if key == "overflow" {
            operator.or(user).or(argument)
        } else {
            argument.or(operator).or(user)
        };
        effective.extend(merged.map(|setting| (key, setting)));
    }
    effective
}

fn is_minimum(key: &str) -> bool {
    matches!(
        key,
        "max-length" | "max-length-bytes" | "message-ttl" | "delivery-limit"
    )
}

fn minimum(key: &str, first: Option<Setting>, second: Option<Setting>) -> Option<Setting> {
    let number = |setting: &Setting| match setting.value.as_i64() {
        // From RabbitMQ 4.0 on, a negative delivery limit is none and wins.
        Some(limit) if key == "delivery-limit" && limit < 0 => i64::MIN,
        number => number.unwrap_or(i64::MAX),
    };
    match (first, second) {
        (Some(first), Some(second)) if number(&second) < number(&first) => Some(second),
        (first, second) => first.or(second),
    }
}
