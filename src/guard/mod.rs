//! Who may be pushed to: endpoints are chosen by strangers.

use ipnet::IpNet;

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
