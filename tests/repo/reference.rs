//! The lists of config/README.md that are generated: the configuration keys and the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use pushrider::config::sample::{SAMPLE, sections};

use crate::promtool::rendered;
use crate::sources::root;

/// Compares the part of config/README.md between two markers with what it should be, or writes it
/// there if `UPDATE` is set.
fn check(name: &str, expected: &str) {
    let path = root().join("config/README.md");
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = (
        format!("<!-- {name} -->\n"),
        format!("<!-- end of {name} -->"),
    );
    let (before, rest) = text.split_once(&begin).unwrap();
    let (present, after) = rest.split_once(&end).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, format!("{before}{begin}{expected}{end}{after}")).unwrap();
        return;
    }
    assert!(
        present == expected,
        "{name} in config/README.md is stale: run UPDATE=1 cargo test --test repo reference"
    );
}

/// Returns a row for each key of the annotated sample: the key, its default, and the comment above it.
fn keys() -> String {
    let mut table = "| key | default | what it does |\n|---|---|---|\n".to_owned();
    for section in sections(SAMPLE) {
        for key in section.keys {
            let default = if key.is_example {
                "–"
            } else {
                &format!("`{}`", key.value)
            };
            let text = [&key.text, &section.text]
                .into_iter()
                .find(|it| !it.is_empty());
            let text = text.map_or(String::new(), |it| it.replace('|', "\\|"));
            let name = &section.name;
            writeln!(table, "| `{name}.{}` | {default} | {text} |", key.name).unwrap();
        }
    }
    table
}

/// Returns a row for each metric: its name, type, labels and help.
fn metrics() -> String {
    let text = rendered();
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, pairs) = line.split_once('{').unwrap_or((line, ""));
        let pairs = pairs
            .split(',')
            .filter_map(|pair| Some(pair.split_once('=')?.0));
        labels
            .entry(name)
            .or_default()
            .extend(pairs.filter(|label| *label != "le"));
    }
    let mut table = "| metric | type | labels | what it counts |\n|---|---|---|---|\n".to_owned();
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').unwrap().1;
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|it| it.split_once(' '))
        {
            let own = labels
                .get(name)
                .or_else(|| labels.get(format!("{name}_bucket").as_str()));
            let own: Vec<_> = own
                .into_iter()
                .flatten()
                .map(|it| format!("`{it}`"))
                .collect();
            writeln!(table, "| `{name}` | {kind} | {} | {help} |", own.join(", ")).unwrap();
        }
    }
    table
}

#[test]
fn the_generated_lists_show_every_key_and_every_metric() {
    let (keys, metrics) = (keys(), metrics());
    assert!(keys.lines().count() > 60, "{keys}");
    assert!(metrics.lines().count() > 25, "{metrics}");
    check("configuration reference", &keys);
    check("metrics", &metrics);
}
