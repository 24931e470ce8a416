//! `pushrider topology audit`, as an operator runs it.

use std::fs::{self, File};
use std::process::{Command, Output};

use crate::cli_check::{configured, pushrider, text};
use crate::support::broker::Broker;
use crate::support::vhost::Vhost;

/// Audits a virtual host by the export of its broker.
fn audit(broker: &Broker, vhost: &Vhost, config: &str) -> Output {
    let export = broker.control(&["-q", "export_definitions", "-"]);
    let input = tempfile::NamedTempFile::new().unwrap();
    fs::write(input.path(), export).unwrap();
    Command::new(env!("CARGO_BIN_EXE_pushrider"))
        .args(["topology", "audit", "--config", config])
        .env_clear()
        .env("AMQP_URL", vhost.url())
        .stdin(File::open(input.path()).unwrap())
        .output()
        .unwrap()
}

#[tokio::test]
async fn policies_that_void_a_guarantee_are_found_and_what_is_said_mends_them() {
    let broker = Broker::shared();
    let vhost = broker.vhost();
    let (_folder, config) = configured("[delay]\nbands = [\"50ms\", \"1s\"]\n");
    let arguments = ["topology", "declare", "--config", &config];
    let declared = pushrider(&arguments, &[("AMQP_URL", &vhost.url())]);
    assert!(declared.status.success(), "{declared:?}");
    let well = audit(broker, &vhost, &config);
    assert!(well.status.success(), "{well:?}");
    assert!(text(&well.stdout).ends_with("ok, nothing voids a guarantee\n"));

    let set = |command: &str, name: &str, pattern: &str, priority: &str, definition: &str| {
        let line = [
            command,
            "-p",
            vhost.name(),
            "--priority",
            priority,
            "--apply-to",
            "queues",
        ];
        broker.control(&[&line[..], &[name, pattern, definition]].concat());
    };
    set(
        "set_policy",
        "drop",
        ".*",
        "0",
        r#"{"overflow": "drop-head"}"#,
    );
    set(
        "set_policy",
        "expiring",
        r"\.delay\.",
        "1",
        r#"{"expires": 3600000}"#,
    );
    let operator = "set_operator_policy";
    set(operator, "full", r"\.due\.", "0", r#"{"max-length": 10}"#);
    let found = audit(broker, &vhost, &config);
    assert_eq!(found.status.code(), Some(78), "{found:?}");
    let told = text(&found.stdout);
    for line in [
        "  overflow = \"drop-head\" (policy drop)",
        "  ! expires = 3600000 (policy expiring) voids \"at least once\": ",
        "  ! max-length = 10 (operator policy full) voids \"at least once\": ",
        "  ! overflow = \"drop-head\" (policy drop) voids \"at least once\": ",
    ] {
        assert!(
            told.lines().any(|it| it.starts_with(line)),
            "{line}\n{told}"
        );
    }
    assert_eq!(
        text(&found.stderr),
        "error: 6 findings on 5 queues void a guarantee; each line with ! says what to type\n"
    );

    let typed = told.lines().find(|line| line.contains("set_policy -p"));
    let typed = typed.unwrap().trim().strip_prefix("rabbitmqctl ").unwrap();
    let words: Vec<_> = typed
        .split(' ')
        .map(|word| word.trim_matches('\''))
        .collect();
    broker.control(&words);
    broker.control(&["clear_operator_policy", "-p", vhost.name(), "full"]);
    let mended = audit(broker, &vhost, &config);
    assert!(mended.status.success(), "{mended:?}");
}

#[test]
fn an_audit_of_something_else_says_what_to_give() {
    let (_folder, config) = configured("");
    let url = ("AMQP_URL", "amqp://user:secret@127.0.0.1:1");
    for (more, status, because) in [
        (&[][..], 1, "export_definitions"),
        (&["--management", "ftp://localhost"], 2, "http://"),
        (
            &["--management", "http://127.0.0.1:1"],
            1,
            "does not answer",
        ),
    ] {
        let arguments = [&["topology", "audit", "--config", &config], more].concat();
        let output = pushrider(&arguments, &[url]);
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let reason = text(&output.stderr);
        assert!(
            reason.contains(because) && !reason.contains("secret"),
            "{reason}"
        );
    }
}
