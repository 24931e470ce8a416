//! The topology as resources of RabbitMQ's messaging topology operator, for Kubernetes.
//!
//! What can go wrong here: names on the broker may have underscores, hyphens at their ends and more
//! than 253 bytes, names of resources may not (RFC 1123). Two that become equal would be one resource, so
//! a name that had to change ends with a part of its hash. The operator deletes what a resource stands for
//! with the resource; queues are kept, and it has no such choice for the others.

use std::borrow::Cow;
use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::broker::{Binding, Definitions, Exchange, Policy, Queue};

/// The longest name that a resource may have.
const NAME_LIMIT: usize = 253;

/// So many bytes of the hash are in a name.
const HASH_SIZE: usize = 4;

impl Definitions {
    /// Returns the resources of the operator, for the `RabbitmqCluster` of this name; with a user, the
    /// permissions that it needs are among them.
    #[must_use]
    pub fn kubernetes(&self, cluster: &str, user: Option<&str>) -> Vec<Value> {
        let resource = |kind: &str, name: &str, mut spec: Value| {
            spec["vhost"] = self.vhost.clone().into();
            spec["rabbitmqClusterReference"] = json!({ "name": cluster });
            json!({ "apiVersion": "rabbitmq.com/v1beta1", "kind": kind,
                    "metadata": { "name": resource_name(&self.in_vhost(name)) }, "spec": spec })
        };
        let exchanges = self.exchanges.iter();
        let exchanges = exchanges.map(|it| resource("Exchange", &it.name, exchange(it)));
        let queues = self.queues.iter();
        let queues = queues.map(|it| resource("Queue", &it.name, queue(it)));
        let bindings = self
            .bindings
            .iter()
            .map(|it| resource("Binding", &binding_name(it), binding(it)));
        let policies = self.policies.iter();
        let policies = policies.map(|it| resource("Policy", &it.name, policy(it)));
        let permission = user.map(|user| {
            let permissions = &self.permissions;
            let spec = json!({ "user": user, "permissions": permissions });
            resource("Permission", &format!("pushrider-{user}"), spec)
        });
        policies
            .chain(exchanges)
            .chain(queues)
            .chain(bindings)
            .chain(permission)
            .collect()
    }

    /// Tells the objects of one virtual host from those of another. Those of the default one have the name
    /// alone.
    fn in_vhost<'a>(&self, name: &'a str) -> Cow<'a, str> {
        match self.vhost.as_str() {
            "/" => name.into(),
            vhost => format!("{vhost}.{name}").into(),
        }
    }
}

fn exchange(it: &Exchange) -> Value {
    json!({ "name": it.name, "type": it.kind, "durable": true, "autoDelete": false,
            "arguments": it.arguments })
}

fn queue(it: &Queue) -> Value {
    json!({ "name": it.name, "type": it.arguments.get("x-queue-type"), "durable": true,
            "autoDelete": false, "arguments": it.arguments, "deletionPolicy": "retain" })
}

fn binding(it: &Binding) -> Value {
    json!({ "source": it.source, "destination": it.destination,
            "destinationType": it.destination_type, "routingKey": it.routing_key })
}

/// Names a binding by what it connects, and by the last word of its routing key where there may be several.
fn binding_name(it: &Binding) -> String {
    let name = format!("{}.to.{}", it.source, it.destination);
    match it.routing_key.rsplit_once("*.") {
        Some((_, word)) if !it.destination.ends_with(word) => format!("{name}.{word}"),
        _ => name,
    }
}

fn policy(it: &Policy) -> Value {
    json!({ "name": it.name, "pattern": it.pattern, "applyTo": it.apply_to,
            "definition": it.definition, "priority": it.priority })
}

/// Makes a name that Kubernetes takes, of labels with letters, digits and inner hyphens.
fn resource_name(name: &str) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '.') => c,
        _ => '-',
    };
    let replaced: String = name.chars().map(plain).collect();
    let labels = replaced.split('.').map(|label| label.trim_matches('-'));
    let labels: Vec<_> = labels.filter(|label| !label.is_empty()).collect();
    let mut made = labels.join(".");
    if made == name && name.len() <= NAME_LIMIT {
        return made;
    }
    made.truncate(NAME_LIMIT - 2 * HASH_SIZE - 1);
    let mut made = made.trim_end_matches(['-', '.']).to_owned();
    if !made.is_empty() {
        made.push('-');
    }
    for byte in &digest(&SHA256, name.as_bytes()).as_ref()[..HASH_SIZE] {
        let _infallible = write!(made, "{byte:02x}");
    }
    made
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use regex::Regex;

    use super::*;
    use crate::broker::Settings;
    use crate::broker::tests::settings;
    use crate::message::Name;
    use crate::secret::Secret;

    fn subdomain() -> Regex {
        Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").unwrap()
    }

    #[test]
    fn a_name_that_kubernetes_takes_stays_and_others_are_told_apart() {
        for name in ["webpush.events", "webpush.lane.very-high", "a", "1.2"] {
            assert_eq!(resource_name(name), name);
        }
        let long = |end: &str| format!("{}{end}", "a.".repeat(130));
        let odd = [
            "webpush.lane.very_high",
            "webpush.lane.-a",
            "webpush.lane.a-",
            "_",
            "-",
            "Rabbit",
            &long("a"),
            &long("b"),
        ];
        let made: BTreeSet<_> = odd.iter().map(|name| resource_name(name)).collect();
        assert_eq!(made.len(), odd.len());
        for name in &made {
            assert!(
                subdomain().is_match(name) && name.len() <= NAME_LIMIT,
                "{name}"
            );
        }
        let renamed = resource_name("webpush.lane.very_high");
        assert!(renamed.starts_with("webpush.lane.very-high-"), "{renamed}");
    }

    #[test]
    fn every_object_is_one_resource_with_its_arguments() {
        let mut settings = settings();
        settings.lanes[1].name = Name::parse("very_high").unwrap();
        let definitions = Definitions::new(&settings).unwrap();
        let resources = definitions.kubernetes("rabbit", Some("push"));
        let of = |kind: &str| {
            let resources = resources.iter().filter(|it| it["kind"] == kind);
            resources.map(|it| &it["spec"]).collect::<Vec<_>>()
        };
        for (kind, count) in [
            ("Exchange", definitions.exchanges.len()),
            ("Queue", definitions.queues.len()),
            ("Binding", definitions.bindings.len()),
            ("Policy", 1),
            ("Permission", 1),
        ] {
            assert_eq!(of(kind).len(), count, "{kind}");
        }
        for (spec, exchange) in of("Exchange").into_iter().zip(&definitions.exchanges) {
            assert_eq!(spec["arguments"], Value::from(exchange.arguments.clone()));
            assert_eq!(
                (&spec["name"], &spec["type"]),
                (&json!(exchange.name), &json!(exchange.kind))
            );
        }
        for (spec, queue) in of("Queue").into_iter().zip(&definitions.queues) {
            assert_eq!(spec["arguments"], Value::from(queue.arguments.clone()));
            let kind = &queue.arguments["x-queue-type"];
            assert_eq!((&spec["name"], &spec["type"]), (&json!(queue.name), kind));
            assert_eq!(spec["deletionPolicy"], "retain");
        }
        for (spec, binding) in of("Binding").into_iter().zip(&definitions.bindings) {
            let members = ["source", "destination", "routingKey"].map(|it| &spec[it]);
            let expected = [&binding.source, &binding.destination, &binding.routing_key];
            assert_eq!(members, expected.map(|it| json!(it)).each_ref());
        }
        assert_eq!(
            of("Policy")[0]["pattern"],
            json!(definitions.policies[0].pattern)
        );
        assert_eq!(of("Permission")[0]["user"], "push");
        let names: BTreeSet<_> = resources
            .iter()
            .map(|it| (it["kind"].to_string(), it["metadata"]["name"].to_string()))
            .collect();
        assert_eq!(names.len(), resources.len());
        for resource in &resources {
            let name = resource["metadata"]["name"].as_str().unwrap();
            assert!(subdomain().is_match(name), "{name}");
            let spec = &resource["spec"];
            assert_eq!(
                spec["rabbitmqClusterReference"],
                json!({ "name": "rabbit" })
            );
            assert_eq!(spec["vhost"], "/");
        }
    }

    #[test]
    fn the_resources_of_two_virtual_hosts_do_not_replace_each_other() {
        let names = ["", "/push", "/shop%2Fpush"].map(|vhost| {
            let url = Secret::new(format!("amqp://localhost{vhost}"));
            let settings = Settings {
                urls: vec![url],
                ..settings()
            };
            let definitions = Definitions::new(&settings).unwrap();
            let resources = definitions.kubernetes("rabbit", None);
            resources[1]["metadata"]["name"]
                .as_str()
                .unwrap()
                .to_owned()
        });
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), 3, "{names:?}");
        assert_eq!(names[1], format!("push.{}", names[0]));
    }
}
