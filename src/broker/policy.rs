//! The policy that keeps policies of others off the queues that dead-letter.
//!
//! RabbitMQ applies one user policy to a queue: the one of the highest priority whose pattern matches.
//! A policy for all queues of a virtual host can void at-least-once dead-lettering (broker/README.md
//! §7). This policy sets nothing that the arguments do not say already; by its priority no other applies.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::message::Name;

/// A user policy, as `rabbitmqctl set_policy` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Its name in the virtual host.
    pub name: String,
    /// A regular expression for the names of the queues.
    pub pattern: String,
    /// What it applies to.
    #[serde(rename = "apply-to")]
    pub apply_to: &'static str,
    /// What it sets.
    pub definition: BTreeMap<&'static str, &'static str>,
    /// Of several policies that match, the highest applies.
    pub priority: i32,
}

impl Policy {
    /// Creates the policy for the queues of a prefix, which has no character that means something
    /// to a regular expression.
    #[must_use]
    pub fn new(prefix: &Name) -> Self {
        Self {
            name: format!("{prefix}-queues"),
            pattern: format!(r"^{prefix}\.((lane|due|delay)\.[0-9a-z_-]+|undeliverable)$"),
            apply_to: "queues",
            definition: BTreeMap::from([("overflow", "reject-publish")]),
            priority: 1000,
        }
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;
    use crate::broker::object::{Object, text};
    use crate::broker::tests::settings;
    use crate::broker::topology::Topology;

    #[test]
    fn the_policy_matches_the_queues_that_dead_letter_and_equals_their_arguments() {
        let settings = settings();
        let policy = Policy::new(&settings.prefix);
        let pattern = Regex::new(&policy.pattern).unwrap();
        let mut matched = 0;
        for object in Topology::new(&settings).objects() {
            let Object::Queue {
                name, arguments, ..
            } = object
            else {
                continue;
            };
            let arguments = arguments.inner();
            let is_matched = pattern.is_match(name.as_str());
            assert_eq!(
                is_matched,
                arguments.contains_key("x-dead-letter-exchange"),
                "{name}"
            );
            if is_matched {
                matched += 1;
                for (key, value) in &policy.definition {
                    let argument = arguments.get(format!("x-{key}").as_str());
                    assert_eq!(argument, Some(&text(value)), "{name}");
                }
            }
        }
        assert_eq!(matched, 2 * 2 + 3 + 1);
        for other in [
            "staging.lane.default",
            "x.webpush.lane.default",
            "webpush.lane.a.b",
        ] {
            assert!(!pattern.is_match(other), "{other}");
        }
    }
}
