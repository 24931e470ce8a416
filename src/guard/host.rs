//! Hosts as an operator names them: whole, or by the domain they are in.

use url::Host;

/// One host, or every host below a domain.
///
/// Names are compared label by label in the form that URLs give them (lower case, punycode), never
/// as text in a text: `evil-example.org` is not below `.example.org`, and what stands in a path is
/// no host (classify/README.md §9).
#[derive(Clone, Debug, PartialEq, Eq, derive_more::Display)]
#[display("{}{name}", if *below { "." } else { "" })]
pub struct HostPattern {
    /// Without the dot before or behind it.
    name: String,
    below: bool,
}

impl HostPattern {
    /// Parses `push.example.org`, or `.example.org` for every name below it; an address stands for
    /// itself.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (below, name) = match text.strip_prefix('.') {
            Some(domain) => (true, domain),
            None => (false, text),
        };
        let host = Host::parse(bare(name)).ok()?;
        let sound = match &host {
            // URLs let a star and an empty label pass; no name has them.
            Host::Domain(name) => name.split('.').all(|label| !matches!(label, "" | "*")),
            Host::Ipv4(_) | Host::Ipv6(_) => !below,
        };
        sound.then(|| Self {
            name: host.to_string(),
            below,
        })
    }

    /// Returns whether this is a name, and not an address.
    #[must_use]
    pub fn is_name(&self) -> bool {
        matches!(Host::parse(&self.name), Ok(Host::Domain(_)))
    }

    /// Returns whether `host`, in the form that URLs give it, is meant.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = bare(host);
        if self.below {
            host != self.name && is_under(host, &self.name)
        } else {
            host == self.name
        }
    }
}

/// Removes the dot of the root, which does not change where a name leads.
fn bare(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// Returns whether `name` is `domain` or below it.
pub(super) fn is_under(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_is_matched_whole_and_a_domain_by_its_dot() {
        for (pattern, host, meant) in [
            ("push.example.org", "push.example.org", true),
            ("push.example.org", "push.example.org.", true),
            ("Push.Example.ORG.", "push.example.org", true),
            ("push.example.org", "x.push.example.org", false),
            ("push.example.org", "push.example.org.evil.net", false),
            ("push.example.org", "evilpush.example.org", false),
            (".example.org", "push.example.org", true),
            (".example.org", "a.b.example.org.", true),
            (".example.org", "example.org", false),
            (".example.org", "evilexample.org", false),
            (".example.org", "example.org.evil.net", false),
            ("b\u{fc}cher.example", "xn--bcher-kva.example", true),
            ("10.0.0.5", "10.0.0.5", true),
            ("10.0.0.5", "10.0.0.50", false),
            ("[2001:db8::1]", "[2001:db8::1]", true),
            ("ntfy", "ntfy", true),
        ] {
            let parsed = HostPattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(host), meant, "{pattern} {host}");
        }
    }

    #[test]
    fn what_is_no_host_is_not_taken_for_one() {
        for text in [
            "",
            ".",
            "..example.org",
            "*.example.org",
            "https://push.example.org",
            "push.example.org:443",
            "push.example.org/x",
            "user@push.example.org",
            "10.0.0.0/8",
            ".10.0.0.5",
            "push example.org",
            "^https://.+",
        ] {
            assert_eq!(HostPattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_pattern_is_shown_as_it_is_written() {
        for text in ["push.example.org", ".example.org", "10.0.0.5"] {
            assert_eq!(HostPattern::parse(text).unwrap().to_string(), text);
        }
        assert!(HostPattern::parse(".example.org").unwrap().is_name());
        assert!(!HostPattern::parse("10.0.0.5").unwrap().is_name());
    }

    proptest! {
        #[test]
        fn a_domain_matches_exactly_what_ends_in_its_labels(
            labels in prop::collection::vec("[a-c]{1,2}", 1..5),
            domain in prop::collection::vec("[a-c]{1,2}", 1..4),
        ) {
            let pattern = HostPattern::parse(&format!(".{}", domain.join("."))).unwrap();
            let below = labels.len() > domain.len() && labels.ends_with(&domain);
            prop_assert_eq!(pattern.matches(&labels.join(".")), below);
        }
    }
}
