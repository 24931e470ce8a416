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
