//! The topology as an operator reads it, with the reasons, and as RabbitMQ imports it.

use std::collections::BTreeMap;

use lapin::types::{AMQPValue, FieldTable};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::broker::connect::vhost;
use crate::broker::object::{Object, alternate_exchange, reason};
use crate::broker::topology::Topology;
use crate::broker::{NeedsOperator, Permissions, Policy, Settings};

/// Everything that must exist on the broker, and what the daemon's user needs there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Definitions {
    /// The virtual host of the AMQP URL.
    pub vhost: String,
    /// Durable exchanges.
    pub exchanges: Vec<Exchange>,
    /// Durable queues.
    pub queues: Vec<Queue>,
    /// The ways from exchanges to queues and to other exchanges.
    pub bindings: Vec<Binding>,
    /// Why the arguments are what they are, by their names.
    pub reasons: BTreeMap<String, &'static str>,
    /// What keeps policies of others off the queues that dead-letter.
    pub policies: Vec<Policy>,
    /// For a user who declares nothing.
    pub permissions: Permissions,
}

/// A durable exchange.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// `topic` or `fanout`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its arguments.
    pub arguments: Map<String, Value>,
    /// What it is for.
    pub purpose: &'static str,
}

/// A durable queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its arguments, `x-queue-type` among them.
    pub arguments: Map<String, Value>,
    /// What it is for.
    pub purpose: &'static str,
}

/// The way from an exchange to a queue, or to another exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Binding {
    /// The exchange.
    pub source: String,
    /// The queue, or the other exchange.
    pub destination: String,
    /// `queue` or `exchange`.
    pub destination_type: &'static str,
    /// Which routing keys take it; of no meaning at a fanout exchange.
    pub routing_key: String,
}

impl Definitions {
    /// Draws the topology of the settings; no broker is needed.
    ///
    /// # Errors
    /// If the AMQP URL is malformed.
    pub fn new(settings: &Settings) -> Result<Self, NeedsOperator> {
        let mut definitions = Self {
            vhost: vhost(settings)?,
            exchanges: Vec::new(),
            queues: Vec::new(),
            bindings: Vec::new(),
            reasons: BTreeMap::new(),
            policies: vec![Policy::new(&settings.prefix)],
            permissions: Permissions::new(&settings.prefix),
        };
        for object in Topology::new(settings).objects() {
            definitions.add(object);
        }
        let exchanges = definitions.exchanges.iter().map(|it| &it.arguments);
        let arguments = exchanges.chain(definitions.queues.iter().map(|it| &it.arguments));
        definitions.reasons = arguments
            .flat_map(Map::keys)
            .map(|argument| (argument.clone(), reason(argument)))
            .collect();
        Ok(definitions)
    }

    /// Returns RabbitMQ's definitions format, which `rabbitmqctl import_definitions` takes.
    ///
    /// The virtual host is named by every object and not among the definitions: it must exist, for
    /// to import one that does resets its description and tags. Users are not ours to define.
    #[must_use]
    pub fn definitions(&self) -> Value {
        let vhost = &self.vhost;
        let exchange = |it: &Exchange| {
            json!({ "name": it.name, "vhost": vhost, "type": it.kind, "durable": true,
                    "auto_delete": false, "internal": false, "arguments": it.arguments })
        };
        let queue = |it: &Queue| {
            json!({ "name": it.name, "vhost": vhost, "durable": true, "auto_delete": false,
                    "arguments": it.arguments })
        };
        let binding = |it: &Binding| {
            json!({ "source": it.source, "vhost": vhost, "destination": it.destination,
                    "destination_type": it.destination_type, "routing_key": it.routing_key, "arguments": {} })
        };
        let policy = |it: &Policy| {
            json!({ "name": it.name, "vhost": vhost, "pattern": it.pattern, "apply-to": it.apply_to,
                    "definition": it.definition, "priority": it.priority })
        };
        json!({
            "policies": self.policies.iter().map(policy).collect::<Vec<_>>(),
            "exchanges": self.exchanges.iter().map(exchange).collect::<Vec<_>>(),
            "queues": self.queues.iter().map(queue).collect::<Vec<_>>(),
            "bindings": self.bindings.iter().map(binding).collect::<Vec<_>>(),
        })
    }

    fn add(&mut self, object: &Object) {
        match object {
            Object::Exchange {
                name,
                kind,
                alternate,
                purpose,
            } => self.exchanges.push(Exchange {
                name: name.to_string(),
                kind: kind.name(),
                arguments: alternate
                    .as_ref()
                    .map(|name| plain(&alternate_exchange(name)))
                    .unwrap_or_default(),
                purpose,
            }),
            Object::Queue {
                name,
                arguments,
                purpose,
            } => self.queues.push(Queue {
                name: name.to_string(),
                arguments: plain(arguments),
                purpose,
            }),
            Object::Binding {
                exchange,
                destination,
                key,
            } => self.bindings.push(Binding {
                source: exchange.to_string(),
                destination: destination.name().to_string(),
                destination_type: destination.kind(),
                routing_key: key.to_string(),
            }),
        }
    }
}

/// Arguments as JSON; ours are texts and numbers.
fn plain(arguments: &FieldTable) -> Map<String, Value> {
    let value = |value: &AMQPValue| match value.as_long_string() {
        Some(text) => text.to_string().into(),
        None => value.as_long_long_int().into(),
    };
    let arguments = arguments.inner().iter();
    arguments
        .map(|(name, argument)| (name.to_string(), value(argument)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::broker::tests::settings;
    use crate::secret::Secret;

    fn definitions() -> Definitions {
        Definitions::new(&Settings {
            urls: vec![Secret::new(
                "amqp://admin:hunter2@rabbit/shop%2fpush".to_owned(),
            )],
            ..settings()
        })
        .unwrap()
    }

    #[test]
    fn the_definitions_name_every_object_once() {
        let definitions = definitions().definitions();
        let mut imported = Vec::new();
        for (list, what) in [("exchanges", "exchange"), ("queues", "queue")] {
            for object in definitions[list].as_array().unwrap() {
                assert_eq!(
                    (&object["vhost"], &object["durable"]),
                    (&json!("shop/push"), &json!(true))
                );
                imported.push(format!("{what} {}", object["name"].as_str().unwrap()));
            }
        }
        for binding in definitions["bindings"].as_array().unwrap() {
            let member = |name: &str| binding[name].as_str().unwrap();
            imported.push(format!(
                "binding of {} to {} ({:?})",
                member("destination"),
                member("source"),
                member("routing_key")
            ));
        }
        let topology = Topology::new(&settings());
        let declared: BTreeSet<_> = topology.objects().map(Object::to_string).collect();
        assert_eq!(imported.len(), declared.len());
        assert_eq!(BTreeSet::from_iter(imported), declared);
    }

    #[test]
    fn arguments_are_the_declared_ones_and_each_has_its_reason() {
        let definitions = definitions();
        let queue = |name: &str| {
            definitions
                .queues
                .iter()
                .find(|it| it.name == name)
                .unwrap()
        };
        assert_eq!(
            Value::from(queue("webpush.lane.high").arguments.clone()),
            json!({
                "x-queue-type": "quorum", "x-delivery-limit": 20, "x-max-length-bytes": 1 << 30,
                "x-overflow": "reject-publish", "x-dead-letter-strategy": "at-least-once",
                "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "webpush.undeliverable",
            })
        );
        let events = definitions
            .exchanges
            .iter()
            .find(|it| it.name == "webpush.events")
            .unwrap();
        assert_eq!(
            Value::from(events.arguments.clone()),
            json!({ "alternate-exchange": "webpush.events.unmatched" })
        );
        for (argument, reason) in &definitions.reasons {
            assert!(!reason.is_empty(), "{argument}");
        }
        let values = definitions
            .queues
            .iter()
            .flat_map(|it| it.arguments.values());
        assert_eq!(values.filter(|value| value.is_null()).count(), 0);
    }

    #[test]
    fn it_shows_nothing_of_the_url_but_the_virtual_host() {
        let shown = serde_json::to_string(&definitions()).unwrap();
        for part in ["hunter2", "admin", "rabbit"] {
            assert!(!shown.contains(part), "{part}");
        }
    }
}
