//! What is wrong with the proxy on the way to push services.

use std::fmt;
use std::sync::Arc;

/// A connection that a proxy did not make; its text names the proxy and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyFailure {
    /// The proxy's host and port.
    pub place: Arc<str>,
    /// What is wrong.
    pub fault: ProxyFault,
}

/// What is wrong with a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFault {
    /// It cannot be connected to.
    Unreachable,
    /// It wants a user and a password, or others (407).
    Credentials,
    /// It answers CONNECT with any other error.
    Refused,
    /// Its answer to CONNECT breaks off or has too many headers.
    Broken,
    /// It made no connection in time.
    Late,
}

impl fmt::Display for ProxyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.place;
        match self.fault {
            ProxyFault::Unreachable => write!(
                f,
                "the proxy {place} cannot be connected to: check it, and push.proxy"
            ),
            ProxyFault::Credentials => write!(
                f,
                "the proxy {place} does not accept the user and password (407): set push.proxy to \
                 http://user:password@{place}"
            ),
            ProxyFault::Refused => write!(
                f,
                "the proxy {place} refuses to connect to the push service, or cannot: let it allow \
                 CONNECT to the host"
            ),
            ProxyFault::Broken => write!(
                f,
                "the proxy {place} does not answer as an HTTP proxy: check push.proxy"
            ),
            ProxyFault::Late => write!(
                f,
                "no connection could be made through the proxy {place} in time: check it, and \
                 push.connect_timeout"
            ),
        }
    }
}
