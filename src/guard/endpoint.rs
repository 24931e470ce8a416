//! What can be said about an endpoint before its name is resolved.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::Host;

use crate::guard::host::is_under;
use crate::guard::{Hosts, Rules};
use crate::subscription::Endpoint;

/// Ports other than 443 that a large push service uses (classify/README.md §9): always open, for
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
        self.check_host(endpoint)?;
        match endpoint.host() {
            Host::Ipv4(address) => self.check_address(address.into())?,
            Host::Ipv6(address) => self.check_address(address.into())?,
            Host::Domain(name) => self.check_name(name)?,
        }
        self.check_port(endpoint)
    }

    /// Holds the host against the operator's policy; what the operator has named is meant.
    fn check_host(&self, endpoint: &Endpoint) -> Result<(), Forbidden> {
        if self.services.of(endpoint.origin()).is_some() {
            return Ok(());
        }
        match &self.hosts {
            Hosts::Public => Ok(()),
            Hosts::Known if endpoint.is_listed() => Ok(()),
            Hosts::Known => Err(Forbidden::Unknown),
            Hosts::These(hosts) => {
                let host = endpoint.url().host_str().unwrap_or_default();
                let named = hosts.iter().any(|pattern| pattern.matches(host));
                named.then_some(()).ok_or(Forbidden::NotListed)
            }
        }
    }

    fn check_port(&self, endpoint: &Endpoint) -> Result<(), Forbidden> {
        let port = endpoint.url().port_or_known_default().unwrap_or_default();
        let listed = match endpoint.host() {
            Host::Domain(name) => LISTED_PORTS.contains(&(name, port)),
            Host::Ipv4(_) | Host::Ipv6(_) => false,
        };
        let named = self.services.of(endpoint.origin()).is_some();
        if listed || named || self.ports.contains(&port) {
            Ok(())
        } else {
            Err(Forbidden::Port(port))
        }
    }

    fn check_address(&self, address: IpAddr) -> Result<(), Forbidden> {
        if self.denies_address(address) {
            return Err(Forbidden::Denied);
        }
        if self.permits_address(address) {
            Ok(())
        } else {
            Err(Forbidden::Address(address))
        }
    }

    /// Refuses names that cannot lead to a permitted address; all others are the resolver's. Where a
    /// proxy resolves, `guard.allow` opens a private name only by name.
    fn check_name(&self, name: &str) -> Result<(), Forbidden> {
        if NOWHERE.iter().any(|domain| is_under(name, domain)) {
            return Err(Forbidden::Nowhere);
        }
        if self.denies_name(name) {
            return Err(Forbidden::Denied);
        }
        if self.allows_name(name) {
            return Ok(());
        }
        if is_under(name, "localhost") {
            let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            if !loopback
                .into_iter()
                .any(|address| self.permits_address(address))
            {
                return Err(Forbidden::Localhost);
            }
        } else if is_private_name(name) && (self.allow.is_empty() || self.proxied) {
            return Err(Forbidden::PrivateName);
        }
        Ok(())
    }
}

/// Returns whether only a private network can know this name: a single label, or a private domain.
fn is_private_name(name: &str) -> bool {
    !name.contains('.') || PRIVATE.iter().any(|domain| is_under(name, domain))
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
    /// A host that is none of the known services, where only those are pushed to.
    #[error(
        "the endpoint's host is none of the known push services, and guard.hosts is \"known\"; an \
         operator can name it under [services], or list it in guard.hosts"
    )]
    Unknown,
    /// A host that is not among those that are pushed to.
    #[error("the endpoint's host is not in guard.hosts; an operator can add it there")]
    NotListed,
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
        "the endpoint's host is localhost; an operator can add it, or 127.0.0.0/8, or ::1/128, to \
         guard.allow"
    )]
    Localhost,
    /// A name that only a private network knows.
    #[error(
        "the endpoint's host has no public name (a single label, .local, .internal or \
         .home.arpa); an operator can add it to guard.allow, or the network it is in unless \
         push.proxy is set"
    )]
    PrivateName,
    /// A host that the operator denies.
    #[error("the endpoint's host is one that guard.deny names")]
    Denied,
    /// A name that never has an address.
    #[error("the endpoint's host ends in .invalid, .onion or .alt and can never be reached")]
    Nowhere,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::guard::HostPattern;
    use crate::origin::Service;

    fn check(rules: &Rules, text: &str) -> Result<(), Forbidden> {
        rules.check(&Endpoint::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")))
    }

    fn rules(allow: &[&str], ports: &[u16], http: bool) -> Rules {
        Rules {
            allow: allow.iter().map(|net| net.parse().unwrap()).collect(),
            ports: ports.to_vec(),
            http,
            ..Rules::default()
        }
    }

    fn hosts(texts: &[&str]) -> Vec<HostPattern> {
        let parse = |text: &&str| HostPattern::parse(text).unwrap();
        texts.iter().map(parse).collect()
    }

    /// The rules of an operator who has named one service.
    fn with_service(rules: Rules) -> Rules {
        let endpoint = Endpoint::parse("https://ntfy.example.org:8443/").unwrap();
        let services = [(endpoint.origin().clone(), Service::Ntfy)];
        Rules {
            services: services.into_iter().collect(),
            ..rules
        }
    }

    #[test]
    fn what_is_denied_is_not_pushed_to_whatever_else_holds() {
        let net = |text: &str| text.parse().unwrap();
        let rules = with_service(Rules {
            allow: vec![net("10.0.0.0/8"), net("2001:db8:64::/96")],
            allow_hosts: hosts(&["push.corp.example"]),
            deny: ["10.9.0.0/16", "142.250.0.0/16", "2001:db8:64::a00:0/104"]
                .map(net)
                .to_vec(),
            deny_hosts: hosts(&[".corp.example", "ntfy.example.org"]),
            ..Rules::default()
        });
        for text in [
            "https://10.9.1.1/x",
            "https://142.250.74.138/x",
            "https://[::ffff:8efa:4a8a]/x",
            "https://[64:ff9b::8efa:4a8a]/x",
            "https://[2001:db8:64::a01:203]/x",
            "https://push.corp.example/x",
            "https://ntfy.example.org:8443/x",
        ] {
            assert_eq!(check(&rules, text), Err(Forbidden::Denied), "{text}");
        }
        for text in [
            "https://10.8.1.1/x",
            "https://[2001:db8:64::808:808]/x",
            "https://corp.example/x",
            "https://push.example.net/x",
        ] {
            assert_eq!(check(&rules, text), Ok(()), "{text}");
        }
        for (name, address, permitted) in [
            ("push.example.net", "142.250.74.138", false),
            ("push.example.net", "142.251.74.138", true),
            ("push.corp.example", "142.251.74.138", false),
            ("push.corp.example", "10.8.0.1", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(
                rules.permits_resolved(name, address),
                permitted,
                "{name} {address}"
            );
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
    fn endpoints_reach_nothing_but_public_https() {
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
    fn a_deployment_can_push_to_the_known_services_alone() {
        let known = Rules {
            hosts: Hosts::Known,
            ..Rules::default()
        };
        let named = with_service(known.clone());
        let judged = |rules: &Rules, text: &str| {
            let endpoint = Endpoint::parse(text).unwrap();
            rules.check(&endpoint.known_to(&rules.services))
        };
        for text in [
            "https://fcm.googleapis.com/fcm/send/x",
            "https://jmt17.google.com/fcm/send/x",
            "https://updates-autopush.stage.push.services.mozilla.com/wpush/v2/x",
            "https://wns2-par02p.notify.windows.com/w/?token=x",
            "https://push.kaiostech.com:8443/wpush/v2/x",
        ] {
            assert_eq!(judged(&known, text), Ok(()), "{text}");
        }
        for text in [
            "https://push.example.net/wpush/v2/x",
            "https://fcm.googleapis.com.evil.example/fcm/send/x",
            "https://evil.example/fcm.googleapis.com/x",
            "https://142.250.74.138/x",
            "https://ntfy.example.org/x",
        ] {
            assert_eq!(judged(&known, text), Err(Forbidden::Unknown), "{text}");
            assert_eq!(judged(&named, text), Err(Forbidden::Unknown), "{text}");
        }
        let own = "https://ntfy.example.org:8443/upx?up=1";
        assert_eq!(judged(&known, own), Err(Forbidden::Unknown));
        assert_eq!(judged(&named, own), Ok(()));
        assert_eq!(judged(&with_service(Rules::default()), own), Ok(()));
    }

    #[test]
    fn a_deployment_can_list_its_hosts() {
        let listed = with_service(Rules {
            hosts: Hosts::These(hosts(&["fcm.googleapis.com", ".push.example.net"])),
            ..Rules::default()
        });
        for (text, judgement) in [
            ("https://fcm.googleapis.com/fcm/send/x", Ok(())),
            ("https://a.push.example.net/x", Ok(())),
            ("https://ntfy.example.org:8443/x", Ok(())),
            ("https://web.push.apple.com/x", Err(Forbidden::NotListed)),
            ("https://push.example.net/x", Err(Forbidden::NotListed)),
            (
                "https://a.push.example.net:8443/x",
                Err(Forbidden::Port(8443)),
            ),
            (
                "https://a.push.example.net.evil.example/x",
                Err(Forbidden::NotListed),
            ),
        ] {
            assert_eq!(check(&listed, text), judgement, "{text}");
        }
    }

    #[test]
    fn a_private_host_is_reached_by_name_alone() {
        let rules = Rules {
            allow_hosts: hosts(&["ntfy.internal", ".lan", "localhost"]),
            ..Rules::default()
        };
        let private = "10.0.0.5".parse().unwrap();
        for (name, permitted) in [
            ("ntfy.internal", true),
            ("x.ntfy.internal", false),
            ("ntfy.lan", true),
            ("localhost", true),
            ("a.localhost", false),
            ("nas.local", false),
        ] {
            let endpoint = format!("https://{name}/x");
            assert_eq!(check(&rules, &endpoint).is_ok(), permitted, "{name}");
            assert_eq!(rules.permits_resolved(name, private), permitted, "{name}");
        }
        // An unlisted host's name that leads there, and the bare address, stay forbidden.
        assert!(!rules.permits_resolved("push.example.net", private));
        assert!(!rules.permits_address(private));
        assert!(rules.permits_resolved("push.example.net", "142.250.74.138".parse().unwrap()));
    }

    #[test]
    fn behind_a_proxy_an_allowed_network_opens_no_private_name() {
        let direct = rules(&["10.0.0.0/8"], &[443], false);
        assert_eq!(check(&direct, "https://printer.local/x"), Ok(()));
        let proxied = Rules {
            proxied: true,
            ..direct
        };
        for name in [
            "https://printer.local/x",
            "https://metadata.google.internal/x",
        ] {
            assert_eq!(check(&proxied, name), Err(Forbidden::PrivateName));
        }
        assert_eq!(check(&proxied, "https://10.1.2.3/x"), Ok(()));
        let named = Rules {
            allow_hosts: hosts(&["printer.local"]),
            ..proxied
        };
        assert_eq!(check(&named, "https://printer.local/x"), Ok(()));
    }

    #[test]
    fn naming_a_service_opens_no_private_address() {
        let rules = with_service(Rules::default());
        let private = "10.0.0.5".parse().unwrap();
        assert!(!rules.permits_resolved("ntfy.example.org", private));
    }

    #[test]
    fn every_refusal_says_what_to_configure() {
        for (refusal, key) in [
            (Forbidden::Http, "guard.http"),
            (Forbidden::Unknown, "guard.hosts"),
            (Forbidden::NotListed, "guard.hosts"),
            (Forbidden::Port(8443), "guard.ports"),
            (
                Forbidden::Address(Ipv4Addr::LOCALHOST.into()),
                "guard.allow",
            ),
            (Forbidden::Localhost, "guard.allow"),
            (Forbidden::PrivateName, "guard.allow"),
        ] {
            assert!(refusal.to_string().contains(key), "{refusal}");
        }
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
