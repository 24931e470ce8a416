//! Applications, their keys, and whom they push to.

use super::*;

#[test]
fn how_requests_are_made_is_read_and_off_by_default() {
    let directory = ConfigDir::new();
    let requests = |more: &str, variables: &[(&str, &str)]| {
        let (app, key) = GOOD.split_once("[keys.main]").unwrap();
        let text = format!("{app}{more}\n[keys.main]{key}");
        let config = directory.load(&text, variables, &[]).unwrap();
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
fn every_problem_of_applications_and_keys_is_told() {
    let directory = ConfigDir::new();
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
        assert_eq!(directory.problems(&text, &[], &[]), [expected], "{text}");
    }
}

#[test]
fn a_family_of_push_services_has_what_it_says_and_else_what_all_have() {
    let directory = ConfigDir::new();
    let text = good("[retry]\nbase = \"2s\"\n[retry.services.ntfy]\nmax_attempts = 3");
    let variables = [("PUSHRIDER_RETRY__SERVICES__NTFY__CAP", "1h")];
    let config = directory.load(&text, &variables, &[]).unwrap();
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
        assert_eq!(directory.problems(&good(text), &[], &[]), [expected]);
    }
}

#[test]
fn whom_to_push_to_is_an_operators_choice() {
    let rules = |text: &str| {
        let config = ConfigDir::new().load(&good(text), &[], &[]).unwrap();
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
    assert_eq!((own.service(), own.is_listed()), (Service::Ntfy, true));
    assert!(rules.permits_resolved("ntfy.lan", [192, 168, 0, 5].into()));
    // What is shown can be read again.
    let shown: toml::Table = toml::from_str(&shown).unwrap();
    assert_eq!(
        shown["services"]["https://Ntfy.lan:8443"]["as"].as_str(),
        Some("ntfy")
    );
}

#[test]
fn a_public_key_of_another_private_key_is_told_at_start() {
    let directory = ConfigDir::new();
    let own = directory.load(GOOD, &[], &[]).unwrap().daemon.apps;
    let own = own.iter().next().unwrap().ring.primary.clone();
    let own = own.public_key_base64url();
    let with = |public: &str| good(&format!("public_key = \"{public}\""));
    assert!(directory.load(&with(own), &[], &[]).is_ok());
    // The generator of the curve.
    let other =
        "BGsX0fLhLEJH-Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU";
    for public in [other, "", "main.pem"] {
        assert_eq!(
            directory.problems(&with(public), &[], &[]),
            [format!(
                "keys.main.public_key: is not the public half of the private key, which is {own}; \
                 restore the pair with which pages subscribed (FILE)"
            )]
        );
    }
}
