//! Who may be pushed to: endpoints are chosen by outsiders.
//!
//! Why a guard: a browser hands its subscription to a page, the page to an application, and the
//! application to us, so anyone who can subscribe can make this daemon send requests. Without a
//! guard those reach whatever the daemon's host reaches: metadata services, admin interfaces on
//! loopback, the broker itself (classify/README.md §9).
//!
//! Scheme, port, host and literal addresses are judged here, before anything is signed. A name proves
//! nothing until it is resolved, and may resolve otherwise the next time, so the addresses behind
//! names are judged where each connection is made, with [`Rules::permits_resolved`]. A proxy resolves
//! names itself, so it must judge their addresses.
//!
//! Public addresses are open by default, since any of them may be somebody's push service; a
//! deployment whose users have none but the usual browsers can close them ([`Hosts`]). What is
//! private is open only by name: its network, or its host.

mod address;
mod endpoint;
mod host;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::origin::Services;

use self::address::reached_v4;

pub use self::address::is_public;
pub use self::endpoint::Forbidden;
pub use self::host::HostPattern;

/// What an operator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The hosts that may be pushed to.
    pub hosts: Hosts,
    /// Networks that may be pushed to although they are private or special.
    pub allow: Vec<IpNet>,
    /// Names that may be pushed to whatever their addresses are.
    pub allow_hosts: Vec<HostPattern>,
    /// Networks that may not be pushed to, whatever else holds.
    pub deny: Vec<IpNet>,
    /// Names that may not be pushed to, whatever else holds.
    pub deny_hosts: Vec<HostPattern>,
    /// The ports that may be pushed to.
    pub ports: Vec<u16>,
    /// Whether plain `http` endpoints may be pushed to.
    pub http: bool,
    /// Whether a proxy resolves names, so that no address behind them is judged here.
    pub proxied: bool,
    /// The operator's own services: their hosts and ports may be pushed to.
    pub services: Services,
}

/// Which hosts may be pushed to, before their addresses are looked at.
///
/// What the operator has named as a service may in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hosts {
    /// Any.
    #[default]
    Public,
    /// The large push services alone (classify/README.md §9).
    Known,
    /// These alone.
    These(Vec<HostPattern>),
}

/// Public addresses, port 443, `https`: all that the large push services need.
impl Default for Rules {
    fn default() -> Self {
        Self {
            hosts: Hosts::Public,
            allow: Vec::new(),
            allow_hosts: Vec::new(),
            deny: Vec::new(),
            deny_hosts: Vec::new(),
            ports: vec![443],
            http: false,
            proxied: false,
            services: Services::default(),
        }
    }
}

impl Rules {
    /// Returns whether a connection to `address` may be made: it is public, or the operator's
    /// networks hold it, and none that the operator denies does.
    #[must_use]
    pub fn permits_address(&self, address: IpAddr) -> bool {
        !self.denies_address(address) && (is_public(address) || holds(&self.allow, address))
    }

    /// Returns whether a connection to `address` may be made because `name` has led there.
    #[must_use]
    pub fn permits_resolved(&self, name: &str, address: IpAddr) -> bool {
        let allowed = self.permits_address(address) || self.allows_name(name);
        allowed && !self.denies_address(address) && !self.denies_name(name)
    }

    /// Returns whether the operator denies an address, or the IPv4 address that it stands for.
    fn denies_address(&self, address: IpAddr) -> bool {
        let embedded = |address| holds(&self.deny, address);
        holds(&self.deny, address) || reached_v4(address).is_some_and(embedded)
    }

    fn denies_name(&self, name: &str) -> bool {
        self.deny_hosts.iter().any(|host| host.matches(name))
    }

    fn allows_name(&self, name: &str) -> bool {
        self.allow_hosts.iter().any(|host| host.matches(name))
    }
}

/// Returns whether one of the networks has an address; a mapped one is connected to as the IPv4 address
/// it stands for.
fn holds(networks: &[IpNet], address: IpAddr) -> bool {
    let reached = address.to_canonical();
    let mut networks = networks.iter();
    networks.any(|net| net.contains(&address) || net.contains(&reached))
}
