//! The browser's `PushSubscription`, in the forms it is found in (classify/README.md §4).
//!
//! It comes from pages, tables and serialisers that are not ours: unknown members are ignored, the
//! keys may stand beside the endpoint instead of in `keys`.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::fault::Fault;
use super::json::{self, Object};
use crate::outcome::Reason;
use crate::subscription::{AuthSecret, Endpoint, KeyError, Keys, UserAgentKey};

/// The members of a subscription that mean something here, still as text.
#[derive(Clone, Copy, Default)]
pub(super) struct PushSubscription<'a> {
    endpoint: Option<&'a RawValue>,
    keys: Option<&'a RawValue>,
    p256dh: Option<&'a RawValue>,
    auth: Option<&'a RawValue>,
}

impl<'a> PushSubscription<'a> {
    /// Reads the object.
    pub(super) fn read(raw: &'a RawValue) -> Result<Self, Fault> {
        const PATH: &str = "subscription";
        const EXPECTED: &str = "an object as PushSubscription.toJSON() gives it";
        let Some(object) = Object::of(raw, &["endpoint", "keys", "p256dh", "auth"]) else {
            return Err(invalid(Fault::kind(PATH, EXPECTED, raw)));
        };
        let [endpoint, keys, p256dh, auth] = object.values;
        Ok(Self {
            endpoint,
            keys,
            p256dh,
            auth,
        })
    }

    /// Returns the endpoint as it was given.
    pub(super) fn endpoint_text(&self) -> Result<Cow<'a, str>, Fault> {
        const PATH: &str = "subscription.endpoint";
        let Some(raw) = self.endpoint else {
            return Err(invalid(Fault::malformed(
                PATH,
                "is missing; expected the push URL",
            )));
        };
        json::string(raw).ok_or_else(|| invalid(Fault::kind(PATH, "the push URL as a string", raw)))
    }

    /// Parses the endpoint.
    pub(super) fn endpoint(text: &str) -> Result<Endpoint, Fault> {
        const PATH: &str = "subscription.endpoint";
        Endpoint::parse(text).map_err(|error| invalid(Fault::malformed(PATH, error.to_string())))
    }

    /// Decodes the keys.
    pub(super) fn keys(&self) -> Result<Keys, Fault> {
        const PATH: &str = "subscription.keys";
        let nested = match self.keys {
            None => [None; 2],
            Some(raw) => {
                Object::of(raw, &["p256dh", "auth"])
                    .ok_or_else(|| invalid(Fault::kind(PATH, "an object of p256dh and auth", raw)))?
                    .values
            }
        };
        Ok(Keys {
            p256dh: key(
                nested[0].map(|raw| ("subscription.keys.p256dh", raw)),
                self.p256dh.map(|raw| ("subscription.p256dh", raw)),
                "subscription.keys.p256dh",
                UserAgentKey::parse,
            )?,
            auth: key(
                nested[1].map(|raw| ("subscription.keys.auth", raw)),
                self.auth.map(|raw| ("subscription.auth", raw)),
                "subscription.keys.auth",
                AuthSecret::parse,
            )?,
        })
    }
}

/// A value and its path.
type Placed<'a> = (&'static str, &'a RawValue);

fn key<T>(
    nested: Option<Placed<'_>>,
    flat: Option<Placed<'_>>,
    usual: &'static str,
    parse: impl FnOnce(&str) -> Result<T, KeyError>,
) -> Result<T, Fault> {
    let Some((path, raw)) = nested.or(flat) else {
        let sentence = "is missing; a payload is encrypted with it";
        return Err(invalid(Fault::malformed(usual, sentence)));
    };
    let text = json::string(raw).ok_or_else(|| invalid(Fault::kind(path, "a string", raw)))?;
    parse(&text).map_err(|error| invalid(Fault::malformed(path, error.to_string())))
}

fn invalid(fault: Fault) -> Fault {
    fault.because(Reason::InvalidSubscription)
}
