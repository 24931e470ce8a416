//! An application: its keys, and what its events mean where they are silent.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strum::EnumString;

use crate::ece::Padding;
use crate::message::{MediaType, Name, PLAINTEXT_LIMIT};
use crate::origin::Service;
use crate::outcome::{Outcome, Reason, Refusal};
use crate::vapid::{KeyRing, Subject};

/// One application: its keys, and what its events mean where they are silent.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name in events, results and routing keys.
    pub name: Name,
    /// Whom push services contact about its messages.
    pub subject: Subject,
    /// The keys that sign.
    pub ring: KeyRing,
    /// TTL in seconds where the event has none.
    pub ttl: u32,
    /// Which results it wants where the event does not say.
    pub results: Results,
    /// Whether the progress of its campaigns is published.
    pub progress: bool,
    /// Whether requests are sent at all.
    pub mode: Mode,
    /// The largest plaintext in bytes, at most 3993.
    pub payload_limit: usize,
    /// The most recipients a second of one event of many, if that is limited.
    pub max_per_second: Option<NonZeroU32>,
    /// How results name endpoints.
    pub endpoint: EndpointForm,
    /// How its requests are made.
    pub requests: RequestRules,
}

impl App {
    /// Returns the largest plaintext, in bytes, that it sends to one family of push services.
    #[must_use]
    pub fn payload_ceiling(&self, service: Service) -> usize {
        let own = self.requests.payload_limits.get(&service);
        own.map_or(self.payload_limit, |limit| *limit)
            .min(PLAINTEXT_LIMIT)
    }
}

/// How the requests of an application are made.
#[derive(Clone, Debug, Default)]
pub struct RequestRules {
    /// Whether a recipient that asks for `aesgcm` gets it, where its push service takes it.
    pub aesgcm: bool,
    /// How the length of payloads is hidden.
    pub padding: Padding,
    /// What the content of a declarative message is said to be.
    pub declarative: MediaType,
    /// The largest plaintext for some push services, in the place of the application's own.
    pub payload_limits: BTreeMap<Service, usize>,
}

/// Whether requests are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They are.
    #[default]
    Send,
    /// Everything but the POST.
    DryRun,
}

/// The configured applications.
#[derive(Clone, Debug)]
pub struct Apps(Vec<Arc<App>>);

/// The application of events that name none.
const DEFAULT: &str = "default";

impl Apps {
    /// Creates the list of the configured applications.
    #[must_use]
    pub fn new(apps: Vec<Arc<App>>) -> Self {
        Self(apps)
    }

    /// Iterates over them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<App>> {
        self.0.iter()
    }

    /// Finds the application an event is for: the one it names, else the one that its routing key
    /// names, else the only one there is, else the one named `default`.
    ///
    /// # Errors
    /// If there is none, with a sentence that names those there are (`unknown_app`).
    pub fn find(
        &self,
        asked: Option<&Name>,
        routing_key: Option<&str>,
    ) -> Result<&Arc<App>, Refusal> {
        let found = match (asked, self.0.as_slice()) {
            (Some(asked), _) => self.named(asked.as_str()),
            (None, [only]) => Some(only),
            (None, _) => self.named_by(routing_key).or_else(|| self.named(DEFAULT)),
        };
        found.ok_or_else(|| Refusal {
            reason: Reason::UnknownApp,
            detail: self.unknown(asked).into(),
        })
    }

    /// Returns the application that the routing key of an event names, if it is another than the event
    /// itself names.
    #[must_use]
    pub fn mismatch(&self, asked: Option<&Name>, routing_key: Option<&str>) -> Option<&Name> {
        let other = &self.named_by(routing_key)?.name;
        asked.is_some_and(|asked| asked != other).then_some(other)
    }

    /// Finds the application that a routing key `<app>.<lane>` names.
    fn named_by(&self, routing_key: Option<&str>) -> Option<&Arc<App>> {
        let (app, _lane) = routing_key?.split_once('.')?;
        self.named(app)
    }

    fn named(&self, name: &str) -> Option<&Arc<App>> {
        self.iter().find(|app| app.name.as_str() == name)
    }

    fn unknown(&self, asked: Option<&Name>) -> String {
        let names: Vec<&str> = self.iter().map(|app| app.name.as_str()).collect();
        let names = names.join(", ");
        match asked {
            Some(asked) => format!("app: expected one of those configured: {names}; got `{asked}`"),
            None => format!("app: is missing; expected one of those configured: {names}"),
        }
    }
}

/// Which delivery results are published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Results {
    /// One per recipient.
    #[default]
    All,
    /// All but `accepted`.
    Failures,
    /// None.
    None,
}

impl Results {
    /// Finds the choice a word names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        word.parse().ok()
    }

    /// Returns whether a result with this outcome is published.
    #[must_use]
    pub fn wants(self, outcome: Outcome) -> bool {
        match self {
            Self::All => true,
            Self::Failures => outcome != Outcome::Accepted,
            Self::None => false,
        }
    }
}

/// How results name endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointForm {
    /// In full.
    #[default]
    Full,
    /// By fingerprint alone.
    Fingerprint,
}

#[cfg(test)]
impl App {
    /// Creates an application of the default settings with two new keys, `main` and `older`.
    pub(crate) fn for_tests(text: &str) -> Self {
        let name = |text| Name::parse(text).unwrap();
        let key = |text| Arc::new(crate::vapid::VapidKey::generate(name(text)).unwrap());
        Self {
            name: name(text),
            subject: Subject::parse("mailto:ops@example.org").unwrap(),
            ring: KeyRing {
                primary: key("main"),
                older: vec![key("older")],
            },
            ttl: 86_400,
            results: Results::All,
            progress: true,
            mode: Mode::Send,
            payload_limit: 3993,
            max_per_second: None,
            endpoint: EndpointForm::Full,
            requests: RequestRules::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_service_may_have_a_payload_limit_of_its_own() {
        let mut app = App::for_tests("shop");
        assert_eq!(app.payload_ceiling(Service::Fcm), 3993);
        app.payload_limit = 3000;
        app.requests.payload_limits = [(Service::Mozilla, 2744), (Service::Fcm, 9999)].into();
        assert_eq!(app.payload_ceiling(Service::Mozilla), 2744);
        assert_eq!(app.payload_ceiling(Service::Fcm), 3993);
        assert_eq!(app.payload_ceiling(Service::Apple), 3000);
    }

    fn of(names: &[&str]) -> Apps {
        Apps::new(
            names
                .iter()
                .map(|it| Arc::new(App::for_tests(it)))
                .collect(),
        )
    }

    #[test]
    fn an_event_finds_its_application_or_hears_which_there_are() {
        for (names, asked, key, found) in [
            (&["shop"][..], None, None, "shop"),
            (&["shop"], Some("shop"), None, "shop"),
            (&["shop"], None, Some("blog.default"), "shop"),
            (&["blog", "default"], None, None, "default"),
            (&["blog", "default"], None, Some("blog.high"), "blog"),
            (&["blog", "default"], None, Some("blog.a.b"), "blog"),
            (&["blog", "default"], None, Some("blog"), "default"),
            (&["blog", "default"], None, Some("news.high"), "default"),
            (&["blog", "default"], Some("blog"), None, "blog"),
            (
                &["blog", "default"],
                Some("blog"),
                Some("default.high"),
                "blog",
            ),
        ] {
            let apps = of(names);
            let app = apps.find(asked.map(name).as_ref(), key).unwrap();
            assert_eq!(app.name.as_str(), found, "{names:?} {asked:?} {key:?}");
        }
        for (names, asked, detail) in [
            (
                &["shop"][..],
                Some("default"),
                "app: expected one of those configured: shop; got `default`",
            ),
            (
                &["blog", "shop"],
                None,
                "app: is missing; expected one of those configured: blog, shop",
            ),
        ] {
            let refusal = of(names)
                .find(asked.map(name).as_ref(), Some("news.high"))
                .unwrap_err();
            assert_eq!(refusal.reason, Reason::UnknownApp);
            assert_eq!(&*refusal.detail, detail);
        }
    }

    #[test]
    fn a_routing_key_that_names_another_application_is_told() {
        let apps = of(&["blog", "shop"]);
        for (asked, key, other) in [
            (Some("blog"), "shop.high", Some("shop")),
            (Some("news"), "shop.high", Some("shop")),
            (Some("shop"), "shop.high", None),
            (Some("shop"), "orders.created", None),
            (None, "shop.high", None),
        ] {
            let asked = asked.map(name);
            let found = apps.mismatch(asked.as_ref(), Some(key));
            assert_eq!(found.map(Name::as_str), other, "{asked:?} {key}");
        }
    }
}
