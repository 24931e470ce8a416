//! What wins over what, and where values may come from.

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::broker::ClientCertificate;

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let directory = ConfigDir::new();
    let text = good("[retry]\nmax_attempts = 2\nbase = \"2s\"\ncap = \"2m\"");
    let variables = [
        ("PUSHRIDER_RETRY__BASE", "3s"),
        ("PUSHRIDER_RETRY__CAP", "3m"),
    ];
    let config = directory
        .load(&text, &variables, &[("retry.cap", "4m")])
        .unwrap();
    let retry = config.daemon.retry.of(Service::Fcm);
    assert_eq!(retry.max_attempts, 2);
    assert_eq!([retry.base, retry.cap], [3, 240].map(Duration::from_secs));
    let printed = directory.shorten(&config.effective.to_string());
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
fn variables_are_read_as_what_they_are() {
    let directory = ConfigDir::new();
    let pem = fs::read_to_string(directory.path("main.pem")).unwrap();
    let config = directory
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
fn a_variable_that_sets_nothing_is_a_problem() {
    let directory = ConfigDir::new();
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
            "broker.url: must begin with amqp:// or amqps:// (AMQP_URL)",
        ),
    ] {
        assert_eq!(
            directory.problems(GOOD, &[(name, value)], &[]),
            [expected],
            "{name}"
        );
    }
    let expected = "the command line is seen by every user of the machine; give a secret as \
                    broker.url_file or in the environment";
    let problems = directory.problems(GOOD, &[], &[("broker.url", "amqp://h")]);
    assert_eq!(problems, [format!("broker.url: {expected} (--set)")]);
}

#[test]
fn amqp_url_wins_over_the_file_and_loses_to_our_own_variable() {
    let directory = ConfigDir::new();
    directory.write("url", "amqp://from-file\n");
    let (foreign, own) = (
        ("AMQP_URL", "amqp://foreign"),
        ("PUSHRIDER_BROKER__URL", "amqp://own"),
    );
    let own_file = directory.path("url");
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
        let config = directory.load(text, &variables, &[]).unwrap();
        assert_eq!(config.daemon.broker.urls[0].expose(), expected);
    }
}

#[test]
fn credentials_of_the_service_manager_are_found_by_the_name_of_their_key() {
    let directory = ConfigDir::new();
    fs::create_dir(directory.path("credentials")).unwrap();
    directory.write("credentials/broker.url", "amqp://credential\n");
    let pem = fs::read_to_string(directory.path("main.pem")).unwrap();
    directory.write("credentials/keys.main.private_key", &pem);
    // As a mask of an access list looks; the service manager knows what it does.
    directory.chmod("credentials/keys.main.private_key", 0o440);
    let folder = directory.path("credentials");
    let variables = [("CREDENTIALS_DIRECTORY", folder.to_str().unwrap())];
    let app = "[apps.shop]\nsubject = \"mailto:push@shop.org\"\n";
    let config = directory.load(app, &variables, &[]).unwrap();
    assert_eq!(config.daemon.broker.urls[0].expose(), "amqp://credential");
    assert_eq!(config.warnings, []);
    let file = format!("{app}[broker]\nurl = \"amqp://file\"");
    let config = directory.load(&file, &variables, &[]).unwrap();
    assert_eq!(config.daemon.broker.urls[0].expose(), "amqp://file");
    directory.write("credentials/broker.url", "rabbitmq://credential");
    let expected = "broker.url: must begin with amqp:// or amqps:// (DIR/credentials/broker.url)";
    assert_eq!(directory.problems(app, &variables, &[]), [expected]);
}

#[test]
fn several_hosts_are_a_list_or_the_lines_of_a_file() {
    let directory = ConfigDir::new();
    let urls = |text: &str, variables: &[(&str, &str)]| {
        let config = directory.load(text, variables, &[]).unwrap();
        let urls = config.daemon.broker.urls.iter();
        urls.map(|url| url.expose().clone()).collect::<Vec<_>>()
    };
    let list = good("[broker]\nurls = [\"amqp://a\", \"amqp://b\"]");
    assert_eq!(urls(&list, &[]), ["amqp://a", "amqp://b"]);
    let one = [("AMQP_URL", "amqp://c")];
    assert_eq!(urls(&list, &one), ["amqp://c"]);
    let variable = [("PUSHRIDER_BROKER__URLS", "[\"amqp://d\", \"amqp://e\"]")];
    assert_eq!(urls(&list, &variable), ["amqp://d", "amqp://e"]);

    directory.write("hosts", "amqp://f\n\n amqp://g\n");
    let file = good("[broker]\nurl_file = \"hosts\"");
    assert_eq!(urls(&file, &[]), ["amqp://f", "amqp://g"]);
    assert_eq!(urls(&file, &variable), ["amqp://d", "amqp://e"]);
    directory.write("hosts", "amqp://f\nrabbit\n");
    let expected = "broker.url_file: URL number 2 must begin with amqp:// or amqps:// (FILE)";
    assert_eq!(directory.problems(&file, &[], &[]), [expected]);
    directory.write("hosts", "\n");
    let expected = "broker.url_file: is missing; write at least one (FILE)";
    assert_eq!(directory.problems(&file, &[], &[]), [expected]);

    let flag = [("broker.urls", "[\"amqp://h\"]")];
    let problems = directory.problems(GOOD, &[], &flag);
    assert!(
        problems[0].contains("give a secret as broker.url_file"),
        "{problems:?}"
    );
}

#[test]
fn the_key_of_a_client_certificate_is_a_file_or_a_credential() {
    let directory = ConfigDir::new();
    fs::create_dir(directory.path("credentials")).unwrap();
    let pair = || {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let ((certificate, key), (_, other)) = (pair(), pair());
    directory.write("client.pem", &certificate);
    directory.write("client-key.pem", &key);
    let text = good("[broker]\nclient_certificate_file = \"client.pem\"");
    let with_file = format!("{text}\nclient_key_file = \"client-key.pem\"");
    let config = directory.load(&with_file, &[], &[]).unwrap();
    let files = ClientCertificate {
        certificate: directory.path("client.pem"),
        key: directory.path("client-key.pem"),
    };
    assert_eq!(config.daemon.broker.client, Some(files));

    let folder = directory.path("credentials");
    let variables = [("CREDENTIALS_DIRECTORY", folder.to_str().unwrap())];
    directory.write("credentials/broker.client_key", &key);
    let config = directory.load(&text, &variables, &[]).unwrap();
    let found = config.daemon.broker.client.unwrap().key;
    assert_eq!(found, folder.join("broker.client_key"));

    directory.write("client-key.pem", &other);
    let expected = "broker.client_key_file: is not the key of the first certificate in \
                    broker.client_certificate_file: the two must be made together (FILE)";
    assert_eq!(directory.problems(&with_file, &[], &[]), [expected]);
}

#[test]
fn state_is_kept_where_the_key_says_or_the_service_manager_made_room() {
    let directory = ConfigDir::new();
    fs::create_dir(directory.path("state")).unwrap();
    let own = good("[push]\nstate_dir = \"state\"");
    let offered = [("STATE_DIRECTORY", "/var/lib/pushrider:/var/lib/other")];
    let state = directory.path("state");
    for (text, variables, expected) in [
        (GOOD, &[][..], None),
        (GOOD, &offered, Some(Path::new("/var/lib/pushrider"))),
        (&own, &offered, Some(state.as_path())),
    ] {
        let config = directory.load(text, variables, &[]).unwrap();
        assert_eq!(config.daemon.state_dir.as_deref(), expected);
    }
    let missing = good("[push]\nstate_dir = \"nowhere\"");
    let expected = "push.state_dir: DIR/nowhere is not a directory; make it, for the daemon to write to (FILE)";
    assert_eq!(directory.problems(&missing, &[], &[]), [expected]);
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
