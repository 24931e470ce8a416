//! The source files, read as text.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the crate.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder of the crate, with its text.
pub(crate) fn rust_files(folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!files.is_empty(), "no Rust file below {folder}");
    files.sort();
    files
}

/// The part of a file before its in-file tests.
pub(crate) fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text)
}

#[test]
fn no_test_sleeps() {
    let sleeps = ["thread::", "time::"].map(|module| format!("{module}sleep"));
    // Its loops wait for a condition with a deadline, and its cable delays what flows.
    let may = Path::new("tests/it/support");
    let mut found = Vec::new();
    for (path, text) in rust_files("tests") {
        if path.starts_with(may) {
            continue;
        }
        found.extend(lines_with(&text, &sleeps).map(|n| format!("{}:{n}", path.display())));
    }
    for (path, text) in rust_files("src") {
        let is_test = path.ends_with("tests.rs");
        let before = if is_test {
            0
        } else {
            without_tests(&text).lines().count()
        };
        let inside = lines_with(&text, &sleeps).filter(|n| *n > before);
        found.extend(inside.map(|n| format!("{}:{n}", path.display())));
    }
    assert!(
        found.is_empty(),
        "wait for a condition with a deadline instead: {found:#?}"
    );
}

#[test]
fn nothing_is_left_to_be_done() {
    let marks =
        ["TO", "FIX"].map(|mark| format!("{mark}{}", if mark == "TO" { "DO" } else { "ME" }));
    for folder in ["src", "tests"] {
        for (path, text) in rust_files(folder) {
            let found: Vec<_> = lines_with(&text, &marks).collect();
            assert!(found.is_empty(), "{}: {found:?}", path.display());
        }
    }
}

fn lines_with<'a>(text: &'a str, needles: &'a [String]) -> impl Iterator<Item = usize> + 'a {
    text.lines()
        .enumerate()
        .filter(|(_, line)| needles.iter().any(|needle| line.contains(needle.as_str())))
        .map(|(index, _)| index + 1)
}
