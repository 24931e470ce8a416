//! The admin listener: metrics, health, public keys.

use std::net::SocketAddr;

/// What an operator decides about the admin listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The address to listen on; `None` for no listener.
    pub listen: Option<SocketAddr>,
}
