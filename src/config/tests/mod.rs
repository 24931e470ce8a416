//! The configuration from the outside: texts in, problems or settings out.

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::{ProptestConfig, proptest};
use tempfile::TempDir;

use crate::config::{Config, Problems, Request, load};
use crate::ece::Padding;
use crate::guard;
use crate::message::{MediaType, Name};
use crate::origin::Service;
use crate::subscription::Endpoint;
use crate::vapid::VapidKey;

mod applications;
mod layers;
mod problems;
mod secrets;

/// Put wherever a secret may be; must never come out.
const MARK: &str = "Geheimnis";

/// A folder with a configuration and a key.
struct ConfigDir(TempDir);

impl ConfigDir {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let key = VapidKey::generate(Name::parse("main").unwrap()).unwrap();
        folder.write("main.pem", key.to_pkcs8_pem().unwrap().expose());
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        self.chmod(name, 0o600);
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn load(
        &self,
        text: &str,
        variables: &[(&str, &str)],
        set: &[(&str, &str)],
    ) -> Result<Config, Problems> {
        self.write("pushrider.toml", text);
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        load(&Request {
            file: Some(self.path("pushrider.toml")),
            set: set.iter().map(own).collect(),
            environment: variables.iter().map(own).collect(),
        })
    }

    /// The problems, one a line, with `FILE` for the file and `DIR` for the folder.
    fn problems(
        &self,
        text: &str,
        variables: &[(&str, &str)],
        set: &[(&str, &str)],
    ) -> Vec<String> {
        let problems = self.load(text, variables, set).unwrap_err();
        let lines = problems.findings().iter().map(ToString::to_string);
        lines.map(|line| self.shorten(&line)).collect()
    }

    fn shorten(&self, line: &str) -> String {
        let folder = self.0.path().to_str().unwrap();
        line.replace(&format!("{folder}/pushrider.toml"), "FILE")
            .replace(folder, "DIR")
    }
}

/// The least that works, but for what a test adds.
const GOOD: &str = r#"
    [apps.default]
    subject = "mailto:push@shop.org"
    [keys.main]
    private_key_file = "main.pem"
"#;

fn good(more: &str) -> String {
    format!("{GOOD}{more}")
}

#[test]
fn one_application_and_one_key_are_enough() {
    let config = ConfigDir::new().load(GOOD, &[], &[]).unwrap();
    assert_eq!(config.warnings, []);
    let settings = config.daemon;
    assert_eq!(settings.broker.urls[0].expose(), "amqp://127.0.0.1:5672");
    assert_eq!(settings.broker.bands.len(), 18);
    assert_eq!(settings.broker.lanes.len(), 1);
    assert_eq!(settings.push_timeout, Duration::from_secs(20));
    assert_eq!(settings.event_limit, 4 * 1024 * 1024);
    let app = settings.apps.iter().next().unwrap();
    assert_eq!(
        (app.name.as_str(), app.ttl, app.payload_limit),
        ("default", 86_400, 3993)
    );
    assert_eq!(app.ring.primary.name().as_str(), "main");
}

#[test]
fn what_works_but_is_odd_is_warned_about() {
    let directory = ConfigDir::new();
    let text = good("[keys.twin]\nprivate_key_file = \"main.pem\"\n")
        .replace("[keys.main]", "primary = \"main\"\n[keys.main]");
    let config = directory.load(&text, &[], &[]).unwrap();
    let warnings: Vec<String> = config
        .warnings
        .iter()
        .map(|w| directory.shorten(&w.to_string()))
        .collect();
    let expected = [
        "keys.twin: is the same key as keys.main (FILE)",
        "keys.twin: no application uses it (FILE)",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn a_proxy_of_the_environment_is_warned_about_once_and_never_used() {
    let directory = ConfigDir::new();
    let url = format!("http://u:{MARK}@h:3128");
    let variables = [
        ("HTTPS_PROXY", &*url),
        ("all_proxy", &*url),
        ("NO_PROXY", "h"),
    ];
    let config = directory.load(GOOD, &variables, &[]).unwrap();
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "push.proxy: the proxy of the environment (HTTPS_PROXY, all_proxy) is not used: requests to \
             push services go out directly; to send them through a proxy, set push.proxy (default)"
        ]
    );
    assert!(config.daemon.push_service.proxy.is_none());

    let named = good("[push]\nproxy = \"http://proxy.example.org:3128\"");
    let config = directory.load(&named, &variables, &[]).unwrap();
    assert_eq!(config.warnings, []);
    let proxy = config.daemon.push_service.proxy.unwrap();
    assert_eq!(&**proxy.place(), "proxy.example.org:3128");
}

#[test]
fn a_proxy_may_be_in_a_file_or_in_the_environment() {
    let directory = ConfigDir::new();
    directory.write("proxy", "http://u:p@proxy.example.org\n");
    let place = |text: &str, variables: &[(&str, &str)]| {
        let config = directory.load(text, variables, &[]).unwrap();
        config
            .daemon
            .push_service
            .proxy
            .unwrap()
            .place()
            .to_string()
    };
    let in_file = good("[push]\nproxy_file = \"proxy\"");
    assert_eq!(place(&in_file, &[]), "proxy.example.org:80");
    let variable = [("PUSHRIDER_PUSH__PROXY", "http://other.example.org:8080")];
    assert_eq!(place(GOOD, &variable), "other.example.org:8080");
    assert_eq!(place(&in_file, &variable), "other.example.org:8080");
}
