//! The annotated sample configuration says what the program does.

use std::collections::BTreeSet;
use std::fs;

use pushrider::config::File;
use serde_json::{Value, json};

use crate::sources::root;

/// What marks a line without a default.
const EXAMPLE: &str = "# (example)";

/// The sample with its keys uncommented: those that show a default, or the examples as well.
fn uncommented(examples: bool) -> String {
    let sample = fs::read_to_string(root().join("config/pushrider.toml")).unwrap();
    let key = |line: &str| {
        let line = line.strip_prefix('#')?;
        line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[')
            .then(|| line.to_owned())
    };
    let mut in_example = false;
    let mut lines = Vec::new();
    for line in sample.lines() {
        if line.trim_start_matches('#').starts_with('[') {
            in_example = line.ends_with(EXAMPLE);
        }
        let wanted = examples || !(in_example || line.ends_with(EXAMPLE));
        lines.push(
            key(line)
                .filter(|_| wanted)
                .unwrap_or_else(|| line.to_owned()),
        );
    }
    lines.join("\n")
}

/// Every key of a tree, sections with a `.`.
fn keys(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let key = format!("{prefix}.{name}");
        keys(value, &key, found);
        found.insert(key);
    }
}

fn keys_of(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    keys(value, "", &mut found);
    found
}

#[test]
fn the_sample_as_it_is_changes_nothing() {
    let sample = fs::read_to_string(root().join("config/pushrider.toml")).unwrap();
    assert_eq!(toml::from_str::<File>(&sample).unwrap(), File::default());
}

#[test]
fn the_sample_uncommented_is_the_default() {
    let file: File = toml::from_str(&uncommented(false)).unwrap();
    assert_eq!(file, File::default());
}

#[test]
fn the_sample_shows_every_key() {
    // Serialising to JSON shows keys without a value too, which TOML cannot.
    let sections = json!({
        "lanes": { "default": {} }, "apps": { "shop": {} }, "keys": { "main": {} },
        "services": { "https://push.example.org": {} }, "retry": { "services": { "other": {} } },
    });
    let file: File = serde_json::from_value(sections).unwrap();
    let expected = keys_of(&serde_json::to_value(file).unwrap());
    let sample: Value = toml::from_str(&uncommented(true)).unwrap();
    assert_eq!(keys_of(&sample), expected);
}

#[test]
fn the_sample_shows_every_default_of_an_application() {
    let sample: Value = toml::from_str(&uncommented(true)).unwrap();
    let mut shown = sample["apps"]["shop"].clone();
    let file: File = serde_json::from_value(json!({ "apps": { "shop": {} } })).unwrap();
    let defaults = serde_json::to_value(file).unwrap()["apps"]["shop"].clone();
    for (key, default) in defaults.as_object().unwrap() {
        let shown = shown.as_object_mut().unwrap().remove(key).unwrap();
        assert!(default.is_null() || shown == *default, "apps.shop.{key}");
    }
}

#[test]
fn the_sample_with_its_examples_can_be_read() {
    toml::from_str::<File>(&uncommented(true)).unwrap();
}
