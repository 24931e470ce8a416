//! Which hosts to push to, as an operator writes it: networks, hosts, families of push services.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Unexpected, Visitor};
use serde::{Serialize, Serializer};

use crate::config::text::parsed;
use crate::guard::HostPattern;
use crate::origin::Service;

/// What may be pushed to although it is private: a network (a bare address is a network of one), or
/// a host by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    Network(IpNet),
    Host(HostPattern),
}

impl Allowed {
    /// The widest private ranges there are (10.0.0.0/8, fc00::/7): a wider exception to the guard
    /// would be no guard.
    fn parse(text: &str) -> Option<Self> {
        let widest = |network: &IpNet| match network {
            IpNet::V4(_) => 8,
            IpNet::V6(_) => 7,
        };
        Self::of_any_width(text).filter(|allowed| match allowed {
            Self::Network(network) => network.prefix_len() >= widest(network),
            Self::Host(_) => true,
        })
    }

    fn of_any_width(text: &str) -> Option<Self> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => Some(IpNet::from(address)),
            Err(_) => text.parse::<IpNet>().ok().map(|network| network.trunc()),
        };
        let host = || HostPattern::parse(text).filter(HostPattern::is_name);
        network
            .map(Self::Network)
            .or_else(|| host().map(Self::Host))
    }

    /// Parts networks from hosts.
    pub(super) fn parted<'a>(
        written: impl Iterator<Item = &'a Self>,
    ) -> (Vec<IpNet>, Vec<HostPattern>) {
        let (mut networks, mut hosts) = (Vec::new(), Vec::new());
        for one in written {
            match one {
                Self::Network(network) => networks.push(*network),
                Self::Host(host) => hosts.push(host.clone()),
            }
        }
        (networks, hosts)
    }
}

/// What may not be pushed to: a network of any width, or a host by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denied(pub(super) Allowed);

impl Serialize for Denied {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Denied {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a network such as \"10.1.0.0/16\", or the name of a host";
        parsed(deserializer, expected, |written| {
            Allowed::of_any_width(written.text()?).map(Self)
        })
    }
}

impl Serialize for Allowed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Network(network) => serializer.collect_str(network),
            Self::Host(host) => serializer.collect_str(host),
        }
    }
}

impl<'de> Deserialize<'de> for Allowed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a network such as \"10.1.0.0/16\", at most a /8 (IPv6: a /7) wide, or the \
                        name of a host";
        parsed(deserializer, expected, |written| {
            Self::parse(written.text()?)
        })
    }
}

/// One host, or every host below a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostText(pub(super) HostPattern);

impl<'de> Deserialize<'de> for HostText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a host such as \"push.example.org\", or \".example.org\" for every name \
                        below it";
        parsed(deserializer, expected, |written| {
            HostPattern::parse(written.text()?).map(Self)
        })
    }
}

/// The hosts that may be pushed to: a word, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hosts {
    Public,
    Known,
    These(Vec<HostText>),
}

const PUBLIC: &str = "public";
const KNOWN: &str = "known";

impl Serialize for Hosts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Public => serializer.serialize_str(PUBLIC),
            Self::Known => serializer.serialize_str(KNOWN),
            Self::These(hosts) => serializer.collect_seq(hosts.iter().map(|it| it.0.to_string())),
        }
    }
}

impl<'de> Deserialize<'de> for Hosts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordOrList)
    }
}

struct WordOrList;

impl<'de> Visitor<'de> for WordOrList {
    type Value = Hosts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"public\", \"known\" or a list of hosts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Hosts, E> {
        match text {
            PUBLIC => Ok(Hosts::Public),
            KNOWN => Ok(Hosts::Known),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Hosts, A::Error> {
        let mut hosts = Vec::new();
        while let Some(host) = list.next_element()? {
            hosts.push(host);
        }
        Ok(Hosts::These(hosts))
    }
}

/// A family of push services, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Family(pub(super) Service);

impl Serialize for Family {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl<'de> Deserialize<'de> for Family {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a family of push services (\"fcm\", \"mozilla\", \"apple\", \"wns\", \
                        \"ntfy\", \"nextpush\" or \"other\")";
        parsed(deserializer, expected, |written| {
            Service::named(written.text()?).map(Self)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_offered() {
        for &service in Service::ALL {
            let text = toml::Value::from(service.name());
            assert_eq!(text.try_into::<Family>().unwrap(), Family(service));
        }
        let error = toml::Value::from("gcm").try_into::<Family>().unwrap_err();
        for &service in Service::ALL {
            assert!(
                error
                    .to_string()
                    .contains(&format!("\"{}\"", service.name()))
            );
        }
    }

    #[test]
    fn what_is_read_is_written_the_same() {
        for (text, hosts) in [
            ("\"public\"", Hosts::Public),
            ("\"known\"", Hosts::Known),
            ("[]", Hosts::These(Vec::new())),
        ] {
            let value: toml::Table = toml::from_str(&format!("hosts = {text}")).unwrap();
            assert_eq!(value["hosts"].clone().try_into::<Hosts>().unwrap(), hosts);
            assert_eq!(toml::Value::try_from(&hosts).unwrap(), value["hosts"]);
        }
        for text in ["10.1.0.0/16", "ntfy.lan", ".lan", "fd00::/8"] {
            let allowed = Allowed::parse(text).unwrap();
            assert_eq!(toml::Value::try_from(allowed).unwrap().as_str(), Some(text));
        }
    }
}
