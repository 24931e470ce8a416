//! Every document that the sources cite is in the repository, with the section or row that is meant.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use regex::Regex;

use crate::sources::{root, rust_files};

/// A document, by its path from the root or from `src`, and what is meant in it: sections by number,
/// or one by its heading.
const CITATION: &str = r#"([\w./-]+\.md)(?:(?:,| and)? §(\d+(?:\.\d+)?)(?:(?:, | and | to )§(\d+(?:\.\d+)?))*|, "([^"]+)")?"#;

fn document(cited: &str) -> Option<PathBuf> {
    [root().join(cited), root().join("src").join(cited)]
        .into_iter()
        .find(|path| path.is_file())
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| line.trim_start_matches('#').trim())
}

/// The text of a source file with each comment on one line.
fn joined(text: &str) -> String {
    let continued = Regex::new(r"\n\s*//[/!]? ").unwrap();
    continued.replace_all(text, " ").into_owned()
}

/// Returns whether what is cited is a file that is included, which the compiler looks for.
fn is_included(before: &str) -> bool {
    before.ends_with("include_str!(\"")
}

#[test]
fn every_document_that_is_cited_is_there_with_its_section() {
    let citation = Regex::new(CITATION).unwrap();
    let section = Regex::new(r"§(\d+(?:\.\d+)?)").unwrap();
    let mut missing = BTreeSet::new();
    let mut count = 0;
    let files = ["src", "tests"].map(rust_files).into_iter().flatten();
    for (path, text) in files {
        let text = joined(&text);
        for found in citation.captures_iter(&text) {
            let whole = &found[0];
            if is_included(&text[..found.get(0).unwrap().start()]) {
                continue;
            }
            count += 1;
            let Some(document) = document(&found[1]) else {
                missing.insert(format!("{}: {whole}", path.display()));
                continue;
            };
            let document = fs::read_to_string(document).unwrap();
            let has = |wanted: &dyn Fn(&str) -> bool| headings(&document).any(wanted);
            let numbers = section.captures_iter(whole);
            let has_numbers = numbers
                .map(|it| format!("§{}", &it[1]))
                .all(|number| has(&|heading| heading.split(' ').next() == Some(number.as_str())));
            let has_heading = found
                .get(4)
                .is_none_or(|it| has(&|heading| heading == it.as_str()));
            if !has_numbers || !has_heading {
                missing.insert(format!("{}: {whole}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(count > 50, "only {count} citations were found");
}

#[test]
fn every_row_that_is_cited_is_in_the_table_of_answers() {
    let table = fs::read_to_string(root().join("src/classify/README.md")).unwrap();
    let row = Regex::new(r"(?m)^\| (\d+b?) \|").unwrap();
    let rows: BTreeSet<&str> = row
        .captures_iter(&table)
        .map(|it| it.get(1).unwrap().as_str())
        .collect();
    let cited = Regex::new(r"(?-u:\b)rows? ((?:\d+b?(?:, | and | to )?)+)").unwrap();
    let number = Regex::new(r"\d+b?").unwrap();
    let mut count = 0;
    for (path, text) in rust_files("src") {
        let is_about_answers = ["classify", "sandbox/dialect", "outcome", "gate"]
            .iter()
            .any(|folder| path.starts_with(format!("src/{folder}")));
        if !is_about_answers {
            continue;
        }
        let text = joined(&text);
        for found in cited.captures_iter(&text) {
            for number in number.find_iter(&found[1]) {
                count += 1;
                let place = format!("{}: row {}", path.display(), number.as_str());
                assert!(rows.contains(number.as_str()), "{place}");
            }
        }
    }
    assert!(count > 30, "only {count} rows are cited");
}
