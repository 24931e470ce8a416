//! Who may be pushed to: endpoints are chosen by strangers.
//!
//! Why a guard: a browser hands its subscription to a page, the page to an application, and the
//! application to us, so anyone who can subscribe can make this daemon send requests. Without a
//! guard those reach whatever the daemon's host reaches: metadata services, admin interfaces on
//! loopback, the broker itself (push-services.md §9).
//!
//! Scheme, port and literal addresses are judged here, before anything is signed. A name proves
//! nothing until it is resolved, and may resolve otherwise the next time, so the addresses behind
//! names are judged where each connection is made, with [`Rules::permits_address`].

mod address;
mod endpoint;

use std::net::IpAddr;

use ipnet::IpNet;

pub use self::address::is_public;
pub use self::endpoint::Forbidden;

/// What an operator allows beyond public hosts on the usual port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Networks that may be pushed to although they are private or special.
    pub allow: Vec<IpNet>,
    /// The ports that may be pushed to.
    pub ports: Vec<u16>,
    /// Whether plain `http` endpoints may be pushed to.
    pub http: bool,
}

/// Public addresses, port 443, `https`: all that the large push services need.
impl Default for Rules {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            ports: vec![443],
            http: false,
        }
    }
}

impl Rules {
    /// Tells whether a connection to `address` may be made: it is public, or the operator's
    /// networks hold it.
    #[must_use]
    pub fn permits_address(&self, address: IpAddr) -> bool {
        // A mapped address is connected to as the IPv4 address it stands for.
        let reached = address.to_canonical();
        is_public(address)
            || self
                .allow
                .iter()
                .any(|net| net.contains(&address) || net.contains(&reached))
    }
}
