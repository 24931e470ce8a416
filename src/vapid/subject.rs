//! The contact of a push service about messages: the `sub` claim (RFC 8292 §2.1).
//!
//! Why it is judged at start: some services refuse a subject they find unreachable, with the same
//! answer as for a bad signature (classify/README.md §5), hours after the mistake and for every
//! message at once.

use std::sync::Arc;

use url::{Host, Url};

/// A `mailto:` or `https:` URL under a public domain.
#[derive(Clone, PartialEq, Eq, derive_more::Debug)]
#[debug("{_0}")]
pub struct Subject(Arc<str>);

/// The longest subject, in bytes: every request carries it.
const LIMIT: usize = 255;

/// Top-level domains that no push service can reach (RFC 2606, RFC 6761, RFC 6762 with appendix G,
/// RFC 8375).
const RESERVED: [&str; 14] = [
    "localhost",
    "local",
    "localdomain",
    "invalid",
    "test",
    "example",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "arpa",
    "onion",
];

impl Subject {
    /// Parses `mailto:name@domain` or `https://domain/…`.
    ///
    /// # Errors
    /// If it is neither or its domain is not a public one; says what to write instead.
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        if text.is_empty() {
            return Err(SubjectError::Empty);
        }
        if text.len() > LIMIT {
            return Err(SubjectError::TooLong(text.len()));
        }
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>'))
        {
            return Err(SubjectError::Character);
        }
        if let Some(address) = text.strip_prefix("mailto:") {
            check_address(address)?;
        } else if text.starts_with("https://") {
            check_url(text)?;
        } else {
            return Err(SubjectError::Scheme);
        }
        Ok(Self(text.into()))
    }

    /// Returns it as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Nothing there.
    #[error(
        "the VAPID subject is empty; write where push services can reach you, as mailto:name@domain"
    )]
    Empty,
    /// Longer than a header should carry.
    #[error("the VAPID subject is {0} bytes long; at most {LIMIT} are accepted")]
    TooLong(usize),
    /// White space, angle brackets, or anything outside ASCII.
    #[error(
        "the VAPID subject has a space, an angle bracket or a character outside ASCII; write only \
         the address, as mailto:name@domain (an international domain in its xn-- form)"
    )]
    Character,
    /// Another scheme, or none.
    #[error(
        "the VAPID subject must begin with mailto: or https:// in lower case, as \
         mailto:name@domain"
    )]
    Scheme,
    /// `mailto:` of something else than one plain address.
    #[error("the VAPID subject is not one plain mail address; write mailto:name@domain")]
    Address,
    /// `https:` of something else than a plain URL.
    #[error("the VAPID subject is not a plain https URL; write https://domain/path")]
    Url,
    /// A domain that no push service can reach; carries it.
    #[error(
        "the VAPID subject names {0:?}, which is not a public domain, and push services refuse \
         it; write a domain of yours that is reachable from the Internet"
    )]
    Domain(String),
}

fn check_address(address: &str) -> Result<(), SubjectError> {
    let (name, domain) = address.split_once('@').ok_or(SubjectError::Address)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".+-_~!$&'*=".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(SubjectError::Address);
    }
    match Host::parse(domain) {
        Ok(Host::Domain(parsed)) if parsed.eq_ignore_ascii_case(domain) => check_domain(&parsed),
        Ok(Host::Ipv4(_)) => Err(SubjectError::Domain(domain.into())),
        Ok(Host::Domain(_) | Host::Ipv6(_)) | Err(_) => Err(SubjectError::Address),
    }
}

fn check_url(text: &str) -> Result<(), SubjectError> {
    let url = Url::parse(text).map_err(|_error| SubjectError::Url)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SubjectError::Url);
    }
    match url.host() {
        Some(Host::Domain(domain)) => check_domain(domain),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) | None => Err(SubjectError::Domain(
            url.host_str().unwrap_or_default().into(),
        )),
    }
}

fn check_domain(domain: &str) -> Result<(), SubjectError> {
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(plain)
    };
    let public = domain.contains('.')
        && domain.split('.').all(is_label)
        && domain
            .rsplit('.')
            .next()
            .is_none_or(|top| !RESERVED.contains(&top));
    public
        .then_some(())
        .ok_or_else(|| SubjectError::Domain(domain.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_that_services_accept_is_kept_as_written() {
        for good in [
            "mailto:push@example.com",
            "mailto:first.last+push@mail.shop.co.uk",
            "mailto:Ops@Shop.Org",
            "mailto:push@xn--bcher-kva.example.net",
            "https://shop.example.org",
            "https://shop.example.org:8443/contact?from=push",
        ] {
            assert_eq!(Subject::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_subject_that_a_service_would_refuse_is_refused_with_its_reason() {
        use SubjectError::{Address, Character, Empty, Scheme, TooLong, Url};
        let domain = |text: &str| SubjectError::Domain(text.into());
        for (bad, error) in [
            ("", Empty),
            (
                &*format!("mailto:{}@example.com", "x".repeat(300)),
                TooLong(319),
            ),
            ("mailto: push@example.com", Character),
            ("mailto:push@example.com\n", Character),
            ("mailto:<push@example.com>", Character),
            ("mailto:Push <push@example.com>", Character),
            ("mailto:b\u{fc}ro@example.com", Character),
            ("push@example.com", Scheme),
            ("MAILTO:push@example.com", Scheme),
            ("http://shop.example.org", Scheme),
            ("https:shop.example.org", Scheme),
            ("tel:+4930123456", Scheme),
            ("mailto:push", Address),
            ("mailto:@example.com", Address),
            ("mailto:push@", Address),
            ("mailto:a@b@example.com", Address),
            ("mailto:a@example.com,b@example.com", Address),
            ("mailto:push@example.com?subject=x", Address),
            ("mailto:push@example%2ecom", Address),
            ("mailto:push@[192.0.2.1]", Address),
            ("mailto:push@192.0.2.1", domain("192.0.2.1")),
            ("mailto:push@localhost", domain("localhost")),
            ("mailto:push@mail.localhost", domain("mail.localhost")),
            ("mailto:push@shop.local", domain("shop.local")),
            ("mailto:push@Shop.LOCAL", domain("shop.local")),
            ("mailto:push@shop.invalid", domain("shop.invalid")),
            ("mailto:push@shop.test", domain("shop.test")),
            ("mailto:push@shop.example", domain("shop.example")),
            ("mailto:push@shop.internal", domain("shop.internal")),
            ("mailto:push@shop.lan", domain("shop.lan")),
            ("mailto:push@shop.corp", domain("shop.corp")),
            ("mailto:push@nas.home.arpa", domain("nas.home.arpa")),
            (
                "mailto:push@my_shop.example.com",
                domain("my_shop.example.com"),
            ),
            ("mailto:push@example.com,", domain("example.com,")),
            ("mailto:push@shop", domain("shop")),
            ("mailto:push@example.com.", domain("example.com.")),
            ("mailto:push@example..com", domain("example..com")),
            ("https://", Url),
            ("https://user:word@shop.example.org/", Url),
            ("https://localhost/", domain("localhost")),
            (
                "https://my_shop.example.org/",
                domain("my_shop.example.org"),
            ),
            ("https://192.0.2.1/", domain("192.0.2.1")),
            ("https://[2001:db8::1]/", domain("[2001:db8::1]")),
        ] {
            assert_eq!(Subject::parse(bad), Err(error), "{bad}");
        }
    }
}
