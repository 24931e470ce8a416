//! The layers of a configuration, put on top of each other: built-in defaults, the file, the
//! environment, `--set`.
//!
//! What can go wrong here: a parser that quotes the line it stumbled over shows the password on it,
//! and a parser of values that makes a number of a password of digits loses its leading zero. So
//! a syntax error shows its place alone, and what is secret is never parsed, a list of quoted secrets apart.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use crate::config::problem::{Problems, Source};
use crate::config::request::{AMQP_URL, DEFAULT_FILE, Environment, FILE_VARIABLE, PREFIX, Request};
use crate::config::text::{file_key, is_secret, reason};

/// Where each key that somebody set came from.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources(BTreeMap<String, Source>);

impl Sources {
    /// Returns the source of a key's value.
    pub(super) fn of(&self, key: &str) -> Source {
        // The name of a section may be an origin, and that of one an address in brackets.
        let list = key.split('[').next().unwrap_or(key);
        let source = self.0.get(key).or_else(|| self.0.get(list));
        source.cloned().unwrap_or(Source::Default)
    }

    /// Returns the source of a key or of the nearest section around it: where a missing key would
    /// be added.
    pub(super) fn around(&self, key: &str) -> Source {
        let mut section = key;
        loop {
            if let Some(source) = self.0.get(section) {
                return source.clone();
            }
            match section.rsplit_once('.') {
                Some((outer, _)) => section = outer,
                None => return self.of(""),
            }
        }
    }

    /// Records a source that is in no layer.
    pub(super) fn note(&mut self, key: &str, source: Source) {
        self.0.insert(key.to_owned(), source);
    }

    fn walk(&mut self, key: String, value: &Value, figment: &Figment) {
        if let Some(source) = figment.get_metadata(value.tag()).map(source_of) {
            self.0.insert(key.clone(), source);
        }
        if let Value::Dict(_, entries) = value {
            for (name, value) in entries {
                let key = if key.is_empty() {
                    name.clone()
                } else {
                    format!("{key}.{name}")
                };
                self.walk(key, value, figment);
            }
        }
    }
}

/// Puts all layers on top of each other and remembers where each value came from.
///
/// The built-in defaults are the lowest layer, and come in when the result is read.
pub(super) fn merge(request: &Request, problems: &mut Problems) -> (Value, Sources) {
    let mut figment = Figment::new();
    let path = chosen_file(request);
    let file = file_layer(path.as_deref(), problems);
    let variables = variable_layers(&request.environment, problems);
    let flags = flag_layers(&request.set, problems);
    let mut sources = Sources::default();
    let path = path.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    sources.note("", Source::File(path));
    for layer in file.into_iter().chain(variables).chain(flags) {
        figment = figment.merge(layer);
    }
    let merged = figment.data().unwrap_or_default().remove(&Profile::Default);
    let value = Value::Dict(Tag::Default, merged.unwrap_or_default());
    sources.walk(String::new(), &value, &figment);
    (value, sources)
}

/// The values of one file, variable or flag.
struct Layer {
    source: Source,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        match &self.source {
            Source::File(path) => Metadata::from("file", path.as_path()),
            Source::Variable(name) => Metadata::from("variable", name.as_str()),
            Source::Flag | Source::Default | Source::Credential(_) => Metadata::named("--set"),
        }
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// Reads back what [`Layer::metadata`] wrote.
fn source_of(metadata: &Metadata) -> Source {
    match &metadata.source {
        Some(figment::Source::File(path)) => Source::File(path.clone()),
        Some(figment::Source::Custom(name)) => Source::Variable(name.clone()),
        _ => Source::Flag,
    }
}

/// Returns the file that somebody named, by flag or variable.
fn chosen_file(request: &Request) -> Option<PathBuf> {
    let variable = request.environment.get(FILE_VARIABLE);
    request.file.clone().or_else(|| variable.map(PathBuf::from))
}

fn file_layer(chosen: Option<&Path>, problems: &mut Problems) -> Option<Layer> {
    let path = chosen.unwrap_or(Path::new(DEFAULT_FILE));
    let source = Source::File(path.to_owned());
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if chosen.is_none() && error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            let what = format!("cannot read the configuration: {}", reason(&error));
            problems.push("", what, source);
            return None;
        }
    };
    match toml::from_str(&text) {
        Ok(values) => Some(Layer { source, values }),
        Err(error) => {
            problems.push("", syntax_error(&error, &text), source);
            None
        }
    }
}

/// Describes where a TOML syntax error is, without quoting the text.
fn syntax_error(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let place = before.map_or_else(String::new, |before| {
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!(" at line {line}, column {column}")
    });
    format!("not TOML{place}: {}", error.message())
}

/// Creates a layer of each variable: `AMQP_URL` first, so that `PUSHRIDER_…` overrides it.
fn variable_layers(environment: &Environment, problems: &mut Problems) -> Vec<Layer> {
    let mut layers = Vec::new();
    if let Some(url) = environment.get(AMQP_URL) {
        let source = Source::Variable(AMQP_URL.to_owned());
        layers.push(layer(source, &["broker", "url"], url));
    }
    for name in environment.names().filter(|name| *name != FILE_VARIABLE) {
        let Some((rest, value)) = name.strip_prefix(PREFIX).zip(environment.get(name)) else {
            continue;
        };
        let source = Source::Variable(name.clone());
        let key = rest.to_ascii_lowercase();
        let path: Vec<&str> = key.split("__").collect();
        if value.contains(char::REPLACEMENT_CHARACTER) {
            problems.push("", "the variable's value is not UTF-8", source);
        } else if path.len() > 1 {
            layers.push(layer(source, &path, value));
        } else if !is_service_link(rest) {
            let what = "names no setting: two underscores divide the levels of a key, as in \
                        PUSHRIDER_BROKER__URL";
            problems.push("", what, source);
        }
    }
    layers
}

/// Returns whether Kubernetes sets such a variable for a service that is called pushrider.
fn is_service_link(rest: &str) -> bool {
    let family = ["SERVICE_HOST", "SERVICE_PORT", "PORT"];
    family.iter().any(|name| {
        rest.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    })
}

fn flag_layers(set: &[(String, String)], problems: &mut Problems) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (key, value) in set {
        let path: Vec<&str> = key.split('.').collect();
        if is_secret(&path) {
            let what = format!(
                "the command line is seen by every user of the machine; give a secret as \
                 {} or in the environment",
                file_key(key)
            );
            problems.push(key, what, Source::Flag);
        } else {
            layers.push(layer(Source::Flag, &path, value));
        }
    }
    layers
}

fn layer(source: Source, path: &[&str], text: &str) -> Layer {
    let is_list = *path == ["broker", "urls"];
    let value = if is_secret(path) && !is_list {
        Value::from(text)
    } else {
        parse_value(text)
    };
    let nested = path.iter().rev().fold(value, |value, name| {
        Value::from(Dict::from([((*name).to_owned(), value)]))
    });
    let values = nested.into_dict().unwrap_or_default();
    Layer { source, values }
}

/// Reads a value that is given as text: lists, tables and quoted texts as in TOML, numbers and
/// truth values as such, everything else as the text it is.
fn parse_value(text: &str) -> Value {
    if text.starts_with(['[', '{', '"', '\'']) {
        let table = toml::from_str::<Dict>(&format!("value = {text}"));
        if let Some(value) = table.ok().and_then(|mut table| table.remove("value")) {
            return value;
        }
    }
    match (text, text.parse::<i64>()) {
        ("true", _) => Value::from(true),
        ("false", _) => Value::from(false),
        // `007` is a name, not seven.
        (_, Ok(number)) if number.to_string() == text => Value::from(number),
        _ => Value::from(text),
    }
}
