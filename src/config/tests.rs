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

/// Put wherever a secret may be; must never come out.
const MARK: &str = "Geheimnis";

/// A folder with a configuration and a key.
struct Place(TempDir);

impl Place {
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
    let config = Place::new().load(GOOD, &[], &[]).unwrap();
    assert_eq!(config.warnings, []);
    let settings = config.daemon;
    assert_eq!(settings.broker.url.expose(), "amqp://127.0.0.1:5672");
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
fn how_requests_are_made_is_read_and_off_by_default() {
    let place = Place::new();
    let requests = |more: &str, variables: &[(&str, &str)]| {
        let (app, key) = GOOD.split_once("[keys.main]").unwrap();
        let text = format!("{app}{more}\n[keys.main]{key}");
        let config = place.load(&text, variables, &[]).unwrap();
        config.daemon.apps.iter().next().unwrap().requests.clone()
    };
    let plain = requests("", &[]);
    assert!(!plain.aesgcm && plain.payload_limits.is_empty());
    assert_eq!(plain.padding, Padding::None);
    assert_eq!(plain.declarative, MediaType::OctetStream);
    let all = "aesgcm = true
        padding = \"256B\"
        payload_limits = { mozilla = \"2744B\" }
        declarative_content_type = \"application/notification+json\"";
    let apple = ("PUSHRIDER_APPS__DEFAULT__PAYLOAD_LIMITS__APPLE", "3000");
    let all = requests(all, &[apple]);
    assert!(all.aesgcm);
    assert_eq!(all.padding, Padding::ToBlock(256.try_into().unwrap()));
    let limits = [(Service::Mozilla, 2744), (Service::Apple, 3000)];
    assert_eq!(all.payload_limits, limits.into());
    assert_eq!(all.declarative, MediaType::Notification);
    for (padding, expected) in [
        ("\"ceiling\"", Padding::ToCeiling),
        ("64", Padding::ToBlock(64.try_into().unwrap())),
    ] {
        assert_eq!(
            requests(&format!("padding = {padding}"), &[]).padding,
            expected
        );
    }
}

#[test]
fn every_problem_is_told_with_its_key_its_source_and_what_was_expected() {
    let place = Place::new();
    for (text, expected) in [
        (
            "[push]\ntimeout = 20",
            "push.timeout: expected a duration from \"10ms\" to \"5m\", got 20 (FILE)",
        ),
        (
            "[push]\ntimeout = \"20\"",
            "push.timeout: expected a duration from \"10ms\" to \"5m\", got \"20\" (FILE)",
        ),
        (
            "[push]\ntimout = \"2s\"",
            "push.timout: no such key; did you mean timeout? (FILE)",
        ),
        (
            "[shutdown]\nx = 1",
            "shutdown.x: no such key; there are grace (FILE)",
        ),
        (
            "[brocker]\nx = 1",
            "brocker: no such section; did you mean broker? (FILE)",
        ),
        (
            "[broker]\nheartbeat = \"0s\"",
            "broker.heartbeat: expected a duration from \"1s\" to \"1m\", got \"0s\" (FILE)",
        ),
        (
            "[broker]\ndeclare = \"creat\"",
            "broker.declare: expected \"create\", \"passive\" or \"none\", got \"creat\" (FILE)",
        ),
        (
            "[broker]\nprefix = \"a.b\"",
            "broker.prefix: a name has 1 to 64 of the characters a to z, 0 to 9, - and _ (FILE)",
        ),
        (
            "[broker]\nca_file = \"main.pem\"",
            "broker.ca_file: DIR/main.pem has no certificate in PEM (FILE)",
        ),
        (
            "[broker]\nurl_file = \"none\"",
            "broker.url_file: cannot read DIR/none: no such file (FILE)",
        ),
        (
            "[broker]\nurl_file = \".\"",
            "broker.url_file: DIR/. is not a regular file (FILE)",
        ),
        (
            "[broker]\nurl = \"amqp://h\"\nurl_file = \"x\"",
            "broker.url: is set, and so is broker.url_file; keep one of them (FILE)",
        ),
        (
            "[broker]\nurl = \"amqp://h/\"",
            "broker.url: ends with /, which names the virtual host \"\"; leave it out for the virtual host \"/\" (FILE)",
        ),
        (
            "[broker]\nurl = \"http://h\"",
            "broker.url: must begin with amqp:// or amqps:// (FILE)",
        ),
        (
            "[lanes.High]",
            "lanes.High: a name has 1 to 64 of the characters a to z, 0 to 9, - and _ (FILE)",
        ),
        (
            "[lanes.high]\nprefetch = 65536",
            "lanes.high.prefetch: expected a whole number from 1 to 65535, got 65536 (FILE)",
        ),
        (
            "[lanes.high]\nmax_size = \"1\"",
            "lanes.high.max_size: expected a size from \"64KiB\" to \"1024GiB\", got \"1\" (FILE)",
        ),
        (
            "[delay]\nbands = []",
            "delay.bands: must have at least one band such as \"1s\", got none (FILE)",
        ),
        (
            "[delay]\nbands = [\"1s\", \"2m\", \"30s\"]",
            "delay.bands[2]: must be longer than the band before it (\"2m\"), got \"30s\" (FILE)",
        ),
        (
            "[delay]\nbands = [\"1s\", \"1s\"]",
            "delay.bands[1]: must be longer than the band before it (\"1s\"), got \"1s\" (FILE)",
        ),
        (
            "[delay]\nbands = [\"0s\"]",
            "delay.bands[0]: expected a duration from \"1ms\" to \"49d\", got \"0s\" (FILE)",
        ),
        (
            "[guard]\nallow = [\"0.0.0.0/0\"]",
            "guard.allow[0]: expected a network such as \"10.1.0.0/16\", at most a /8 (IPv6: a /7) wide, or the name of a host, got \"0.0.0.0/0\" (FILE)",
        ),
        (
            "[guard]\nallow = [\"::/0\"]",
            "guard.allow[0]: expected a network such as \"10.1.0.0/16\", at most a /8 (IPv6: a /7) wide, or the name of a host, got \"::/0\" (FILE)",
        ),
        (
            "[guard]\nallow = [\"*.lan\"]",
            "guard.allow[0]: expected a network such as \"10.1.0.0/16\", at most a /8 (IPv6: a /7) wide, or the name of a host, got \"*.lan\" (FILE)",
        ),
        (
            "[guard]\nhosts = \"all\"",
            "guard.hosts: expected \"public\", \"known\" or a list of hosts, got \"all\" (FILE)",
        ),
        (
            "[guard]\nhosts = [\"push.example.org\", \"^https://.+\"]",
            "guard.hosts[1]: expected a host such as \"push.example.org\", or \".example.org\" for every name below it, got \"^https://.+\" (FILE)",
        ),
        (
            "[guard]\nhosts = []",
            "guard.hosts: must have at least one host while there are no [services], got none (FILE)",
        ),
        (
            "[services.\"https://push.example.org\"]\nas = \"gotify\"",
            "services.https://push.example.org.as: expected a family of push services (\"fcm\", \"mozilla\", \"apple\", \"wns\", \"ntfy\", \"nextpush\" or \"other\"), got \"gotify\" (FILE)",
        ),
        (
            "[services.\"https://push.example.org\"]",
            "services.https://push.example.org: needs as, the family of the push service there, for example as = \"ntfy\" (FILE)",
        ),
        (
            "[services.\"https://[2001:db8::1]\"]",
            "services.https://[2001:db8::1]: needs as, the family of the push service there, for example as = \"ntfy\" (FILE)",
        ),
        (
            "[services.\"push.example.org\"]\nas = \"ntfy\"",
            "services.push.example.org: expected an origin such as https://push.example.org or https://push.example.org:8443 (FILE)",
        ),
        (
            "[services.\"https://push.example.org/up\"]\nas = \"ntfy\"",
            "services.https://push.example.org/up: has a path; an origin ends with the host or the port (FILE)",
        ),
        (
            "[services.\"http://push.example.org\"]\nas = \"ntfy\"",
            "services.http://push.example.org: is an http origin, which is pushed to only with guard.http = true (FILE)",
        ),
        (
            "[services]\n\"https://push.example.org\" = { as = \"ntfy\" }\n\"https://Push.example.org:443/\" = { as = \"mozilla\" }",
            "services.https://push.example.org: is the same origin as services.https://Push.example.org:443/; one of them is enough (FILE)",
        ),
        (
            "[guard]\nports = []",
            "guard.ports: must have at least one port, got none; push services answer on 443 (FILE)",
        ),
        (
            "[guard]\nhttp = \"yes\"",
            "guard.http: expected true or false, got \"yes\" (FILE)",
        ),
        (
            "[admin]\nlisten = \"localhost:9464\"",
            "admin.listen: expected an IP address and a port such as \"127.0.0.1:9464\", or \"off\", got \"localhost:9464\" (FILE)",
        ),
        (
            "[log]\nfilter = \"inof\"",
            "log.filter: expected a level (off, error, warn, info, debug, trace) or levels of targets as in \"info,pushrider::broker=debug\", got \"inof\" (FILE)",
        ),
        (
            "[push]\ntimeout = \"24s\"",
            "push.timeout: must be, together with push.max_wait (\"1s\"), shorter than shutdown.grace (\"25s\"), got \"24s\" (FILE)",
        ),
        (
            "[push]\nmax_wait = \"5s\"",
            "push.max_wait: must be, together with push.timeout (\"20s\"), shorter than shutdown.grace (\"25s\"), got \"5s\" (FILE)",
        ),
        (
            "[shutdown]\ngrace = \"21s\"",
            "shutdown.grace: must be longer than push.timeout and push.max_wait together (\"21s\"), got \"21s\" (FILE)",
        ),
        (
            "[push]\nconnect_timeout = \"30s\"",
            "push.connect_timeout: must be at most push.timeout (\"20s\"), got \"30s\" (FILE)",
        ),
        (
            "[push]\nper_origin = 501",
            "push.per_origin: must be at most push.in_flight (500), got 501 (FILE)",
        ),
        (
            "[gate]\nopen = \"30s\"\nopen_cap = \"20s\"",
            "gate.open: must be at most gate.open_cap (\"20s\"), got \"30s\" (FILE)",
        ),
        (
            "[retry]\nbase = \"11m\"",
            "retry.base: must be at most retry.cap (\"10m\"), got \"11m\" (FILE)",
        ),
        (
            "[retry]\nmax_attempts = -1",
            "retry.max_attempts: expected a whole number from 1 to 1000, got -1 (FILE)",
        ),
        (
            "[events]\nmax_size = \"1GiB\"",
            "events.max_size: expected a size from \"1KiB\" to \"128MiB\", got \"1GiB\" (FILE)",
        ),
    ] {
        assert_eq!(place.problems(&good(text), &[], &[]), [expected], "{text}");
    }
}

#[test]
fn every_problem_of_applications_and_keys_is_told() {
    let place = Place::new();
    let key = "[keys.main]\nprivate_key_file = \"main.pem\"\n";
    let app = "[apps.shop]\nsubject = \"mailto:push@shop.org\"\n";
    for (text, expected) in [
        (
            "".to_owned(),
            "apps: no application is configured; write a section [apps.NAME] with subject = \"mailto:you@your-domain\" (FILE)",
        ),
        (
            app.to_owned(),
            "keys: there is no key to sign with; `pushrider keys generate --out FILE` makes one, and a section [keys.ID] with private_key_file = \"FILE\" names it (FILE)",
        ),
        (
            format!("{key}[apps.shop]"),
            "apps.shop.subject: is missing; write where push services can reach you: subject = \"mailto:you@your-domain\" (FILE)",
        ),
        (
            format!("{key}{app}primary = \"mian\""),
            "apps.shop.primary: there is no section [keys.mian]; did you mean \"main\"? (FILE)",
        ),
        (
            format!("{key}{app}keys = [\"2025\"]"),
            "apps.shop.keys[0]: there is no section [keys.2025] (FILE)",
        ),
        (
            format!("{key}{app}keys = [\"main\"]"),
            "apps.shop.keys[0]: the ring has \"main\" already (FILE)",
        ),
        (
            format!("{key}{app}ttl = \"1500ms\""),
            "apps.shop.ttl: must be in whole seconds (FILE)",
        ),
        (
            format!("{key}{app}ttl = \"29d\""),
            "apps.shop.ttl: expected a duration from \"0s\" to \"28d\", got \"29d\" (FILE)",
        ),
        (
            format!("{key}{app}padding = \"some\""),
            "apps.shop.padding: expected \"none\", \"ceiling\" or a size from \"2B\" to \"3993B\", \
             got \"some\" (FILE)",
        ),
        (
            format!("{key}{app}padding = 1"),
            "apps.shop.padding: expected \"none\", \"ceiling\" or a size from \"2B\" to \"3993B\", \
             got 1 (FILE)",
        ),
        (
            format!("{key}{app}payload_limits = {{ mozila = 2744 }}"),
            "apps.shop.payload_limits.mozila: no such key; did you mean mozilla? (FILE)",
        ),
        (
            format!("{key}{app}payload_limits = {{ mozilla = 5000 }}"),
            "apps.shop.payload_limits.mozilla: expected a size from \"1B\" to \"3993B\", got 5000 \
             (FILE)",
        ),
        (
            format!("{key}{app}payload_limit = 3994"),
            "apps.shop.payload_limit: expected a size from \"1B\" to \"3993B\", got 3994 (FILE)",
        ),
        (
            format!("{key}[apps._x]\nsubject = \"mailto:push@shop.org\""),
            "apps._x: names that begin with _ are reserved (FILE)",
        ),
        (
            format!("{app}[keys.main]"),
            "keys.main: needs private_key_file, the path of a private key; `pushrider keys generate --out FILE` makes one (FILE)",
        ),
        (
            format!("{app}[keys.main]\nprivate_key_file = \"gone.pem\""),
            "keys.main.private_key_file: cannot read DIR/gone.pem: no such file (FILE)",
        ),
        (
            format!("{key}{app}[keys.next]\nprivate_key_file = \"main.pem\""),
            "apps.shop.primary: is missing; name the key that signs: \"main\" or \"next\" (FILE)",
        ),
        (
            format!("{app}keys = 1\n{key}"),
            "apps.shop.keys: expected a list, got 1 (FILE)",
        ),
        (
            "apps = 1".to_owned(),
            "apps: expected a section, got 1 (FILE)",
        ),
    ] {
        assert_eq!(place.problems(&text, &[], &[]), [expected], "{text}");
    }
}

#[test]
fn what_the_rules_of_others_say_is_repeated_under_the_key() {
    let place = Place::new();
    let text = "[apps.shop]\nsubject = \"push@shop.org\"\n[keys.main]\nprivate_key = \"x\"";
    let problems = place.problems(text, &[], &[]);
    let begins = [
        "keys.main.private_key: ",
        "apps.shop.subject: the VAPID subject must begin",
    ];
    assert_eq!(problems.len(), 2, "{problems:?}");
    for (problem, begin) in problems.iter().zip(begins) {
        assert!(problem.starts_with(begin), "{problem}");
    }
}

#[test]
fn one_run_tells_all_problems_of_shape_and_meaning() {
    let text = "lanes = 3\n[push]\ntimeout = 1\nin_flight = 0\nmax_wai = 1\n\
                [delay]\nbands = [\"x\", \"1s\", 2, \"3s\", \"y\"]\n\
                [shutdown]\ngrace = \"2s\"\n[apps.shop]\n";
    let variables = [
        ("PUSHRIDER_RETRY__BASE", "1d"),
        ("PUSHRIDER_PUSH__MAX_WAIT", "soon"),
    ];
    let problems = Place::new().problems(text, &variables, &[("log.format", "xml")]);
    let keys: Vec<&str> = problems
        .iter()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    let expected = [
        "apps.shop.subject",
        "delay.bands[0]",
        "delay.bands[2]",
        "delay.bands[4]",
        "keys",
        "lanes",
        "log.format",
        "push.in_flight",
        "push.max_wai",
        "push.max_wait",
        "push.timeout",
        "retry.base",
    ];
    assert_eq!(sorted, expected, "{problems:#?}");
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let place = Place::new();
    let text = good("[retry]\nmax_attempts = 2\nbase = \"2s\"\ncap = \"2m\"");
    let variables = [
        ("PUSHRIDER_RETRY__BASE", "3s"),
        ("PUSHRIDER_RETRY__CAP", "3m"),
    ];
    let config = place
        .load(&text, &variables, &[("retry.cap", "4m")])
        .unwrap();
    let retry = config.daemon.retry.of(Service::Fcm);
    assert_eq!(retry.max_attempts, 2);
    assert_eq!([retry.base, retry.cap], [3, 240].map(Duration::from_secs));
    let printed = place.shorten(&config.effective.to_string());
    for line in [
        "max_attempts = 2  # FILE",
        "base = \"3s\"  # PUSHRIDER_RETRY__BASE",
        "cap = \"4m\"  # --set",
        "retry_after_cap = \"24h\"",
    ] {
        assert!(
            printed.lines().any(|printed| printed == line),
            "{line}\n{printed}"
        );
    }
}

#[test]
fn a_family_of_push_services_has_what_it_says_and_else_what_all_have() {
    let place = Place::new();
    let text = good("[retry]\nbase = \"2s\"\n[retry.services.ntfy]\nmax_attempts = 3");
    let variables = [("PUSHRIDER_RETRY__SERVICES__NTFY__CAP", "1h")];
    let config = place.load(&text, &variables, &[]).unwrap();
    let retry = config.daemon.retry;
    for (service, attempts, cap) in [(Service::Ntfy, 3, 3600), (Service::Other, 10, 600)] {
        let policy = retry.of(service);
        assert_eq!(policy.max_attempts, attempts);
        assert_eq!([policy.base, policy.cap], [2, cap].map(Duration::from_secs));
    }
    for (text, expected) in [
        (
            "[retry.services.ntfi]\ncap = \"1h\"",
            "retry.services.ntfi: no such family of push services; did you mean ntfy? (FILE)",
        ),
        (
            "[retry.services.fcm]\nbase = \"1h\"",
            "retry.services.fcm.base: must be at most retry.cap (\"10m\"), got \"1h\" (FILE)",
        ),
        (
            "[retry.services.fcm]\nbase = \"1h\"\ncap = \"1m\"",
            "retry.services.fcm.base: must be at most retry.services.fcm.cap (\"1m\"), got \"1h\" (FILE)",
        ),
        (
            "[retry.services.fcm]\ncap = \"1s\"",
            "retry.services.fcm.cap: must be at least retry.base (\"5s\"), got \"1s\" (FILE)",
        ),
        (
            "[retry.services.fcm]\ntries = 3",
            "retry.services.fcm.tries: no such key; there are max_attempts, base, cap, retry_after_cap (FILE)",
        ),
    ] {
        assert_eq!(place.problems(&good(text), &[], &[]), [expected]);
    }
}

#[test]
fn variables_are_read_as_what_they_are() {
    let place = Place::new();
    let pem = fs::read_to_string(place.path("main.pem")).unwrap();
    let config = place
        .load(
            "",
            &[
                ("PUSHRIDER_APPS__SHOP__SUBJECT", "mailto:push@shop.org"),
                ("PUSHRIDER_APPS__SHOP__PRIMARY", "2026"),
                (
                    "PUSHRIDER_KEYS__2026__PRIVATE_KEY",
                    &pem.replace('\n', "\\n"),
                ),
                ("PUSHRIDER_GUARD__ALLOW", "[\"127.0.0.1\", \"10.1.2.3/16\"]"),
                ("PUSHRIDER_GUARD__PORTS", "[8443]"),
                ("PUSHRIDER_GUARD__HTTP", "true"),
                ("PUSHRIDER_PUSH__IN_FLIGHT", "100"),
                ("PUSHRIDER_PUSH__TIMEOUT", "3s"),
                ("PUSHRIDER_BROKER__PREFIX", "007"),
                ("PUSHRIDER_ADMIN__LISTEN", "off"),
                ("PUSHRIDER_LOG__FILTER", ""),
                ("PUSHRIDER_SERVICE_HOST", "10.0.0.1"),
                ("PUSHRIDER_PORT_9464_TCP_ADDR", "10.0.0.1"),
                ("PUSHRIDER_CONFIG", "/elsewhere"),
            ],
            &[],
        )
        .unwrap();
    let settings = config.daemon;
    let app = settings.apps.iter().next().unwrap();
    assert_eq!(app.ring.primary.name().as_str(), "2026");
    let rules = &settings.push_service.guard;
    let allowed: Vec<String> = rules.allow.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["127.0.0.1/32", "10.1.0.0/16"]);
    assert_eq!(
        (rules.ports.as_slice(), rules.http),
        ([8443].as_slice(), true)
    );
    assert_eq!(settings.gate.in_flight, 100);
    assert_eq!(settings.broker.prefix.as_str(), "007");
    assert_eq!(settings.admin.listen, None);
    assert_eq!(config.logging.filter, "info");
    // Defaults give way to what was set.
    assert_eq!(settings.gate.per_origin, 100);
    assert_eq!(
        settings.push_service.connect_timeout,
        Duration::from_secs(3)
    );
}

#[test]
fn whom_to_push_to_is_an_operators_choice() {
    let rules = |text: &str| {
        let config = Place::new().load(&good(text), &[], &[]).unwrap();
        (
            config.daemon.push_service.guard,
            config.effective.to_string(),
        )
    };
    let (silent, _) = rules("");
    assert_eq!(*silent, guard::Rules::default());
    let (rules, shown) = rules(
        "[guard]\nhosts = [\"fcm.googleapis.com\", \".push.apple.com\"]\n\
         allow = [\"ntfy.lan\", \"10.0.0.5\"]\nports = [443, 9443]\n\
         [services.\"https://Ntfy.lan:8443\"]\nas = \"ntfy\"\n\
         [services.\"https://push.example.org\"]\nas = \"other\"",
    );
    for (endpoint, judgement) in [
        ("https://fcm.googleapis.com/fcm/send/x", true),
        ("https://web.push.apple.com/x", true),
        ("https://ntfy.lan:8443/upx?up=1", true),
        ("https://push.example.org/x", true),
        ("https://ntfy.lan/upx?up=1", false),
        ("https://push.example.net/x", false),
    ] {
        let endpoint = Endpoint::parse(endpoint).unwrap().known_to(&rules.services);
        assert_eq!(rules.check(&endpoint).is_ok(), judgement, "{endpoint:?}");
    }
    let own = Endpoint::parse("https://ntfy.lan:8443/x").unwrap();
    let own = own.known_to(&rules.services);
    assert_eq!((own.service(), own.listed().0), (Service::Ntfy, true));
    assert!(rules.permits_resolved("ntfy.lan", [192, 168, 0, 5].into()));
    // What is shown can be read again.
    let shown: toml::Table = toml::from_str(&shown).unwrap();
    assert_eq!(
        shown["services"]["https://Ntfy.lan:8443"]["as"].as_str(),
        Some("ntfy")
    );
}

#[test]
fn a_variable_that_sets_nothing_is_a_problem() {
    let place = Place::new();
    for (name, value, expected) in [
        (
            "PUSHRIDER_BROKER_URL",
            "x",
            "names no setting: two underscores divide the levels of a key, as in PUSHRIDER_BROKER__URL (PUSHRIDER_BROKER_URL)",
        ),
        (
            "PUSHRIDER_PUSH__TIMOUT",
            "1s",
            "push.timout: no such key; did you mean timeout? (PUSHRIDER_PUSH__TIMOUT)",
        ),
        (
            "PUSHRIDER_PUSH__TIMEOUT",
            "20",
            "push.timeout: expected a duration from \"10ms\" to \"5m\", got 20 (PUSHRIDER_PUSH__TIMEOUT)",
        ),
        (
            "PUSHRIDER_PUSH__TIMEOUT",
            "\u{fffd}",
            "the variable's value is not UTF-8 (PUSHRIDER_PUSH__TIMEOUT)",
        ),
        (
            "AMQP_URL",
            "localhost",
            "broker.url: is not of the form amqp://user:password@host:5672/virtual-host; in the user, the password and the virtual host, @ is written %40, : %3A, / %2F, ? %3F, # %23 and % %25 (AMQP_URL)",
        ),
    ] {
        assert_eq!(
            place.problems(GOOD, &[(name, value)], &[]),
            [expected],
            "{name}"
        );
    }
    let expected = "the command line is seen by every user of the machine; give a secret as \
                    broker.url_file or in the environment";
    let problems = place.problems(GOOD, &[], &[("broker.url", "amqp://h")]);
    assert_eq!(problems, [format!("broker.url: {expected} (--set)")]);
}

#[test]
fn amqp_url_wins_over_the_file_and_loses_to_our_own_variable() {
    let place = Place::new();
    place.write("url", "amqp://from-file\n");
    let (foreign, own) = (
        ("AMQP_URL", "amqp://foreign"),
        ("PUSHRIDER_BROKER__URL", "amqp://own"),
    );
    let own_file = place.path("url");
    let own_file = ("PUSHRIDER_BROKER__URL_FILE", own_file.to_str().unwrap());
    let file = good("[broker]\nurl_file = \"url\"");
    for (text, variables, expected) in [
        (GOOD, vec![], "amqp://127.0.0.1:5672"),
        (&file, vec![], "amqp://from-file"),
        (&file, vec![foreign], "amqp://foreign"),
        (&file, vec![foreign, own], "amqp://own"),
        (GOOD, vec![("AMQP_URL", ""), own_file], "amqp://from-file"),
        (
            GOOD,
            vec![("AMQP_URL", "amqps://u:p%40@[::1]/v%2Fh")],
            "amqps://u:p%40@[::1]/v%2Fh",
        ),
    ] {
        let config = place.load(text, &variables, &[]).unwrap();
        assert_eq!(config.daemon.broker.url.expose(), expected);
    }
}

#[test]
fn credentials_of_the_service_manager_are_found_by_the_name_of_their_key() {
    let place = Place::new();
    fs::create_dir(place.path("credentials")).unwrap();
    place.write("credentials/broker.url", "amqp://credential\n");
    let pem = fs::read_to_string(place.path("main.pem")).unwrap();
    place.write("credentials/keys.main.private_key", &pem);
    // As a mask of an access list looks; the service manager knows what it does.
    place.chmod("credentials/keys.main.private_key", 0o440);
    let folder = place.path("credentials");
    let variables = [("CREDENTIALS_DIRECTORY", folder.to_str().unwrap())];
    let app = "[apps.shop]\nsubject = \"mailto:push@shop.org\"\n";
    let config = place.load(app, &variables, &[]).unwrap();
    assert_eq!(config.daemon.broker.url.expose(), "amqp://credential");
    assert_eq!(config.warnings, []);
    let file = format!("{app}[broker]\nurl = \"amqp://file\"");
    let config = place.load(&file, &variables, &[]).unwrap();
    assert_eq!(config.daemon.broker.url.expose(), "amqp://file");
    place.write("credentials/broker.url", "http://credential");
    let expected = "broker.url: must begin with amqp:// or amqps:// (DIR/credentials/broker.url)";
    assert_eq!(place.problems(app, &variables, &[]), [expected]);
}

#[test]
fn state_is_kept_where_the_key_says_or_the_service_manager_made_room() {
    let place = Place::new();
    fs::create_dir(place.path("state")).unwrap();
    let own = good("[push]\nstate_dir = \"state\"");
    let offered = [("STATE_DIRECTORY", "/var/lib/pushrider:/var/lib/other")];
    let state = place.path("state");
    for (text, variables, expected) in [
        (GOOD, &[][..], None),
        (GOOD, &offered, Some(Path::new("/var/lib/pushrider"))),
        (&own, &offered, Some(state.as_path())),
    ] {
        let config = place.load(text, variables, &[]).unwrap();
        assert_eq!(config.daemon.state_dir.as_deref(), expected);
    }
    let missing = good("[push]\nstate_dir = \"nowhere\"");
    let expected = "push.state_dir: DIR/nowhere is not a directory; make it, for the daemon to write to (FILE)";
    assert_eq!(place.problems(&missing, &[], &[]), [expected]);
}

#[test]
fn a_key_that_others_can_read_is_warned_about_and_one_they_can_write_is_refused() {
    let place = Place::new();
    let warnings = || -> Vec<String> {
        let found = place.load(GOOD, &[], &[]).unwrap().warnings;
        found
            .iter()
            .map(|warning| place.shorten(&warning.to_string()))
            .collect()
    };
    assert!(warnings().is_empty());
    place.chmod("main.pem", 0o644);
    let expected =
        "keys.main.private_key_file: every user can read DIR/main.pem; chmod 600 it (FILE)";
    assert_eq!(warnings(), [expected]);
    place.chmod("main.pem", 0o602);
    let expected = "keys.main.private_key_file: every user can replace DIR/main.pem; chmod 600 it, \
                    and make a new key if anybody did (FILE)";
    assert_eq!(place.problems(GOOD, &[], &[]), [expected]);
}

#[test]
fn a_readable_configuration_is_warned_about_if_it_holds_a_secret() {
    let place = Place::new();
    let text = good("[broker]\nurl = \"amqp://u:p@h\"");
    place.load(&text, &[], &[]).unwrap();
    place.chmod("pushrider.toml", 0o644);
    let load = |variables: &[(&str, &str)]| {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let request = Request {
            file: Some(place.path("pushrider.toml")),
            set: Vec::new(),
            environment: variables.iter().map(own).collect(),
        };
        load(&request).unwrap().warnings
    };
    let warnings = load(&[]);
    assert_eq!(warnings.len(), 1);
    let expected = "broker.url: every user can read this secret; chmod 600 the file, or use \
                    broker.url_file (FILE)";
    assert_eq!(place.shorten(&warnings[0].to_string()), expected);
    assert_eq!(load(&[("AMQP_URL", "amqp://other")]), []);
}

#[test]
fn what_works_but_is_odd_is_warned_about() {
    let place = Place::new();
    let text = good("[keys.twin]\nprivate_key_file = \"main.pem\"\n")
        .replace("[keys.main]", "primary = \"main\"\n[keys.main]");
    let config = place.load(&text, &[], &[]).unwrap();
    let warnings: Vec<String> = config
        .warnings
        .iter()
        .map(|w| place.shorten(&w.to_string()))
        .collect();
    let expected = [
        "keys.twin: is the same key as keys.main (FILE)",
        "keys.twin: no application uses it (FILE)",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn the_file_that_nobody_named_need_not_exist_but_a_named_one_must() {
    let missing = Path::new("/nonexistent/pushrider.toml").to_owned();
    let by_flag = Request {
        file: Some(missing.clone()),
        ..Request::default()
    };
    let variable = (
        "PUSHRIDER_CONFIG".to_owned(),
        missing.to_str().unwrap().to_owned(),
    );
    let by_variable = Request {
        environment: [variable].into_iter().collect(),
        ..Request::default()
    };
    for request in [by_flag, by_variable] {
        let problems = load(&request).unwrap_err();
        let expected = "1 problem in the configuration\n  cannot read the configuration: no such \
                        file  (/nonexistent/pushrider.toml)";
        assert_eq!(problems.to_string(), expected);
    }
}

#[test]
fn a_syntax_error_is_told_by_its_place_alone() {
    let problems = Place::new().problems("[broker]\nurl = amqp://u:Geheimnis@h\n", &[], &[]);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("not TOML at line 2, column 7: "),
        "{problems:?}"
    );
}

#[test]
fn no_message_shows_a_secret() {
    let place = Place::new();
    let key = format!("{MARK}{}", "x".repeat(43 - MARK.len()));
    let url = format!("amqp://u:{MARK}@h");
    let mut files: Vec<String> = Vec::new();
    for wrong in [&url, &key] {
        for value in [
            format!("\"{wrong}\""),
            format!("[\"{wrong}\"]"),
            format!("{{ a = \"{wrong}\" }}"),
        ] {
            for key in [
                "broker",
                "broker.url",
                "broker.url_file",
                "broker.uri",
                "broker.ca_file",
                "broker.prefix",
                "broker.heartbeat",
                "broker.declare",
                "keys",
                "keys.main",
                "keys.main.private_key",
                "keys.main.private_key_file",
                "keys.main.key",
                "apps.shop",
                "apps.shop.primary",
                "apps.shop.keys",
                "apps.shop.subject",
                "push.ca_file",
                "admin.listen",
                "log.filter",
                "log.format",
                "guard.allow",
                "delay.bands",
                "events.max_size",
                "retry.max_attempts",
            ] {
                files.push(format!("{key} = {value}"));
            }
        }
    }
    // What looks like no secret is one all the same where secrets belong.
    for key in [
        "broker",
        "broker.url",
        "keys",
        "keys.main",
        "keys.main.private_key",
    ] {
        for value in [format!("\"{MARK}\""), format!("[\"{MARK}\"]")] {
            files.push(format!("{key} = {value}"));
        }
    }
    for url in [
        "http://u:MARK@h",
        "amqp://u:MARK/x@h",
        "amqp://u:MARK#x@h",
        "amqp://u:MARK?x@h",
        "amqp://h:MARK",
        "amqp://u:MARK@h/",
        "amqp://u:MARK@[::1]",
        "amqp://u:MARK@h/a/b",
        "amqp://u:MARK@h?heartbeat=x",
        "MARK",
    ] {
        files.push(format!("broker.url = \"{}\"", url.replace("MARK", MARK)));
    }
    for text in files {
        let output = output(&place, &text, &[]);
        assert!(!output.contains(MARK), "{text}\n{output}");
        let (key, value) = text.split_once(" = ").unwrap();
        let name = format!("PUSHRIDER_{}", key.to_uppercase().replace('.', "__"));
        let output = self::output(&place, "", &[(&name, value.trim_matches('"'))]);
        assert!(!output.contains(MARK), "{name}\n{output}");
    }
}

/// Everything that could be shown of a configuration, good or bad.
fn output(place: &Place, text: &str, variables: &[(&str, &str)]) -> String {
    match place.load(text, variables, &[]) {
        Ok(config) => format!("{config:?}\n{}\n{:?}", config.effective, config.warnings),
        Err(problems) => format!("{problems}\n{problems:?}"),
    }
}

#[test]
fn a_good_configuration_shows_no_secret_either() {
    let place = Place::new();
    let url = format!("[broker]\nurl = \"amqp://{MARK}:{MARK}@h?heartbeat=5\"");
    let config = place.load(&good(&url), &[("PUSHRIDER_X", MARK)], &[]).err();
    assert!(config.is_some_and(|problems| !problems.to_string().contains(MARK)));
    let shown = output(&place, &good(&url), &[]);
    assert!(
        shown.contains("push@shop.org") && !shown.contains(MARK),
        "{shown}"
    );
    let config = place.load(&good(&url), &[], &[]).unwrap();
    assert_eq!(super::place(&config.daemon.broker.url), "amqp://h");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_damaged_file_shows_no_secret(
        at in 0usize..230, length in 0usize..12, with in "[\\[\\]\"'=.\n{}#a ]{0,3}",
    ) {
        let place = Place::new();
        let mut text = format!(
            "[broker]\nurl = \"amqp://u:{MARK}@h\"\n[keys]\nmain = {{ private_key = '{MARK}' }}\n\
             [keys.b]\nprivate_key = \"\"\"\n-----BEGIN PRIVATE KEY-----\n{MARK}\n\"\"\"\n"
        );
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        // A damaged mark is no secret.
        let whole = text.match_indices(MARK).all(|(i, _)| end <= i || i + MARK.len() <= at);
        text.replace_range(at..end, &with);
        let shown = output(&place, &text, &[]);
        proptest::prop_assert!(!whole || !shown.contains(MARK), "{text}\n{shown}");
    }
}
