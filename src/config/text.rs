//! Words as an operator writes them: names, secrets, addresses to listen on.

use std::fmt::{self, Display};
use std::io;
use std::io::ErrorKind;
use std::net::SocketAddr;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::{Serialize, Serializer};

use crate::secret::Secret;

/// A word or a sentence; a number is taken as its digits, as in `primary = 2026`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        any_scalar(deserializer).map(Self)
    }
}

/// A secret given inline; what it is serialised as says only that there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretText(pub(super) Secret<String>);

/// What is shown in a secret's place.
pub(super) const HIDDEN: &str = "(hidden)";

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        any_scalar(deserializer).map(|text| Self(Secret::new(text)))
    }
}

/// An address and port to listen on, or `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listen(pub(super) Option<SocketAddr>);

const OFF: &str = "off";

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(address) => serializer.collect_str(&address),
            None => serializer.serialize_str(OFF),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "an IP address and a port such as \"127.0.0.1:9464\", or \"off\"";
        parsed(deserializer, expected, |written| match written.text()? {
            OFF => Some(Self(None)),
            address => address.parse().ok().map(|address| Self(Some(address))),
        })
    }
}

/// A value that an operator wrote.
#[derive(Clone, Copy)]
pub(super) enum Written<'a> {
    Text(&'a str),
    Number(u64),
}

impl<'a> Written<'a> {
    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) => None,
        }
    }
}

/// Deserializes what `parse` makes of a text or of a whole number; `expected` says what it takes.
pub(super) fn parsed<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: impl Display,
    parse: impl Fn(Written<'_>) -> Option<T>,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(Parsed { expected, parse })
}

struct Parsed<E, F> {
    expected: E,
    parse: F,
}

impl<T, E: Display, F: Fn(Written<'_>) -> Option<T>> Visitor<'_> for Parsed<E, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expected.fmt(f)
    }

    fn visit_str<R: Error>(self, text: &str) -> Result<T, R> {
        let value = (self.parse)(Written::Text(text));
        value.ok_or_else(|| R::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_u64<R: Error>(self, number: u64) -> Result<T, R> {
        let value = (self.parse)(Written::Number(number));
        value.ok_or_else(|| R::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<R: Error>(self, number: i64) -> Result<T, R> {
        let value = u64::try_from(number).ok();
        let value = value.and_then(|number| (self.parse)(Written::Number(number)));
        value.ok_or_else(|| R::invalid_value(Unexpected::Signed(number), &self))
    }
}

/// Deserializes a text, or a number as its digits.
fn any_scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    parsed(deserializer, "a text", |written| match written {
        Written::Text(text) => Some(text.to_owned()),
        Written::Number(number) => Some(number.to_string()),
    })
}

/// Returns whether the value at `path` is a secret, which is never shown.
pub(super) fn is_secret(path: &[&str]) -> bool {
    matches!(
        path,
        ["broker", "url" | "urls"] | ["push", "proxy"] | ["keys", _, "private_key"]
    )
}

/// Returns the key that takes a file in place of the secret that `key` is.
pub(super) fn file_key(key: &str) -> String {
    match key {
        "broker.urls" => "broker.url_file".to_owned(),
        _ => format!("{key}_file"),
    }
}

/// Returns whether a text looks like a URL with a password or like a private key.
pub(super) fn looks_secret(text: &str) -> bool {
    let url = text.contains("://") && text.contains('@');
    let pem = text.contains("-----BEGIN");
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+/=".contains(&byte);
    let key = text.len() >= 40 && !text.starts_with('/') && text.bytes().all(base64);
    url || pem || key
}

/// Describes why the system refused.
pub(super) fn reason(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == ErrorKind::NotFound {
        "no such file".to_owned()
    } else if kind == ErrorKind::InvalidData {
        "it is not UTF-8".to_owned()
    } else {
        kind.to_string()
    }
}
