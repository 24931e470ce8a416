//! Keeps web pages away from the control listener, which has no authentication.
//!
//! A page of any site can make a browser send requests to this machine: straight, with its own
//! `Origin`, or under a name of its own that resolves to this machine (DNS rebinding), with that
//! name as `Host`. So both must name the listener itself.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{HOST, ORIGIN};
use http::uri::{Authority, Uri};

/// The hosts under which a listener is asked.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Further names for it, without a port.
    pub(crate) names: Vec<String>,
}

/// Why a request is not for this listener.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Foreign {
    /// It names no host, or more than one.
    #[error("the request must have one Host header")]
    NoHost,
    /// It names another host.
    #[error(
        "the Host {0:?} is not this listener's; use localhost, 127.0.0.1 or the address listened on, \
         or allow the name with --control-name"
    )]
    Host(String),
    /// A page of another origin sent it.
    #[error("a page of {0:?} may not control the sandbox; only its own page may")]
    Origin(String),
}

impl Hosts {
    /// Checks that a request names this listener, and that no page of another origin sent it.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Foreign> {
        let host = named(uri, headers).ok_or(Foreign::NoHost)?;
        let authority = host.parse().ok();
        if !authority.is_some_and(|authority| self.include(&authority)) {
            return Err(Foreign::Host(host));
        }
        let same = |origin: &str| {
            let stripped = origin.split_once("://");
            stripped.is_some_and(|(_, origin)| origin.eq_ignore_ascii_case(&host))
        };
        for origin in headers.get_all(ORIGIN) {
            let origin = String::from_utf8_lossy(origin.as_bytes());
            if !same(&origin) {
                return Err(Foreign::Origin(origin.into_owned()));
            }
        }
        Ok(())
    }

    /// Whether an authority is one of these; a loopback's port may be a forwarded one.
    fn include(&self, authority: &Authority) -> bool {
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            let port = authority.port_u16().unwrap_or(80);
            return address.is_loopback() || SocketAddr::new(address, port) == self.address;
        }
        let mut names = self.names.iter().map(String::as_str);
        host.eq_ignore_ascii_case("localhost") || names.any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// Returns the host that a request names: HTTP/2 has it in the URI, HTTP/1.1 in a header.
fn named(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let in_header = headers.get_all(HOST).iter().map(|host| host.to_str().ok());
    let in_uri = uri.authority().map(Authority::as_str);
    let mut named = in_uri.map(Some).into_iter().chain(in_header);
    let first = named.next()??;
    let agree = named.all(|other| other.is_some_and(|other| other.eq_ignore_ascii_case(first)));
    agree.then(|| first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, headers: &[(&'static str, &str)]) -> Result<(), Foreign> {
        let hosts = Hosts {
            address: "192.0.2.7:8444".parse().unwrap(),
            names: vec!["sandbox".to_owned()],
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        hosts.check(&uri.parse().unwrap(), &map)
    }

    #[test]
    fn the_listener_has_the_names_of_this_machine_and_those_it_is_given() {
        for host in [
            "localhost",
            "LOCALHOST:8444",
            "127.0.0.1:9000",
            "127.8.9.1:8444",
            "[::1]:8444",
            "192.0.2.7:8444",
            "sandbox",
            "Sandbox:8444",
        ] {
            assert_eq!(check("/", &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(check("http://localhost:8444/", &[]), Ok(()));
        for host in [
            "rebound.example:8444",
            "localhost.rebound.example",
            "127.0.0.1.rebound.example:8444",
            "192.0.2.7",
            "192.0.2.8:8444",
            "[::2]:8444",
            "0.0.0.0:8444",
            "rebound.example@localhost",
            "",
        ] {
            let foreign = Err(Foreign::Host(host.to_owned()));
            assert_eq!(check("/", &[("host", host)]), foreign, "{host}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let two = [("host", "localhost"), ("host", "rebound.example")];
        assert_eq!(check("/", &[]), Err(Foreign::NoHost));
        assert_eq!(check("/", &two), Err(Foreign::NoHost));
        let uri = "http://rebound.example/";
        assert_eq!(check(uri, &two[..1]), Err(Foreign::NoHost));
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        let from = |origin| check("/", &[("host", "localhost:8444"), ("origin", origin)]);
        assert_eq!(from("http://localhost:8444"), Ok(()));
        for origin in [
            "http://localhost:3000",
            "http://127.0.0.1:8444",
            "https://rebound.example",
            "null",
        ] {
            assert_eq!(from(origin), Err(Foreign::Origin(origin.to_owned())));
        }
    }
}
