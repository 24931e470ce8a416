//! The tables of the documents and the unit file say what the code does.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use pushrider::app::Results;
use pushrider::broker::{Permissions, Policy};
use pushrider::message::Name;
use pushrider::outcome::{Outcome, Reason};
use pushrider::wire::event::{EVENT_LIMIT, RECIPIENT_LIMIT};

use crate::sources::root;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The words in backquotes of one cell of the table row that begins with `| first |`.
fn cell(text: &str, first: &str, column: usize) -> BTreeSet<String> {
    let row = text
        .lines()
        .find(|line| line.starts_with(&format!("| `{first}` |")))
        .unwrap_or_else(|| panic!("no row for `{first}`"));
    let cell = row.split('|').nth(column).unwrap_or_default();
    let words = cell.split('`').skip(1).step_by(2);
    words.map(str::to_owned).collect()
}

#[test]
fn the_table_of_outcomes_lists_every_reason_where_it_belongs() {
    let readme = read("examples/README.md");
    for &outcome in Outcome::ALL {
        let reasons: BTreeSet<_> = Reason::ALL
            .iter()
            .filter(|reason| reason.outcome() == outcome)
            .map(|reason| reason.name().to_owned())
            .collect();
        assert_eq!(cell(&readme, outcome.name(), 3), reasons, "{outcome:?}");
    }
}

#[test]
fn the_table_of_answers_tells_of_every_reason_that_only_an_answer_brings() {
    let readme = read("examples/README.md");
    let (_, table) = readme.split_once("| reason | what was answered |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let told: BTreeSet<_> = table
        .lines()
        .filter_map(|row| row.split('`').nth(1))
        .collect();
    let answers = [
        Reason::NotDelivered,
        Reason::Unsubscribed,
        Reason::NotFound,
        Reason::ExpiredSubscription,
        Reason::PayloadTooLarge,
        Reason::BadRequest,
        Reason::Redirected,
        Reason::KeyMismatch,
        Reason::Throttled,
        Reason::ServiceUnavailable,
        Reason::VapidRejected,
    ];
    assert_eq!(told, answers.map(Reason::name).into());
}

#[test]
fn the_table_of_the_event_states_our_limits() {
    let readme = read("examples/README.md");
    assert_eq!(EVENT_LIMIT, 4 << 20);
    assert!(readme.contains("An event has at most 4 MiB"));
    assert_eq!(RECIPIENT_LIMIT, 10_000);
    assert!(readme.contains("array of 1–10 000 objects"));
    assert_eq!(pushrider::message::PLAINTEXT_LIMIT, 3993);
    assert!(readme.contains("at most 3993 bytes"));
    assert_eq!(pushrider::message::TTL_LIMIT, 2_419_200);
    assert!(readme.contains("above 2419200 it is clamped"));
    assert_eq!(Results::default(), Results::All);
    assert_eq!(
        cell(&readme, "results", 3),
        ["all"].map(str::to_owned).into()
    );
}

#[test]
fn the_permissions_and_the_policy_shown_are_those_of_the_default_prefix() {
    let readme = read("config/README.md");
    let needed = Permissions::new(&Name::parse("webpush").unwrap());
    let Permissions {
        configure,
        write,
        read,
    } = &needed;
    let policy = Policy::new(&Name::parse("webpush").unwrap());
    let command = format!("USER '{configure}' '{write}' '{read}'");
    for text in [
        &format!("  configure  {configure}\n"),
        &format!("  write      {write}\n"),
        &format!("  read       {read}\n"),
        &command,
        &format!(
            "--priority {} '{}' '{}' ",
            policy.priority, policy.name, policy.pattern
        ),
    ] {
        assert!(readme.contains(text), "{text}");
    }
}

/// The value of a directive of the unit file.
fn directive(unit: &str, name: &str) -> String {
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("no {name}= in the unit file"))
        .to_owned()
}

/// The lines of a unit file that systemd reads.
fn directives(unit: &str) -> Vec<&str> {
    let lines = unit.lines();
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

#[test]
fn a_further_instance_differs_in_its_files_alone() {
    let unit = read("systemd/pushrider.service");
    let template = read("systemd/pushrider@.service");
    let as_single = template
        .replace(" (%i)", "")
        .replace(" --config /etc/pushrider/%i.toml", "")
        .replace("/%i.", "/")
        .replace("StateDirectory=pushrider-%i", "StateDirectory=pushrider");
    assert_eq!(directives(&as_single), directives(&unit));
    assert_eq!(template.matches("%i").count(), 5);
}

#[test]
fn the_unit_file_agrees_with_the_code() {
    let unit = read("systemd/pushrider.service");
    assert_eq!(directive(&unit, "RestartPreventExitStatus"), "78");
    assert_eq!(directive(&unit, "Type"), "notify");
    assert_eq!(directive(&unit, "StateDirectory"), "pushrider");
    assert_eq!(directive(&unit, "MemoryMax"), "512M");
    assert!(directive(&unit, "After").contains("time-sync.target"));
    let seconds = |text: &str| humantime::parse_duration(text).unwrap();
    let stop = seconds(&format!("{}s", directive(&unit, "TimeoutStopSec")));
    let sample = read("config/pushrider.toml");
    let grace = sample
        .lines()
        .find_map(|line| line.strip_prefix("#grace = "));
    let grace = seconds(grace.unwrap().trim_matches('"'));
    assert!(
        stop > grace + Duration::from_secs(5),
        "no time to settle after the grace"
    );
}
