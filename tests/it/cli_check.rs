//! `pushrider check`, as an operator runs it.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Runs the program in an empty environment.
pub(crate) fn pushrider(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pushrider"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Makes a folder with a key and a configuration; returns it and the configuration's path.
pub(crate) fn configured(more: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("main.pem");
    let made = pushrider(&["keys", "generate", "--out", key.to_str().unwrap()], &[]);
    assert!(made.status.success(), "{made:?}");
    let file = folder.path().join("pushrider.toml");
    let apps = "[apps.shop]\nsubject = \"mailto:push@shop.org\"\n\
                [keys.main]\nprivate_key_file = \"main.pem\"\n";
    fs::write(&file, format!("{apps}{more}")).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (folder, file)
}

#[test]
fn three_problems_are_three_lines_and_status_78() {
    let (_folder, file) = configured("[push]\ntimeout = \"2 parsecs\"\nin_flihgt = 3\n");
    for command in ["check", "run"] {
        let output = pushrider(
            &[command, "--config", &file],
            &[("PUSHRIDER_BROKER__URL", "http://user:secret@broker")],
        );
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        assert_eq!(output.stdout, b"");
        let lines: Vec<&str> = text(&output.stderr).lines().collect();
        let expected = [
            "error: 3 problems in the configuration",
            "  push.in_flihgt: no such key; did you mean in_flight?",
            "  push.timeout: expected a duration from \"10ms\" to \"5m\", got \"2 parsecs\"",
            "  broker.url: must begin with amqp:// or amqps://",
        ];
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{line}");
        }
        assert!(lines[1].ends_with(&format!("({file})")), "{}", lines[1]);
        assert!(
            lines[3].ends_with("(PUSHRIDER_BROKER__URL)"),
            "{}",
            lines[3]
        );
    }
}

#[test]
fn a_good_configuration_is_ok_and_summed_up() {
    let (_folder, file) = configured("[lanes.high]\n");
    let url = (
        "AMQP_URL",
        "amqps://user:secret@broker.example.org:5671/shop",
    );
    let output = pushrider(&["check"], &[("PUSHRIDER_CONFIG", &file), url]);
    assert!(output.status.success(), "{output:?}");
    let expected = "ok\n  broker  amqps://broker.example.org:5671/shop, names begin with webpush\n  \
                    lanes   default, high\n  app     shop, signs with main\n  \
                    admin   127.0.0.1:9464\n";
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn the_effective_configuration_tells_sources_and_no_secret() {
    let (_folder, file) = configured("");
    let url = ("AMQP_URL", "amqp://user:secret@broker");
    let output = pushrider(
        &[
            "check",
            "--print",
            "--config",
            &file,
            "--set",
            "log.filter=debug",
        ],
        &[url],
    );
    assert!(output.status.success(), "{output:?}");
    let printed = text(&output.stdout);
    for line in [
        "url = \"(hidden)\"  # AMQP_URL",
        "filter = \"debug\"  # --set",
        "timeout = \"20s\"",
        &format!("subject = \"mailto:push@shop.org\"  # {file}"),
    ] {
        assert!(
            printed.lines().any(|printed| printed == line),
            "{line}\n{printed}"
        );
    }
    assert!(!printed.contains("secret"), "{printed}");
    toml::from_str::<toml::Table>(printed).unwrap();
}

#[test]
fn a_broker_that_does_not_answer_is_a_failure_but_not_the_operators() {
    let (_folder, file) = configured("");
    // Nobody listens on the port of tcpmux.
    let url = ("AMQP_URL", "amqp://user:secret@127.0.0.1:1");
    let output = pushrider(&["check", "--connect", "--config", &file], &[url]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let message = text(&output.stderr);
    assert!(
        message.contains("127.0.0.1:1") && !message.contains("secret"),
        "{message}"
    );
}

#[test]
fn a_wrong_command_line_is_status_2() {
    for arguments in [
        &[][..],
        &["rum"],
        &["check", "--set", "x"],
        &["run", "--threads", "0"],
    ] {
        let output = pushrider(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

/// The layout of `systemd/README.md`.
#[test]
fn commands_of_an_operator_take_the_credentials_of_the_unit() {
    let (folder, _) = configured("");
    let at = |name: &str| folder.path().join(name);
    let file = at("unit.toml");
    fs::write(&file, "[apps.shop]\nsubject = \"mailto:push@shop.org\"\n").unwrap();
    fs::write(at("amqp-url"), "amqp://rabbit/shop\n").unwrap();
    fs::create_dir(at("credentials")).unwrap();
    let link = |from: &str, to: &str| symlink(from, at("credentials").join(to)).unwrap();
    link("../amqp-url", "broker.url");
    link("../main.pem", "keys.main.private_key");
    let credentials = at("credentials");
    let variables = [
        ("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap()),
        ("PUSHRIDER_CONFIG", file.to_str().unwrap()),
    ];
    for command in [&["check"][..], &["keys", "public"], &["topology", "show"]] {
        let done = pushrider(command, &variables);
        assert!(done.status.success(), "{command:?}: {}", text(&done.stderr));
    }
}
