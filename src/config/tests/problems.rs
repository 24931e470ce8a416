//! Every problem, word for word.

use super::*;

#[test]
fn every_problem_is_told_with_its_key_its_source_and_what_was_expected() {
    let directory = ConfigDir::new();
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
            "[push]\nproxy = \"proxy.example.org:3128\"",
            "push.proxy: must begin with http://, as in \"http://proxy.example.org:3128\"; proxies that are connected to with https:// or socks5:// are not supported (FILE)",
        ),
        (
            "[push]\nproxy = \"socks5://proxy.example.org\"",
            "push.proxy: must begin with http://, as in \"http://proxy.example.org:3128\"; proxies that are connected to with https:// or socks5:// are not supported (FILE)",
        ),
        (
            "[push]\nproxy = \"http://proxy.example.org/path\"",
            "push.proxy: must be http://host:port or http://user:password@host:port and nothing else; in the user and the password, @ is written %40, : %3A, / %2F, ? %3F, # %23 and % %25 (FILE)",
        ),
        (
            "[push]\nproxy_file = \"none\"",
            "push.proxy_file: cannot read DIR/none: no such file (FILE)",
        ),
        (
            "[push]\nproxy = \"http://proxy.example.org\"\n[guard]\nhttp = true",
            "push.proxy: cannot be used with guard.http = true: the proxy would read and answer plain http requests itself; leave one of them out (FILE)",
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
            "[broker]\nurls = []",
            "broker.urls: must have at least one URL, got none (FILE)",
        ),
        (
            "[broker]\nurls = [\"amqp://a\", \"amqp://b/\"]",
            "broker.urls[1]: ends with /, which names the virtual host \"\"; leave it out for the virtual host \"/\" (FILE)",
        ),
        (
            "[broker]\nurls = [\"amqp://a\", \"amqp://b/v\"]",
            "broker.urls[1]: names another virtual host than the first URL: all hosts are nodes of one cluster, so write the same virtual host in each (FILE)",
        ),
        (
            "[broker]\nurls = \"amqp://a\"",
            "broker.urls: expected a list, got (hidden) (FILE)",
        ),
        (
            "[broker]\nurl = \"amqp://a\"\nurls = [\"amqp://b\"]",
            "broker.urls: is set, and so is broker.url; keep one of them (FILE)",
        ),
        (
            "[broker]\nurl_file = \"x\"\nurls = [\"amqp://b\"]",
            "broker.urls: is set, and so is broker.url_file; keep one of them (FILE)",
        ),
        (
            "[broker]\nclient_key_file = \"main.pem\"",
            "broker.client_key_file: is the key of a certificate: set broker.client_certificate_file as well (FILE)",
        ),
        (
            "[broker]\nclient_certificate_file = \"main.pem\"",
            "broker.client_certificate_file: is of no use without its key: set broker.client_key_file as well (FILE)",
        ),
        (
            "[broker]\nclient_certificate_file = \"main.pem\"\nclient_key_file = \"main.pem\"",
            "broker.client_certificate_file: DIR/main.pem has no certificate in PEM (FILE)",
        ),
        (
            "[broker]\nurl = \"amqps://h?auth_mechanism=external\"",
            "broker.url: has auth_mechanism=external, which wants a client certificate: set broker.client_certificate_file and broker.client_key_file (FILE)",
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
            "broker.url: must begin with amqp:// or amqps://; the management interface speaks http, and AMQP has a port of its own, usually 5672, or 5671 with TLS (FILE)",
        ),
        (
            "[broker]\nurl = \"amqp://h?verify=verify_none\"",
            "broker.url: has the parameter verify, which is not read: leave it out; with amqps:// the certificate is always verified, and broker.ca_file names a CA that the system does not know (FILE)",
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
            "[guard]\ndeny = [\"*.lan\"]",
            "guard.deny[0]: expected a network such as \"10.1.0.0/16\", or the name of a host, got \"*.lan\" (FILE)",
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
            "[services.\"https://push.example.org.\"]\nas = \"ntfy\"",
            "services.https://push.example.org.: the host ends in a dot, as that of no endpoint does (FILE)",
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
            "[push]\nper_origin = 1001",
            "push.per_origin: must be at most push.in_flight (1000), got 1001 (FILE)",
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
        assert_eq!(
            directory.problems(&good(text), &[], &[]),
            [expected],
            "{text}"
        );
    }
}

#[test]
fn what_the_rules_of_others_say_is_repeated_under_the_key() {
    let directory = ConfigDir::new();
    let text = "[apps.shop]\nsubject = \"push@shop.org\"\n[keys.main]\nprivate_key = \"x\"";
    let problems = directory.problems(text, &[], &[]);
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
    let problems = ConfigDir::new().problems(text, &variables, &[("log.format", "xml")]);
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
fn a_syntax_error_is_told_by_its_place_alone() {
    let problems = ConfigDir::new().problems("[broker]\nurl = amqp://u:Geheimnis@h\n", &[], &[]);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("not TOML at line 2, column 7: "),
        "{problems:?}"
    );
}
