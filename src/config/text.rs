//! Words as an operator writes them: names, secrets, addresses to listen on.

use std::fmt;
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
        deserializer.deserialize_any(Scalar).map(Self)
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
        let text = deserializer.deserialize_any(Scalar)?;
        Ok(Self(Secret::new(text)))
    }
}

struct Scalar;

impl Visitor<'_> for Scalar {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
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
        let parse = |text: &str| match text {
            OFF => Some(Self(None)),
            address => address.parse().ok().map(|address| Self(Some(address))),
        };
        let expected = "an IP address and a port such as \"127.0.0.1:9464\", or \"off\"";
        deserializer.deserialize_str(Parsed { expected, parse })
    }
}

/// A text that something parses.
pub(super) struct Parsed<F> {
    pub(super) expected: &'static str,
    pub(super) parse: F,
}

impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for Parsed<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Returns whether the value at `path` is a secret, which is never parsed nor shown.
pub(super) fn is_secret(path: &[&str]) -> bool {
    matches!(
        path,
        ["broker", "url"] | ["push", "proxy"] | ["keys", _, "private_key"]
    )
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
