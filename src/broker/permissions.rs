//! The permissions of a broker user for a daemon that declares nothing.
//!
//! Least privilege is three regular expressions in RabbitMQ: what a user may configure, write to
//! and read from. They name kinds of objects rather than each lane and band, so that a new lane
//! needs no new permissions; the prefix keeps them off everything else in the virtual host.

use serde::Serialize;

use crate::message::Name;

/// Regular expressions, as `rabbitmqctl set_permissions` takes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Permissions {
    /// Nothing: with `broker.declare = "passive"` or `"none"` the daemon only looks.
    pub configure: String,
    /// The exchanges it publishes to; the default exchange is known as `amq.default`.
    pub write: String,
    /// The queues it consumes.
    pub read: String,
}

impl Permissions {
    /// Creates the permissions for the objects of a prefix, which has no character that means
    /// something to a regular expression.
    #[must_use]
    pub fn new(prefix: &Name) -> Self {
        Self {
            configure: "^$".to_owned(),
            write: format!(r"^(amq\.default|{prefix}\.(results|control|delay\.[0-9a-z]+))$"),
            read: format!(r"^{prefix}\.((lane|due)\.[0-9a-z_-]+|undeliverable|control\.log)$"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use regex::Regex;

    use super::*;
    use crate::broker::object::Object;
    use crate::broker::route::Routes;
    use crate::broker::tests::settings;
    use crate::broker::topology::Topology;
    use crate::broker::{Rounding, Route, Settings};

    /// Where the daemon publishes to, as permissions name it.
    fn written(settings: &Settings) -> BTreeSet<String> {
        let routes = Routes::new(settings);
        let mut ways = vec![Route::Results("any.key".to_owned()), Route::Quarantine];
        for lane in &settings.lanes {
            ways.push(Route::Due(lane.name.clone()));
            ways.extend(settings.bands.iter().map(|&after| Route::Delay {
                lane: lane.name.clone(),
                after,
                rounding: Rounding::Up {
                    within: Duration::MAX,
                },
            }));
        }
        let exchanges = ways.iter().map(|way| routes.destination(way).exchange);
        let name = |exchange: String| match exchange.as_str() {
            "" => "amq.default".to_owned(),
            _ => exchange,
        };
        // To find the end of the stream.
        let control = routes.control();
        let exchanges = exchanges.chain([control]);
        exchanges.map(|it| name(it.to_string())).collect()
    }

    #[test]
    fn a_daemon_that_only_looks_may_do_what_it_does_and_nothing_else() {
        let mut settings = settings();
        settings.lanes[1].name = Name::parse("very-high_2").unwrap();
        settings
            .bands
            .extend([15, 90, 120, 7200].map(Duration::from_secs));
        let topology = Topology::new(&settings);
        let written = written(&settings);
        let control = topology.routes().control_log();
        let queues = topology.consumed_queues().iter().map(|it| &it.queue);
        let read: BTreeSet<_> = queues.chain([&control]).map(ToString::to_string).collect();
        let mut names: BTreeSet<_> = [
            "",
            "amq.default",
            "amq.topic",
            "xamq.default",
            "amqxdefault",
            "orders",
            "webpush.results.x",
            "webpushxresults",
            "x.webpush.results",
            "staging.results",
            "webpush.lane.a.b",
            "webpush.undeliverable.x",
            "staging.lane.default",
        ]
        .map(str::to_owned)
        .into();
        for object in topology.objects() {
            match object {
                Object::Exchange { name, .. } | Object::Queue { name, .. } => {
                    names.insert(name.to_string());
                }
                Object::Binding { .. } => {}
            }
        }
        let permissions = Permissions::new(&settings.prefix);
        let may = |pattern: &str| -> BTreeSet<_> {
            let pattern = Regex::new(pattern).unwrap();
            names
                .iter()
                .filter(|name| pattern.is_match(name))
                .cloned()
                .collect()
        };
        assert_eq!(may(&permissions.write), written);
        assert_eq!(may(&permissions.read), read);
        // Objects without a name, of which there are none.
        assert_eq!(may(&permissions.configure), [String::new()].into());
    }

    #[test]
    fn the_documents_give_the_daemon_s_user_these_permissions() {
        let permissions = Permissions::new(&settings().prefix);
        let config = include_str!("../../config/README.md");
        let systemd = include_str!("../../systemd/README.md");
        for pattern in [&permissions.write, &permissions.read] {
            assert!(config.contains(pattern), "config/README.md: {pattern}");
            let json = pattern.replace('\\', r"\\");
            assert!(systemd.contains(&json), "systemd/README.md: {json}");
        }
    }

    #[test]
    fn permissions_of_one_prefix_reach_no_other() {
        let permissions = |prefix| Permissions::new(&Name::parse(prefix).unwrap());
        let staging = permissions("web-push_2");
        for (pattern, mine, theirs) in [
            (&staging.write, "web-push_2.results", "web-push_22.results"),
            (
                &staging.read,
                "web-push_2.lane.default",
                "push_2.lane.default",
            ),
        ] {
            let pattern = Regex::new(pattern).unwrap();
            assert!(
                pattern.is_match(mine) && !pattern.is_match(theirs),
                "{pattern}"
            );
        }
    }
}
