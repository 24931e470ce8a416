//! What can be said about an endpoint before its name is resolved.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::Host;

use crate::guard::Rules;
use crate::subscription::Endpoint;

/// Ports other than 443 that a large push service uses (push-services.md §9): always open, for
/// that host alone.
const LISTED_PORTS: [(&str, u16); 1] = [("push.kaiostech.com", 8443)];

/// Domains that never have an address (RFC 6761 §6.4, RFC 7686, RFC 9476).
const NOWHERE: [&str; 3] = ["invalid", "onion", "alt"];

/// Domains that only private networks resolve (RFC 6762, RFC 8375, and ICANN's for private use).
const PRIVATE: [&str; 3] = ["local", "internal", "home.arpa"];

impl Rules {
    /// Judges an endpoint by its scheme, port and host.
    ///
    /// # Errors
    /// If it must not be pushed to; says which setting allows it, where one can.
    pub fn check(&self, endpoint: &Endpoint) -> Result<(), Forbidden> {
        let url = endpoint.url();
        if url.scheme() != "https" && !self.http {
            return Err(Forbidden::Http);
        }
        let port = url.port_or_known_default().unwrap_or_default();
        match endpoint.host() {
            Host::Ipv4(address) => self.check_address(address.into())?,
            Host::Ipv6(address) => self.check_address(address.into())?,
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                self.check_name(name)?;
                if LISTED_PORTS.contains(&(name, port)) {
                    return Ok(());
                }
            }
        }
        if !self.ports.contains(&port) {
            return Err(Forbidden::Port(port));
        }
        Ok(())
    }

    fn check_address(&self, address: IpAddr) -> Result<(), Forbidden> {
        if self.permits_address(address) {
            Ok(())
        } else {
            Err(Forbidden::Address(address))
        }
    }

    /// Refuses names that cannot lead to a permitted address; all others are the resolver's.
    fn check_name(&self, name: &str) -> Result<(), Forbidden> {
        if NOWHERE.iter().any(|domain| is_under(name, domain)) {
            return Err(Forbidden::Nowhere);
        }
        if is_under(name, "localhost") {
            let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            if !loopback
                .into_iter()
                .any(|address| self.permits_address(address))
            {
                return Err(Forbidden::Localhost);
            }
        } else if self.allow.is_empty() && is_private_name(name) {
            return Err(Forbidden::PrivateName);
        }
        Ok(())
    }
}

/// Tells whether only a private network can know this name: a single label, or a private domain.
fn is_private_name(name: &str) -> bool {
    !name.contains('.') || PRIVATE.iter().any(|domain| is_under(name, domain))
}

/// Tells whether `name` is `domain` or below it.
fn is_under(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Why an endpoint must not be pushed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Plain `http`.
    #[error(
        "the endpoint is an http URL, and only https is pushed to; an operator can allow it with \
         guard.http"
    )]
    Http,
    /// A port that is not open; carries it.
    #[error(
        "the endpoint has port {0}, which is not pushed to; an operator can add it to guard.ports"
    )]
    Port(u16),
    /// A literal address that is not public; carries it.
    #[error(
        "the endpoint's host is {0}, which is not a public address; an operator can add its \
         network to guard.allow"
    )]
    Address(IpAddr),
    /// `localhost`, or a name below it.
    #[error(
        "the endpoint's host is localhost; an operator can add 127.0.0.0/8 or ::1/128 to \
         guard.allow"
    )]
    Localhost,
    /// A name that only a private network knows.
    #[error(
        "the endpoint's host has no public name (a single label, .local, .internal or \
         .home.arpa); an operator can add the network it is in to guard.allow"
    )]
    PrivateName,
    /// A name that never has an address.
    #[error("the endpoint's host ends in .invalid, .onion or .alt and can never be reached")]
    Nowhere,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(rules: &Rules, text: &str) -> Result<(), Forbidden> {
        rules.check(&Endpoint::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")))
    }

    fn rules(allow: &[&str], ports: &[u16], http: bool) -> Rules {
        Rules {
            allow: allow.iter().map(|net| net.parse().unwrap()).collect(),
            ports: ports.to_vec(),
            http,
        }
    }

    #[test]
    fn the_large_services_need_no_configuration() {
        for text in [
            "https://fcm.googleapis.com/fcm/send/x",
            "https://updates.push.services.mozilla.com/wpush/v2/x",
            "https://web.push.apple.com/x",
            "https://wns2-par02p.notify.windows.com/w/?token=x",
            "https://push.kaiostech.com:8443/wpush/v2/x",
            "https://push.example.net/x",
            "https://142.250.74.138/x",
            "https://push.mylocalhost/x",
            "https://push.notlocal/x",
            "https://local.example.net/x",
        ] {
            assert_eq!(check(&Rules::default(), text), Ok(()), "{text}");
        }
    }

    #[test]
    fn strangers_reach_nothing_but_public_https() {
        let address = |text: &str| Forbidden::Address(text.parse().unwrap());
        for (text, error) in [
            ("http://push.example.net/x", Forbidden::Http),
            ("http://127.0.0.1/x", Forbidden::Http),
            ("https://push.example.net:8443/x", Forbidden::Port(8443)),
            ("https://push.example.net:80/x", Forbidden::Port(80)),
            ("https://push.example.net:0/x", Forbidden::Port(0)),
            (
                "https://evil-push.kaiostech.com:8443/x",
                Forbidden::Port(8443),
            ),
            ("https://x.push.kaiostech.com:8443/x", Forbidden::Port(8443)),
            ("https://push.kaiostech.com:8444/x", Forbidden::Port(8444)),
            ("https://127.0.0.1/x", address("127.0.0.1")),
            (
                "https://169.254.169.254/latest/meta-data/",
                address("169.254.169.254"),
            ),
            ("https://10.0.0.5:8443/x", address("10.0.0.5")),
            ("https://[::1]/x", address("::1")),
            ("https://[::ffff:7f00:1]/x", address("::ffff:7f00:1")),
            ("https://[fd00:ec2::254]/x", address("fd00:ec2::254")),
            ("https://localhost/x", Forbidden::Localhost),
            ("https://localhost./x", Forbidden::Localhost),
            ("https://a.localhost/x", Forbidden::Localhost),
            ("https://printer.local/x", Forbidden::PrivateName),
            ("https://metadata.google.internal/x", Forbidden::PrivateName),
            ("https://nas.home.arpa/x", Forbidden::PrivateName),
            ("https://rabbitmq/x", Forbidden::PrivateName),
            ("https://push.invalid/x", Forbidden::Nowhere),
            ("https://abcdef.onion/x", Forbidden::Nowhere),
        ] {
            assert_eq!(check(&Rules::default(), text), Err(error), "{text}");
        }
    }

    #[test]
    fn what_an_operator_allows_is_pushed_to_and_nothing_more() {
        let loopback = rules(&["127.0.0.0/8"], &[443, 8443, 80], true);
        for text in [
            "https://localhost:8443/x",
            "https://a.localhost/x",
            "http://127.0.0.1/x",
            "https://127.9.9.9:8443/x",
            "https://[::ffff:7f00:1]/x",
            "https://ntfy.internal/x",
            "https://ntfy/x",
            "https://push.example.net/x",
        ] {
            assert_eq!(check(&loopback, text), Ok(()), "{text}");
        }
        for text in [
            "https://localhost:9/x",
            "https://[::1]/x",
            "https://10.0.0.1/x",
        ] {
            assert!(check(&loopback, text).is_err(), "{text}");
        }
        let private = rules(&["10.0.0.0/8"], &[443], false);
        let local = check(&private, "https://localhost/x");
        assert_eq!(local, Err(Forbidden::Localhost));
        assert_eq!(check(&private, "https://ntfy.internal/x"), Ok(()));
        assert_eq!(
            check(&private, "https://x.invalid/x"),
            Err(Forbidden::Nowhere)
        );
        let loopback6 = rules(&["::1/128"], &[443], false);
        assert_eq!(check(&loopback6, "https://localhost/x"), Ok(()));
    }

    #[test]
    fn an_allowed_network_opens_no_other_address() {
        let rules = rules(&["10.1.0.0/16", "fd00::/8"], &[443], false);
        for (address, permitted) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("64:ff9b::10.1.2.3", false),
            ("10.2.0.0", false),
            ("fd12::1", true),
            ("fc00::1", false),
            ("142.250.74.138", true),
        ] {
            assert_eq!(
                rules.permits_address(address.parse().unwrap()),
                permitted,
                "{address}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_endpoint_is_judged_and_none_is_permitted_past_the_rules(
            host in r"[a-z0-9.:\[\]_-]{1,30}|localhost\.?|[0-9]{1,3}(\.[0-9]{1,3}){3}|\[::[0-9a-f]{0,4}\]",
            scheme in "https?",
            port in prop::option::of(any::<u16>()),
            http in any::<bool>(),
            path in "[a-z0-9/?=%]{0,20}",
        ) {
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            let text = format!("{scheme}://{host}{port}/{path}");
            let Ok(endpoint) = Endpoint::parse(&text) else { return Ok(()) };
            let rules = Rules { http, ..Rules::default() };
            if rules.check(&endpoint).is_ok() {
                prop_assert!(http || endpoint.as_str().starts_with("https:"));
                prop_assert_eq!(endpoint.url().port_or_known_default(), Some(443));
                match endpoint.host() {
                    Host::Ipv4(address) => prop_assert!(rules.permits_address(address.into())),
                    Host::Ipv6(address) => prop_assert!(rules.permits_address(address.into())),
                    Host::Domain(name) => prop_assert!(name.contains('.'), "{}", name),
                }
            }
        }
    }
}
