//! The source files, read as text.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

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
    let sleep = Regex::new(r"(?-u:\b)sleep\(").unwrap();
    // Loops that wait for a condition with a deadline, a proxy and a server that delay what they send.
    let may = ["tests/it/support", "src/push_service/tests/fake_service.rs"];
    let mut found = Vec::new();
    for (path, text) in ["src", "tests"].map(rust_files).into_iter().flatten() {
        let is_test = path.starts_with("tests")
            || path.ends_with("tests.rs")
            || path.components().any(|part| part.as_os_str() == "tests");
        let before = if is_test {
            0
        } else {
            without_tests(&text).len()
        };
        let tests = &text[before..];
        // A paused clock is advanced, so that nothing waits.
        let may_sleep = may.iter().any(|may| path.starts_with(may));
        if sleep.is_match(tests) && !tests.contains("start_paused") && !may_sleep {
            found.push(path);
        }
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
