//! The capability URL, and the fingerprint that stands for it.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use url::{Host, Position, Url};

use crate::origin::{Listing, Origin, Service, Services};

/// The URL of a push resource (RFC 8030 §4), and what is known from it alone.
///
/// Path and query are kept byte for byte.
///
/// Whoever holds it can push to the user, so `Debug` and `Display` show the fingerprint.
#[derive(Clone, derive_more::Debug)]
#[debug("Endpoint({})", self.fingerprint())]
pub struct Endpoint {
    parts: Arc<Parts>,
    service: Service,
    listing: Listing,
}

struct Parts {
    url: Url,
    origin: Origin,
    fingerprint: Fingerprint,
    is_normal: bool,
}

/// The longest endpoint that is accepted, in bytes (classify/README.md §9).
pub const ENDPOINT_LIMIT: usize = 2048;

impl Endpoint {
    /// Parses the URL of a push resource.
    ///
    /// White space around it is cut off. Capitals in scheme and host, the default port, and the slash
    /// of an empty path are brought into the normal form of RFC 3986 §6.2. The fingerprint is that of
    /// the text as it was given. Which schemes, ports and hosts may be pushed to is the guard's to say.
    ///
    /// # Errors
    /// If it is not an absolute `http` or `https` URL with a host, at most [`ENDPOINT_LIMIT`] bytes
    /// long, or carries credentials or a fragment, or its host ends in a dot, or sending it would
    /// change a byte of its path or query, or make another host of the one that was written.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.len() > ENDPOINT_LIMIT {
            return Err(EndpointError::TooLong(text.len()));
        }
        let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace());
        let url = Url::parse(trimmed).map_err(EndpointError::NotUrl)?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(EndpointError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::Credentials);
        }
        if url.fragment().is_some() {
            return Err(EndpointError::Fragment);
        }
        if url.host_str().is_some_and(|host| host.ends_with('.')) {
            return Err(EndpointError::TrailingDot);
        }
        check_form(trimmed, &url)?;
        let (service, listing) = Service::detect(&url);
        Ok(Self {
            parts: Arc::new(Parts {
                origin: Origin::of(&url),
                fingerprint: Fingerprint::of(text),
                is_normal: url.as_str() == text,
                url,
            }),
            service,
            listing,
        })
    }

    /// Applies the family that the operator has named for its push service, if there is one.
    #[must_use]
    pub fn known_to(self, services: &Services) -> Self {
        match services.of(self.origin()) {
            Some(service) => Self {
                service,
                listing: Listing::Listed,
                ..self
            },
            None => self,
        }
    }

    /// Returns the URL as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.parts.url.as_str()
    }

    /// Returns whether it was given as it is sent. One subscription has as many fingerprints as it has
    /// spellings.
    #[must_use]
    pub fn is_normal(&self) -> bool {
        self.parts.is_normal
    }

    /// Returns the parsed URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.parts.url
    }

    /// Returns the host, which is always there.
    #[must_use]
    pub fn host(&self) -> Host<&str> {
        self.parts.url.host().unwrap_or(Host::Domain(""))
    }

    /// Returns the origin: VAPID's audience and the key of the gates.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.parts.origin
    }

    /// Returns the family of push service that answers here.
    #[must_use]
    pub fn service(&self) -> Service {
        self.service
    }

    /// Returns whether the host is known.
    #[must_use]
    pub fn listing(&self) -> Listing {
        self.listing
    }

    /// Returns whether the host is one of the large push services, or the operator's.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listing.is_listed()
    }

    /// Returns whether its push service refuses messages that another key signed than the one that the
    /// subscription was made with. Only such an endpoint shows by a message taken that a key is
    /// right.
    #[must_use]
    pub fn is_bound_to_key(&self) -> bool {
        self.service.binds_keys_at(self.parts.url.path())
    }

    /// Returns the name by which logs and results speak of this endpoint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.parts.fingerprint
    }
}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Longer than [`ENDPOINT_LIMIT`].
    #[error("the endpoint is {0} bytes long; at most {ENDPOINT_LIMIT} are accepted")]
    TooLong(usize),
    /// Not an absolute URL.
    #[error("the endpoint is not an absolute URL: {0}")]
    NotUrl(url::ParseError),
    /// A scheme that no push service has.
    #[error("the endpoint must be an https URL")]
    Scheme,
    /// User name or password in the URL.
    #[error("the endpoint must not carry a user name or password")]
    Credentials,
    /// `#…` at the end, which is never sent.
    #[error("the endpoint must not have a fragment (#…)")]
    Fragment,
    /// `push.example.net.`: the same host as without the dot, and another origin.
    #[error("the endpoint's host must not end in a dot; browsers give none that does")]
    TrailingDot,
    /// The host is written in a form that browsers do not give.
    #[error(
        "the host of the endpoint is not written as browsers give it: ASCII letters, digits, dots and \
         hyphens, or an IP address; store it exactly as the browser returned it"
    )]
    Host,
    /// Sending it would change a byte of its path or query.
    #[error(
        "the endpoint has {0} in its path or query, which cannot be sent unchanged; store it exactly \
         as the browser returned it"
    )]
    NotNormal(&'static str),
}

/// Compares the URL that is sent with the text: scheme, host and port may differ in what RFC 3986
/// §6.2 calls equivalent, path and query not at all.
///
/// The token may hold escapes that change their meaning when they are rewritten (WNS).
fn check_form(text: &str, url: &Url) -> Result<(), EndpointError> {
    let rest = text.split_once("://").map_or("", |(_scheme, rest)| rest);
    let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(path_at);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        Some(_) | None => (authority, ""),
    };
    let is_same_port = port.is_empty() || port.parse().ok() == url.port_or_known_default();
    if !url
        .host_str()
        .is_some_and(|sent| sent.eq_ignore_ascii_case(host))
        || !is_same_port
    {
        return Err(EndpointError::Host);
    }
    let sent = &url[Position::BeforePath..];
    let is_same = sent == tail || (!tail.starts_with('/') && sent.strip_prefix('/') == Some(tail));
    if is_same {
        return Ok(());
    }
    Err(EndpointError::NotNormal(unsendable(tail)))
}

/// Says what a path or query has that cannot be sent as it is.
fn unsendable(tail: &str) -> &'static str {
    if tail.contains(char::is_whitespace) {
        "white space"
    } else if tail.contains('\\') {
        "a backslash"
    } else if !tail.is_ascii() {
        "a character that is not ASCII"
    } else if tail.split(['/', '?']).any(|it| matches!(it, "." | "..")) {
        "a dot segment (/./ or /../)"
    } else {
        "a character that URLs must escape"
    }
}

/// SHA-256 of an endpoint's bytes: what may be shown in its place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, derive_more::Display)]
#[display("{}", hex(&_0[..8]))]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Returns the fingerprint of an endpoint as it was given, even of one that is no URL.
    #[must_use]
    pub fn of(endpoint: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, endpoint.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Reads the 64 lower-case hexadecimal digits that results carry.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 64 || !text.bytes().all(is_hex) {
            return None;
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Returns the raw digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns all 64 lower-case hexadecimal digits, as results carry them.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

/// Shows the first sixteen digits: enough to find one subscription in a log.
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_knows_an_origin_better_than_its_paths_do() {
        let endpoint = Endpoint::parse("https://push.example.org/wpush/v2/x").unwrap();
        let known = |endpoint: &Endpoint| (endpoint.service(), endpoint.listing());
        assert_eq!(known(&endpoint), (Service::Mozilla, Listing::Unlisted));
        let named = [(endpoint.origin().clone(), Service::Ntfy)];
        let named = endpoint.clone().known_to(&named.into_iter().collect());
        assert_eq!(known(&named), (Service::Ntfy, Listing::Listed));
        let unnamed = endpoint.clone().known_to(&Services::default());
        assert_eq!(known(&unnamed), known(&endpoint));
        assert_eq!(named.fingerprint(), endpoint.fingerprint());
    }

    #[test]
    fn an_endpoint_whose_host_or_port_is_not_in_normal_form_is_taken() {
        for (given, sent) in [
            (
                "https://up.example.net:443/up/push/AbCdEf",
                "https://up.example.net/up/push/AbCdEf",
            ),
            (
                "HTTPS://UP.Example.net/up/push/AbCdEf",
                "https://up.example.net/up/push/AbCdEf",
            ),
            (
                "https://up.example.net?token=AbCdEf",
                "https://up.example.net/?token=AbCdEf",
            ),
            ("https://push.example.net", "https://push.example.net/"),
            ("https://push.example.net:/x", "https://push.example.net/x"),
            (
                "https://push.example.net:08443/x",
                "https://push.example.net:8443/x",
            ),
            ("http://[FD00::1]:80/x", "http://[fd00::1]/x"),
            (
                "https://fcm.googleapis.com/fcm/send/AbCdEf\r\n",
                "https://fcm.googleapis.com/fcm/send/AbCdEf",
            ),
            (
                " https://push.example.net/x%2F%2f",
                "https://push.example.net/x%2F%2f",
            ),
        ] {
            let endpoint =
                Endpoint::parse(given).unwrap_or_else(|error| panic!("{given}: {error}"));
            assert_eq!(endpoint.as_str(), sent, "{given:?}");
            assert_eq!(endpoint.fingerprint(), Fingerprint::of(given), "{given:?}");
            assert!(!endpoint.is_normal(), "{given:?}");
        }
    }

    #[test]
    fn an_endpoint_keeps_its_bytes_or_is_refused() {
        for text in [
            "https://wns2-par02p.notify.windows.com/w/?token=BQYAAAD%2bx%2f%3d",
            "https://fcm.googleapis.com/fcm/send/a:b-c_d",
            "http://127.0.0.1:8080/push/1",
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.as_str(), text);
            assert!(endpoint.is_normal(), "{text}");
        }
        for (text, error) in [
            (
                "https://push.example.net/a b",
                EndpointError::NotNormal("white space"),
            ),
            (
                "https://push.example.net/a\tb",
                EndpointError::NotNormal("white space"),
            ),
            (
                "https://push.example.net/a\\b",
                EndpointError::NotNormal("a backslash"),
            ),
            (
                "https://push.example.net/é",
                EndpointError::NotNormal("a character that is not ASCII"),
            ),
            (
                "https://push.example.net/a/../b",
                EndpointError::NotNormal("a dot segment (/./ or /../)"),
            ),
            (
                "https://push.example.net/a?b=\"c\"",
                EndpointError::NotNormal("a character that URLs must escape"),
            ),
            ("https://0x7f.1/x", EndpointError::Host),
            ("https://münchen.example/x", EndpointError::Host),
            ("https:push.example.net/x", EndpointError::Host),
            ("https:///push.example.net/x", EndpointError::Host),
            ("https://push.exa\nmple.net/x", EndpointError::Host),
            ("https://u:p@push.example.net/x", EndpointError::Credentials),
            ("https://push.example.net/x#y", EndpointError::Fragment),
            ("https://fcm.googleapis.com./x", EndpointError::TrailingDot),
            ("https://localhost./x", EndpointError::TrailingDot),
            ("https://push.example.net../x", EndpointError::TrailingDot),
            ("ftp://push.example.net/x", EndpointError::Scheme),
            (
                "push.example.net/x",
                EndpointError::NotUrl(url::ParseError::RelativeUrlWithoutBase),
            ),
            (
                "https://",
                EndpointError::NotUrl(url::ParseError::EmptyHost),
            ),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap_err(), error, "{text}");
        }
        let long = format!("https://push.example.net/{}", "x".repeat(10_000));
        assert_eq!(
            Endpoint::parse(&long).unwrap_err(),
            EndpointError::TooLong(long.len())
        );
    }
}
