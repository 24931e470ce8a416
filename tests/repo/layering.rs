//! Modules import only leftward in one list.

use std::path::Path;

use crate::sources::{root, rust_files, without_tests};

/// Every module of the library, in the order of `lib.rs`: one may name itself and what is before it.
const ORDER: [&str; 34] = [
    "words",
    "backoff",
    "clock",
    "secret",
    "origin",
    "subscription",
    "message",
    "delivery_hours",
    "outcome",
    "classify",
    "retry",
    "guard",
    "ece",
    "vapid",
    "app",
    "wire",
    "plan",
    "keyed_semaphore",
    "gate",
    "redelivery",
    "control",
    "metrics",
    "health",
    "spans",
    "push_service",
    "broker",
    "sender",
    "pipeline",
    "logging",
    "admin",
    "systemd",
    "sandbox",
    "daemon",
    "config",
];

/// Pairs that must not import each other although the order allows it.
const FORBIDDEN_PAIRS: [(&str, &str); 9] = [
    ("broker", "push_service"),
    // The sandbox checks what the product sends; with the product's own code it would check nothing.
    ("sandbox", "ece"),
    ("sandbox", "vapid"),
    ("sandbox", "wire"),
    ("sandbox", "message"),
    ("sandbox", "pipeline"),
    ("metrics", "gate"),
    ("pipeline", "config"),
    ("sender", "broker"),
];

fn module_of(path: &Path) -> Option<String> {
    let mut parts = path.strip_prefix("src").ok()?.components();
    let first = parts.next()?.as_os_str().to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(name, "lib" | "main" | "cli")).then(|| name.to_owned())
}

fn named_modules(text: &str) -> impl Iterator<Item = &str> {
    without_tests(text)
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| {
            line.split("crate::").skip(1).filter_map(|rest| {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                Some(&rest[..end.unwrap_or(rest.len())]).filter(|name| !name.is_empty())
            })
        })
}

#[test]
fn modules_import_only_leftward() {
    let place = |name: &str| ORDER.iter().position(|module| *module == name);
    for (path, text) in rust_files("src") {
        let Some(module) = module_of(&path) else {
            continue;
        };
        let here = place(&module).unwrap_or_else(|| panic!("{module} is not in the order"));
        for named in named_modules(&text) {
            let there = place(named).unwrap_or_else(|| {
                panic!("{}: crate::{named} is not in the order", path.display())
            });
            assert!(
                there <= here,
                "{}: names crate::{named}, which is to its right",
                path.display()
            );
            assert!(
                !FORBIDDEN_PAIRS.contains(&(module.as_str(), named)),
                "{}: must not know crate::{named}",
                path.display()
            );
        }
    }
}

#[test]
fn lib_rs_lists_every_module_in_order() {
    let map = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let listed: Vec<_> = map
        .lines()
        .filter_map(|line| {
            line.strip_prefix("pub ")
                .unwrap_or(line)
                .strip_prefix("mod ")?
                .strip_suffix(';')
        })
        .collect();
    for name in ORDER {
        assert!(
            listed.contains(&name),
            "{name} is in the order but not in lib.rs"
        );
    }
    assert_eq!(
        listed.len(),
        ORDER.len() + 1,
        "only cli stands outside the order"
    );
}

#[test]
fn grouped_imports_are_not_used_for_our_own() {
    for (path, text) in rust_files("src") {
        assert!(
            !without_tests(&text).contains("use crate::{")
                || path == Path::new("src/daemon/mod.rs"),
            "{}: one module per use",
            path.display()
        );
    }
}

#[test]
fn only_adapters_and_the_assembly_read_the_clock() {
    let readers = [
        "clock",
        "broker",
        "push_service",
        "admin",
        "systemd",
        "sandbox",
        "daemon",
    ];
    let mut count = 0;
    for (path, text) in rust_files("src") {
        let is_test = path.components().any(|part| part.as_os_str() == "tests");
        let Some(module) = module_of(&path).filter(|_| !is_test) else {
            continue;
        };
        let text = without_tests(&text);
        if text.contains("SystemClock") || text.contains("RandomJitter") {
            count += 1;
            let may_read = readers.contains(&module.as_str());
            assert!(may_read, "{}: take the time as an argument", path.display());
        }
    }
    assert!(
        count > 10,
        "only {count} files that read the clock were found"
    );
}
