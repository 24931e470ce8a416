//! Secrets: who may read them, and that no message shows one.

use super::*;

#[test]
fn a_key_that_others_can_read_is_warned_about_and_one_they_can_write_is_refused() {
    let directory = ConfigDir::new();
    let warnings = || -> Vec<String> {
        let found = directory.load(GOOD, &[], &[]).unwrap().warnings;
        found
            .iter()
            .map(|warning| directory.shorten(&warning.to_string()))
            .collect()
    };
    assert!(warnings().is_empty());
    directory.chmod("main.pem", 0o644);
    let expected =
        "keys.main.private_key_file: every user can read DIR/main.pem; chmod 600 it (FILE)";
    assert_eq!(warnings(), [expected]);
    directory.chmod("main.pem", 0o602);
    let expected = "keys.main.private_key_file: every user can replace DIR/main.pem; chmod 600 it, \
                    and make a new key if anybody did (FILE)";
    assert_eq!(directory.problems(GOOD, &[], &[]), [expected]);
}

#[test]
fn a_readable_configuration_is_warned_about_if_it_holds_a_secret() {
    let directory = ConfigDir::new();
    let text = good("[broker]\nurl = \"amqp://u:p@h\"");
    directory.load(&text, &[], &[]).unwrap();
    directory.chmod("pushrider.toml", 0o644);
    let load = |variables: &[(&str, &str)]| {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let request = Request {
            file: Some(directory.path("pushrider.toml")),
            set: Vec::new(),
            environment: variables.iter().map(own).collect(),
        };
        load(&request).unwrap().warnings
    };
    let warnings = load(&[]);
    assert_eq!(warnings.len(), 1);
    let expected = "broker.url: every user can read this secret; chmod 600 the file, or use \
                    broker.url_file (FILE)";
    assert_eq!(directory.shorten(&warnings[0].to_string()), expected);
    assert_eq!(load(&[("AMQP_URL", "amqp://other")]), []);
}

#[test]
fn no_message_shows_a_secret() {
    let directory = ConfigDir::new();
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
                "broker.urls",
                "broker.client_certificate_file",
                "broker.client_key_file",
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
                "push",
                "push.proxy",
                "push.proxy_file",
                "push.proxy_url",
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
        "broker.urls",
        "keys",
        "keys.main",
        "keys.main.private_key",
        "push.proxy",
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
        let url = url.replace("MARK", MARK);
        files.push(format!("broker.urls = [\"{url}\"]"));
        files.push(format!("broker.url = \"{url}\""));
    }
    for url in [
        "https://u:MARK@h",
        "http://u:MARK@h/path",
        "http://u:MARK/x@h",
        "http://h:MARK",
        "u:MARK@h:3128",
        "MARK",
    ] {
        files.push(format!("push.proxy = \"{}\"", url.replace("MARK", MARK)));
    }
    for text in files {
        let output = output(&directory, &text, &[]);
        assert!(!output.contains(MARK), "{text}\n{output}");
        let (key, value) = text.split_once(" = ").unwrap();
        let name = format!("PUSHRIDER_{}", key.to_uppercase().replace('.', "__"));
        let output = self::output(&directory, "", &[(&name, value.trim_matches('"'))]);
        assert!(!output.contains(MARK), "{name}\n{output}");
    }
}

/// Everything that could be shown of a configuration, good or bad.
fn output(directory: &ConfigDir, text: &str, variables: &[(&str, &str)]) -> String {
    match directory.load(text, variables, &[]) {
        Ok(config) => format!("{config:?}\n{}\n{:?}", config.effective, config.warnings),
        Err(problems) => format!("{problems}\n{problems:?}"),
    }
}

#[test]
fn a_good_configuration_shows_no_secret_either() {
    let directory = ConfigDir::new();
    let url = format!(
        "[broker]\nurl = \"amqp://{MARK}:{MARK}@h?heartbeat=5\"\n\
         [push]\nproxy = \"http://{MARK}:{MARK}@h:3128\""
    );
    let config = directory
        .load(&good(&url), &[("PUSHRIDER_X", MARK)], &[])
        .err();
    assert!(config.is_some_and(|problems| !problems.to_string().contains(MARK)));
    let shown = output(&directory, &good(&url), &[]);
    assert!(
        shown.contains("push@shop.org") && !shown.contains(MARK),
        "{shown}"
    );
    let config = directory.load(&good(&url), &[], &[]).unwrap();
    assert_eq!(
        crate::config::places(&config.daemon.broker.urls),
        "amqp://h"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_damaged_file_shows_no_secret(
        at in 0usize..230, length in 0usize..12, with in "[\\[\\]\"'=.\n{}#a ]{0,3}",
    ) {
        let directory = ConfigDir::new();
        let mut text = format!(
            "[broker]\nurl = \"amqp://u:{MARK}@h\"\n[keys]\nmain = {{ private_key = '{MARK}' }}\n\
             [keys.b]\nprivate_key = \"\"\"\n-----BEGIN PRIVATE KEY-----\n{MARK}\n\"\"\"\n"
        );
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        // A damaged mark is no secret.
        let whole = text.match_indices(MARK).all(|(i, _)| end <= i || i + MARK.len() <= at);
        text.replace_range(at..end, &with);
        let shown = output(&directory, &text, &[]);
        proptest::prop_assert!(!whole || !shown.contains(MARK), "{text}\n{shown}");
    }
}
