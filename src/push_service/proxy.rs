//! The HTTP proxy on the way to push services, which an operator names.
//!
//! TLS stays end to end: the proxy is asked to connect (CONNECT, RFC 9110 §9.3.6), and sees the host and
//! the port alone.

use std::fmt;
use std::sync::Arc;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use tower::Service;
use url::Url;

use crate::outcome::ProxyFault;

/// The error of a connection through a proxy; the library has no other name for it.
pub(super) type TunnelError = <Tunnel<HttpConnector> as Service<http::Uri>>::Error;

/// An HTTP proxy that connects to push services.
#[derive(Clone)]
pub struct Proxy {
    place: Arc<str>,
    library: reqwest::Proxy,
}

/// Why a text is no proxy; it shows nothing of the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// It is for another protocol, or for none.
    #[error(
        "must begin with http://, as in \"http://proxy.example.org:3128\"; proxies that are \
         connected to with https:// or socks5:// are not supported"
    )]
    Scheme,
    /// It has no host, or a part that a proxy has not.
    #[error(
        "must be http://host:port or http://user:password@host:port and nothing else; in the user \
         and the password, @ is written %40, : %3A, / %2F, ? %3F, # %23 and % %25"
    )]
    Form,
}

impl Proxy {
    /// Reads `http://host:port` or `http://user:password@host:port`; the port is 80 if there is none.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn parse(text: &str) -> Result<Self, ProxyError> {
        let scheme = text.split_once("://").ok_or(ProxyError::Scheme)?.0;
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(ProxyError::Scheme);
        }
        let url = Url::parse(text).map_err(|_| ProxyError::Form)?;
        let (host, port) = (url.host_str(), url.port_or_known_default());
        let (Some(host), Some(port), "/", None, None) =
            (host, port, url.path(), url.query(), url.fragment())
        else {
            return Err(ProxyError::Form);
        };
        let place = format!("{host}:{port}").into();
        let library = reqwest::Proxy::https(url).map_err(|_| ProxyError::Form)?;
        Ok(Self { place, library })
    }

    /// Returns the host and the port.
    #[must_use]
    pub fn place(&self) -> &Arc<str> {
        &self.place
    }

    pub(super) fn library(&self) -> reqwest::Proxy {
        self.library.clone()
    }
}

/// The URL may hold a password, so only the place is shown.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.place)
    }
}

/// Returns what is wrong with a proxy that makes no connection.
pub(super) fn fault(error: &TunnelError) -> ProxyFault {
    match error {
        TunnelError::ConnectFailed(_) => ProxyFault::Unreachable,
        TunnelError::ProxyAuthRequired => ProxyFault::Credentials,
        TunnelError::TunnelUnsuccessful => ProxyFault::Refused,
        TunnelError::Io(_)
        | TunnelError::MissingHost
        | TunnelError::ProxyHeadersTooLong
        | TunnelError::TunnelUnexpectedEof => ProxyFault::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_http_host_and_a_port_and_nothing_else() {
        for (text, expected) in [
            (
                "http://proxy.example.org:3128",
                Ok("proxy.example.org:3128"),
            ),
            ("HTTP://proxy.example.org/", Ok("proxy.example.org:80")),
            ("http://u:p%40w@10.0.0.1:3128", Ok("10.0.0.1:3128")),
            ("http://[::1]:3128", Ok("[::1]:3128")),
            ("", Err(ProxyError::Scheme)),
            ("proxy.example.org:3128", Err(ProxyError::Scheme)),
            ("https://proxy.example.org", Err(ProxyError::Scheme)),
            ("socks5://proxy.example.org", Err(ProxyError::Scheme)),
            ("http://", Err(ProxyError::Form)),
            ("http://proxy.example.org:99999", Err(ProxyError::Form)),
            ("http://proxy.example.org/path", Err(ProxyError::Form)),
            ("http://proxy.example.org?x", Err(ProxyError::Form)),
            ("http://proxy.example.org#x", Err(ProxyError::Form)),
            ("http://user:p/w@proxy.example.org", Err(ProxyError::Form)),
        ] {
            let place = Proxy::parse(text).map(|proxy| proxy.place().to_string());
            assert_eq!(place.as_deref().map_err(|it| *it), expected, "{text}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let proxy = Proxy::parse("http://user:secret@proxy.example.org:3128").unwrap();
        assert_eq!(format!("{proxy:?}"), "Proxy(proxy.example.org:3128)");
    }
}
