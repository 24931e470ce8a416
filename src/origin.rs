//! Where a push resource lives, and which family of push service answers there.

use std::collections::BTreeMap;
use std::sync::Arc;

use strum::{EnumString, IntoStaticStr, VariantArray};
use url::Url;

use crate::words::words;

words!(Service);

/// The origin of a push resource: scheme, host and port, serialised in ASCII.
///
/// It is VAPID's `aud` (RFC 8292 §2) and the key of everything that is held per push service. A
/// port other than the scheme's default is kept: leaving it out is refused by every self-hosted
/// service (classify/README.md §11, "the endpoint origin without its port").
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, derive_more::Debug, derive_more::Display)]
#[debug("{_0}")]
pub struct Origin(Arc<str>);

impl Origin {
    /// Returns the origin of `url`, which must have a host.
    #[must_use]
    pub fn of(url: &Url) -> Self {
        Self(url.origin().ascii_serialization().into())
    }

    /// Returns the ASCII serialisation, for example `https://push.example.net:8443`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the host, an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = self.0.split_once("://").map_or("", |(_, rest)| rest);
        match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => host,
            Some(_) | None => authority,
        }
    }
}

/// The families of push services whose answers differ (classify/README.md §1).
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    VariantArray,
    IntoStaticStr,
    EnumString,
    serde::Deserialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(field_identifier, rename_all = "lowercase")]
pub enum Service {
    /// Firebase Cloud Messaging: Chrome and most Chromium browsers.
    Fcm,
    /// Mozilla's autopush, hosted or self-hosted: Firefox, KaiOS, Sunup.
    Mozilla,
    /// Apple: Safari and web apps on iOS.
    Apple,
    /// Windows Notification Service: Edge on Windows.
    Wns,
    /// ntfy as a UnifiedPush distributor.
    Ntfy,
    /// NextPush, a Nextcloud app.
    #[strum(serialize = "nextpush")]
    NextPush,
    /// Anything else that speaks RFC 8030.
    Other,
}

impl serde::Serialize for Service {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Service {
    /// Finds a family by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Returns the family of the service that hosts `url`, and whether the host itself is on the
    /// list of the large services (classify/README.md §9).
    ///
    /// A listed host decides by itself; any other host is judged by the shape of its path, which
    /// its owner chose, so it is never trusted further than an unlisted host (classify/README.md §2).
    #[must_use]
    pub fn detect(url: &Url) -> (Self, Listing) {
        let host = url.host_str().unwrap_or_default();
        if let Some(service) = Self::of_listed_host(host) {
            return (service, Listing::Listed);
        }
        (Self::of_path(url), Listing::Unlisted)
    }

    /// Returns whether a push resource of this family at `path` takes only messages that are signed
    /// by the key of its subscription.
    ///
    /// FCM, Apple and WNS have no others. autopush has them at `/wpush/v2/`, for `/wpush/v1/` takes
    /// every key. ntfy and NextPush look at no key, and of a server that is not known nothing can be
    /// told (classify/README.md §1).
    #[must_use]
    pub fn binds_keys_at(self, path: &str) -> bool {
        match self {
            Self::Fcm | Self::Apple | Self::Wns => true,
            Self::Mozilla | Self::Other => path.contains("/wpush/v2/"),
            Self::Ntfy | Self::NextPush => false,
        }
    }

    /// Returns the family of a host that is on the list of the large services.
    ///
    /// Anybody may put any name below their domains into an endpoint, whether it exists or not.
    #[must_use]
    pub fn of_listed_host(host: &str) -> Option<Self> {
        let under = |domain: &str| {
            host.strip_suffix(domain)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        match host {
            "fcm.googleapis.com" | "jmt17.google.com" | "android.googleapis.com" => Some(Self::Fcm),
            "push.kaiostech.com" => Some(Self::Mozilla),
            _ if under("push.services.mozilla.com") => Some(Self::Mozilla),
            _ if under("push.apple.com") => Some(Self::Apple),
            _ if under("notify.windows.com") => Some(Self::Wns),
            _ => None,
        }
    }

    fn of_path(url: &Url) -> Self {
        let path = url.path();
        let is_ntfy_topic = |topic: &str| topic.len() == 14 && topic.starts_with("up");
        if path.starts_with("/wpush/v1/") || path.starts_with("/wpush/v2/") {
            Self::Mozilla
        } else if path.contains("/uppush/push/") {
            Self::NextPush
        } else if url.query() == Some("up=1") || is_ntfy_topic(path.trim_start_matches('/')) {
            Self::Ntfy
        } else {
            Self::Other
        }
    }
}

/// Whether a host is known, whose words may be repeated: one of the large push services, or one
/// that the operator has named. It says nothing of whether a 404 is the service's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// It is known.
    Listed,
    /// Anybody may own it.
    Unlisted,
}

impl Listing {
    /// Returns `Listed` if `is_listed`.
    #[must_use]
    pub fn of(is_listed: bool) -> Self {
        if is_listed {
            Self::Listed
        } else {
            Self::Unlisted
        }
    }

    /// Returns whether the host is known.
    #[must_use]
    pub fn is_listed(self) -> bool {
        self == Self::Listed
    }
}

/// The push services that an operator has named, by origin.
///
/// An operator vouches for them: they are as well known as the large services, and their family is
/// what the operator says, whatever the shape of their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services(BTreeMap<Origin, Service>);

impl Services {
    /// Returns the family of an origin, if the operator has named it.
    #[must_use]
    pub fn of(&self, origin: &Origin) -> Option<Service> {
        self.0.get(origin).copied()
    }

    /// Returns whether a host has one of the origins, on whatever port.
    #[must_use]
    pub fn has_host(&self, host: &str) -> bool {
        self.0.keys().any(|origin| origin.host() == host)
    }
}

impl FromIterator<(Origin, Service)> for Services {
    fn from_iter<I: IntoIterator<Item = (Origin, Service)>>(named: I) -> Self {
        Self(named.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_origin_keeps_a_port_that_is_not_the_default() {
        for (text, origin) in [
            (
                "https://push.kaiostech.com:8443/wpush/v2/x",
                "https://push.kaiostech.com:8443",
            ),
            (
                "https://fcm.googleapis.com:443/fcm/send/x",
                "https://fcm.googleapis.com",
            ),
            (
                "https://b\u{fc}cher.example/x",
                "https://xn--bcher-kva.example",
            ),
            ("https://[2001:db8::1]:9/x", "https://[2001:db8::1]:9"),
        ] {
            assert_eq!(Origin::of(&url(text)).as_str(), origin);
        }
    }

    #[test]
    fn an_operators_origin_is_found_whole_and_its_host_on_any_port() {
        let origin = |text| Origin::of(&url(text));
        let services: Services = [
            (origin("https://push.example.org:8443"), Service::Ntfy),
            (origin("https://[2001:db8::1]"), Service::Mozilla),
        ]
        .into_iter()
        .collect();
        for (text, service) in [
            (
                "https://push.example.org:8443/upx?up=1",
                Some(Service::Ntfy),
            ),
            ("https://push.example.org/upx?up=1", None),
            ("http://push.example.org:8443/upx?up=1", None),
            ("https://x.push.example.org:8443/upx", None),
            ("https://[2001:db8::1]/x", Some(Service::Mozilla)),
        ] {
            assert_eq!(services.of(&origin(text)), service, "{text}");
        }
        for (host, named) in [
            ("push.example.org", true),
            ("[2001:db8::1]", true),
            ("example.org", false),
            ("ush.example.org", false),
            ("", false),
        ] {
            assert_eq!(services.has_host(host), named, "{host}");
        }
    }

    #[test]
    fn every_family_is_found_by_its_name() {
        for &service in Service::ALL {
            assert_eq!(Service::named(service.name()), Some(service));
        }
        assert_eq!(Service::named("FCM"), None);
    }

    #[test]
    fn listed_hosts_are_matched_whole_and_by_dot_suffix_only() {
        for (text, service, listed) in [
            ("https://fcm.googleapis.com/fcm/send/x", Service::Fcm, true),
            (
                "https://updates.push.services.mozilla.com/wpush/v2/x",
                Service::Mozilla,
                true,
            ),
            ("https://web.push.apple.com/x", Service::Apple, true),
            (
                "https://wns2-par02p.notify.windows.com/w/?token=x",
                Service::Wns,
                true,
            ),
            ("https://web.push.apple.com./x", Service::Other, false),
            (
                "https://evilpush.apple.com.example/x",
                Service::Other,
                false,
            ),
            ("https://evilnotify.windows.com/x", Service::Other, false),
            (
                "https://fcm.googleapis.com.evil.example/fcm/send/x",
                Service::Other,
                false,
            ),
            (
                "https://push.example.org/wpush/v2/x",
                Service::Mozilla,
                false,
            ),
            (
                "https://ntfy.example.org/upAbCdEfGhIjKl?up=1",
                Service::Ntfy,
                false,
            ),
            (
                "https://ntfy.example.org/upAbCdEfGhIjKl",
                Service::Ntfy,
                false,
            ),
            (
                "https://cloud.example.org/index.php/apps/uppush/push/x",
                Service::NextPush,
                false,
            ),
        ] {
            assert_eq!(
                Service::detect(&url(text)),
                (service, Listing::of(listed)),
                "{text}"
            );
        }
    }
}
