//! The browser's `PushSubscription`, in the forms it is found in (classify/README.md §4).
//!
//! It comes from pages, tables and serialisers that are not ours: unknown members are ignored, the
//! keys may stand beside the endpoint instead of in `keys`, and members have the names that other
//! libraries of the field give them.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::value::RawValue;

use super::fault::Fault;
use super::json::{self, Object};
use crate::outcome::Reason;
use crate::subscription::{AuthSecret, Endpoint, KeyError, Keys, UserAgentKey, decode_base64};

/// The names of each member that means something here, the browser's first, and the columns and
/// properties of the web push libraries for PHP, Laravel, Ruby and .NET.
const NAMES: [&str; 21] = [
    "endpoint",
    "Endpoint",
    "keys",
    "Keys",
    "p256dh",
    "P256dh",
    "P256DH",
    "publicKey",
    "PublicKey",
    "public_key",
    "key_p256dh",
    "p256dh_key",
    "keys_p256dh",
    "auth",
    "Auth",
    "authToken",
    "AuthToken",
    "auth_token",
    "key_auth",
    "auth_key",
    "keys_auth",
];
const ENDPOINT: Range<usize> = 0..2;
const KEYS: Range<usize> = 2..4;
const P256DH: Range<usize> = 4..13;
const AUTH: Range<usize> = 13..21;

/// The members of a subscription that mean something here, still as text, in the order of [`NAMES`].
#[derive(Clone, Copy, Default)]
pub(super) struct PushSubscription<'a>([Option<&'a RawValue>; NAMES.len()]);

impl<'a> PushSubscription<'a> {
    /// Reads the object.
    pub(super) fn read(raw: &'a RawValue) -> Result<Self, Fault> {
        const PATH: &str = "subscription";
        const EXPECTED: &str = "an object as PushSubscription.toJSON() gives it";
        match Object::of(raw, &NAMES) {
            Some(object) => Ok(Self(object.values)),
            None => Err(invalid(Fault::kind(PATH, EXPECTED, raw))),
        }
    }

    /// Returns the endpoint as it was given.
    pub(super) fn endpoint_text(&self) -> Result<Cow<'a, str>, Fault> {
        let mut given = self.given("subscription", ENDPOINT);
        let Some(first) = given.next() else {
            let sentence = "is missing; expected the push URL";
            return Err(invalid(Fault::malformed("subscription.endpoint", sentence)));
        };
        let text = first.text("the push URL as a string")?;
        for other in given {
            if json::string(other.raw).as_deref() != Some(&*text) {
                return Err(contradiction(&first, &other));
            }
        }
        Ok(text)
    }

    /// Parses the endpoint.
    pub(super) fn endpoint(text: &str) -> Result<Endpoint, Fault> {
        const PATH: &str = "subscription.endpoint";
        Endpoint::parse(text).map_err(|error| invalid(Fault::malformed(PATH, error.to_string())))
    }

    /// Decodes the keys.
    pub(super) fn keys(&self) -> Result<Keys, Fault> {
        let mut nested = Vec::new();
        for given in self.given("subscription", KEYS) {
            let Some(object) = Object::of(given.raw, &NAMES) else {
                return Err(given.kind("an object of p256dh and auth"));
            };
            nested.push((given.path(), Self(object.values)));
        }
        let key = |member: Range<usize>| {
            let flat = self.given("subscription", member.clone());
            let nested = nested.iter();
            let nested = nested.flat_map(move |(path, keys)| keys.given(path, member.clone()));
            nested.chain(flat)
        };
        Ok(Keys {
            p256dh: only("p256dh", key(P256DH), UserAgentKey::parse)?,
            auth: only("auth", key(AUTH), AuthSecret::parse)?,
        })
    }

    /// Walks through what is given of one member of the object at `path`.
    fn given<'p>(
        &self,
        path: &'p str,
        member: Range<usize>,
    ) -> impl Iterator<Item = Given<'p, 'a>> + use<'p, 'a> {
        let values = self.0;
        member.filter_map(move |index| {
            Some(Given {
                object: path,
                name: NAMES[index],
                raw: values[index]?,
            })
        })
    }
}

/// A value and its place.
struct Given<'p, 'a> {
    object: &'p str,
    name: &'static str,
    raw: &'a RawValue,
}

impl<'a> Given<'_, 'a> {
    fn path(&self) -> String {
        format!("{}.{}", self.object, self.name)
    }

    fn text(&self, expected: &str) -> Result<Cow<'a, str>, Fault> {
        json::string(self.raw).ok_or_else(|| self.kind(expected))
    }

    fn kind(&self, expected: &str) -> Fault {
        invalid(Fault::kind(self.path(), expected, self.raw))
    }
}

/// Decodes the one key that is given, however often.
fn only<'p, 'a, T>(
    usual: &'static str,
    mut given: impl Iterator<Item = Given<'p, 'a>>,
    parse: impl FnOnce(&str) -> Result<T, KeyError>,
) -> Result<T, Fault> {
    let Some(first) = given.next() else {
        let sentence = "is missing; a payload is encrypted with it";
        let path = format!("subscription.keys.{usual}");
        return Err(invalid(Fault::malformed(path, sentence)));
    };
    let text = first.text("a string")?;
    for other in given {
        let again = other.text("a string")?;
        if again != text && decode_base64(&again) != decode_base64(&text) {
            return Err(contradiction(&first, &other));
        }
    }
    parse(&text).map_err(|error| invalid(Fault::malformed(first.path(), error.to_string())))
}

/// Records two spellings of one member that differ.
fn contradiction(first: &Given<'_, '_>, other: &Given<'_, '_>) -> Fault {
    let other = other.path();
    let sentence = format!("differs from {other}; give one of them, or both with the same value");
    invalid(Fault::malformed(first.path(), sentence))
}

fn invalid(fault: Fault) -> Fault {
    fault.because(Reason::InvalidSubscription)
}
