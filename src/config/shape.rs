//! From merged values to a [`File`], collecting everything of the wrong shape.
//!
//! Reading stops at the first error. So the offending value is taken out, its default comes in its
//! place, and the reading starts anew, until nothing is wrong: each round reports one problem with
//! its exact path, and what is left can still be judged by meaning.
//!
//! What can go wrong here: an error carries the value it is about, and the value may be a secret in
//! the wrong place. Nothing inside `keys` is ever shown, nor `broker` where a URL stands instead of
//! a section, nor whatever looks like a URL with a password or a private key.

use figment::error::{Actual, Kind};
use figment::value::Value;

use crate::config::file::{DEFAULT_LANE, File};
use crate::config::layers::Sources;
use crate::config::problem::Problems;
use crate::config::text::{HIDDEN, looks_secret};
use crate::words::nearest;

/// Reads the merged values; what is of the wrong shape is reported and left at its default.
pub(super) fn read(mut values: Value, sources: &Sources, problems: &mut Problems) -> File {
    let mut taken = Vec::new();
    loop {
        let error = match values.deserialize::<File>() {
            Ok(mut file) => {
                file.lanes.entry(DEFAULT_LANE.to_owned()).or_default();
                return file;
            }
            Err(error) => error,
        };
        let key = key_of(&values, &error.path, &taken);
        problems.push(&key, describe(&error.kind, &error.path), sources.of(&key));
        if !take_out(&mut values, &error.path) {
            return File::default();
        }
        taken.push(error.path);
    }
}

/// Writes a path as the operator knows it: `delay.bands[2]`, counting what was taken out before.
fn key_of(values: &Value, path: &[String], taken: &[Vec<String>]) -> String {
    let mut key = String::new();
    let mut here = Some(values);
    for (depth, name) in path.iter().enumerate() {
        if let (Some(Value::Array(..)), Ok(index)) = (here, name.parse::<usize>()) {
            let in_list = |gone: &&Vec<String>| {
                gone.len() == path.len() && gone.get(..depth) == path.get(..depth)
            };
            let before = taken.iter().filter(in_list).count();
            key += &format!("[{}]", index + before);
            here = None;
        } else {
            if !key.is_empty() {
                key.push('.');
            }
            key += name;
            here = here
                .and_then(Value::as_dict)
                .and_then(|entries| entries.get(name));
        }
    }
    key
}

/// Removes the value at `path`; false if there is none.
fn take_out(value: &mut Value, path: &[String]) -> bool {
    let Some((name, rest)) = path.split_first() else {
        return false;
    };
    match value {
        Value::Dict(_, entries) if rest.is_empty() => entries.remove(name).is_some(),
        Value::Dict(_, entries) => entries.get_mut(name).is_some_and(|v| take_out(v, rest)),
        Value::Array(_, list) => match name.parse::<usize>() {
            Ok(index) if index < list.len() => {
                list.remove(index);
                true
            }
            _ => false,
        },
        Value::String(..)
        | Value::Char(..)
        | Value::Bool(..)
        | Value::Num(..)
        | Value::Empty(..) => false,
    }
}

/// Describes what was expected and, unless it may be secret, what was found.
fn describe(kind: &Kind, path: &[String]) -> String {
    let hidden = may_hold_secrets(path);
    match kind {
        Kind::UnknownField(name, known) => unknown_key(name, known, path),
        Kind::UnknownVariant(word, known) => {
            format!(
                "expected {}, got {}",
                one_of(known),
                show_text(word, hidden)
            )
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("expected {}, got {}", plain(expected), show(found, hidden))
        }
        Kind::Message(_)
        | Kind::InvalidLength(..)
        | Kind::MissingField(_)
        | Kind::DuplicateField(_)
        | Kind::ISizeOutOfRange(_)
        | Kind::USizeOutOfRange(_)
        | Kind::Unsupported(_)
        | Kind::UnsupportedKey(..) => "cannot be read; see the annotated sample file".to_owned(),
    }
}

/// Returns whether a value at `path` may be a secret that was put in the wrong place.
fn may_hold_secrets(path: &[String]) -> bool {
    match path.first().map(String::as_str) {
        Some("keys") => true,
        Some("broker") => path.len() == 1 || path.get(1).is_some_and(|key| key.starts_with("url")),
        Some("push") => path.get(1).is_some_and(|key| key.starts_with("proxy")),
        _ => false,
    }
}

fn unknown_key(name: &str, known: &[&str], path: &[String]) -> String {
    let what = if path.len() == 1 {
        "no such section"
    } else {
        "no such key"
    };
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("{what}; did you mean {near}?"),
        None => format!("{what}; there are {}", known.join(", ")),
    }
}

/// Writes words as choices: `"a", "b" or "c"`.
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// Puts the words of serde into those of a configuration.
fn plain(expected: &str) -> &str {
    match expected {
        "a string" | "path string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a section",
        _ if expected.starts_with("struct ") => "a section",
        _ if expected.contains("enum ") => "one of the words of the annotated sample file",
        _ => expected,
    }
}

fn show(found: &Actual, hidden: bool) -> String {
    match found {
        Actual::Str(text) => show_text(text, hidden),
        Actual::Bool(_) | Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) if hidden => {
            "something else".to_owned()
        }
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a section".to_owned(),
        Actual::Char(_)
        | Actual::Bytes(_)
        | Actual::Unit
        | Actual::Option
        | Actual::NewtypeStruct
        | Actual::Enum
        | Actual::UnitVariant
        | Actual::NewtypeVariant
        | Actual::TupleVariant
        | Actual::StructVariant
        | Actual::Other(_) => "something else".to_owned(),
    }
}

/// Quotes a text, unless it is or looks secret; at most 60 characters of it.
pub(super) fn show_text(text: &str, hidden: bool) -> String {
    if hidden || looks_secret(text) {
        return HIDDEN.to_owned();
    }
    let mut shown: String = text.chars().take(60).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    format!("{shown:?}")
}
