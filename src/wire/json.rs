//! JSON read member by member, so that each fault is known by its place.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fault::Fault;

/// The members of one object, each still as text; `null` counts as absent.
pub(super) struct Object<'a, const N: usize> {
    /// The values, in the order of the names asked for.
    pub(super) values: [Option<&'a RawValue>; N],
    /// The first member that was not asked for.
    pub(super) unknown: Option<Cow<'a, str>>,
    /// The first member that comes twice.
    pub(super) twice: Option<&'static str>,
}

impl<'a, const N: usize> Object<'a, N> {
    /// Reads an object; on a syntax error, whatever came before it is kept.
    ///
    /// # Errors
    /// If the text is not one JSON object.
    pub(super) fn read(
        text: &'a str,
        names: &'static [&'static str; N],
    ) -> (Self, serde_json::Result<()>) {
        let mut object = Self {
            values: [None; N],
            unknown: None,
            twice: None,
        };
        let mut json = serde_json::Deserializer::from_str(text);
        let read = json
            .deserialize_map(Members {
                object: &mut object,
                names,
            })
            .and_then(|()| json.end());
        (object, read)
    }
}

struct Members<'o, 'a, const N: usize> {
    object: &'o mut Object<'a, N>,
    names: &'static [&'static str; N],
}

impl<'a, const N: usize> Visitor<'a> for Members<'_, 'a, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(Key(name)) = map.next_key()? {
            let value: &'a RawValue = map.next_value()?;
            let Some(index) = self.names.iter().position(|known| *known == name) else {
                self.object.unknown.get_or_insert(name);
                continue;
            };
            if self.object.values[index].is_some() {
                self.object.twice.get_or_insert(self.names[index]);
            }
            if value.get() != "null" {
                self.object.values[index] = Some(value);
            }
        }
        Ok(())
    }
}

/// A member's name, borrowed unless it is written with escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
