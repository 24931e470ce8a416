//! Which broker answers, by the properties with which it opens a connection.

use std::fmt;

use lapin::protocol::connection::{Start, parse_start};

/// The oldest RabbitMQ that has at-least-once dead-lettering and a time to live in quorum queues.
const OLDEST: (u32, u32) = (3, 10);

/// So much of a name or a version is shown.
const SHOWN: usize = 64;

/// The name and the version that a broker gives itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    name: String,
    version: String,
}

impl Product {
    /// Reads the arguments of `connection.start`; `None` if they are malformed.
    pub(super) fn read(arguments: &[u8]) -> Option<Self> {
        let (_rest, start) = parse_start(arguments).ok()?;
        let property = |name| property(&start, name);
        Some(Self {
            name: property("product"),
            version: property("version"),
        })
    }

    /// Says why this broker does not do, if so.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        if self.name != "RabbitMQ" {
            return Some(format!(
                "the broker is {self}, not RabbitMQ: whether it replicates quorum queues and dead-letters \
                 them at least once is not known; use RabbitMQ 3.10 or newer"
            ));
        }
        let mut parts = self.version.split('.').map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
            return None;
        };
        ((major, minor) < OLDEST).then(|| {
            format!(
                "the broker is {self}: before 3.10, quorum queues ignore a time to live and dead-letter \
                 at most once, so messages that wait do not come back or are lost; update RabbitMQ"
            )
        })
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.name, &*self.version) {
            ("", _) => f.write_str("without a name"),
            (name, "") => f.write_str(name),
            (name, version) => write!(f, "{name} {version}"),
        }
    }
}

/// Returns a property of the server, as far as it is shown; empty if there is none.
fn property(start: &Start, name: &str) -> String {
    let properties = start.server_properties.inner();
    let value = properties
        .get(name)
        .and_then(|value| value.as_long_string());
    let text = value.map(ToString::to_string).unwrap_or_default();
    let plain = text.chars().filter(|it| !it.is_control());
    plain.take(SHOWN).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The arguments of `connection.start` with these properties.
    pub(in crate::broker) fn start(properties: &[(&str, &str)]) -> Vec<u8> {
        let long = |bytes: &[u8]| {
            let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
            [&length, bytes].concat()
        };
        let mut table = Vec::new();
        for (name, value) in properties {
            table.push(u8::try_from(name.len()).unwrap());
            table.extend(name.as_bytes());
            table.push(b'S');
            table.extend(long(value.as_bytes()));
        }
        [vec![0, 9], long(&table), long(b"PLAIN"), long(b"en_US")].concat()
    }

    fn product(name: &str, version: &str) -> Product {
        Product::read(&start(&[("product", name), ("version", version)])).unwrap()
    }

    #[test]
    fn a_product_is_shown_by_name_and_version_without_control_characters() {
        assert_eq!(product("RabbitMQ", "3.10.8").to_string(), "RabbitMQ 3.10.8");
        assert_eq!(product("RabbitMQ", "").to_string(), "RabbitMQ");
        let nameless = Product::read(&start(&[])).unwrap();
        assert_eq!(nameless.to_string(), "without a name");
        let long = product(&format!("a\n\u{1b}{}", "b".repeat(100)), "1");
        assert_eq!(long.to_string(), format!("a{} 1", "b".repeat(63)));
        assert_eq!(Product::read(b"\0\x09\0\0\0\xff"), None);
    }

    #[test]
    fn only_rabbitmq_from_3_10_on_goes_without_a_warning() {
        for version in ["3.10.8", "3.13.7", "4.0.5", "4.3.0-rc.1", "10.0", "main"] {
            assert_eq!(
                product("RabbitMQ", version).warning(),
                None,
                "RabbitMQ {version}"
            );
        }
        for version in ["3.9.29", "3.8", "2.10.1"] {
            let warning = product("RabbitMQ", version).warning().unwrap();
            assert!(warning.starts_with(&format!("the broker is RabbitMQ {version}: before 3.10")));
        }
        let warning = product("LavinMQ", "2.1.0").warning().unwrap();
        assert!(warning.starts_with("the broker is LavinMQ 2.1.0, not RabbitMQ: "));
    }
}
