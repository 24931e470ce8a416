//! JSON read member by member, so that each fault is known by its place.
//!
//! Nothing here builds a tree or recurses: a value stays text until the code that knows its meaning
//! reads it, and a nesting bomb is only ever skipped.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

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
    /// Reads an object; of a broken one, whatever came before the break is kept beside the error.
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
        let visitor = Members {
            object: &mut object,
            names,
        };
        let read = json.deserialize_map(visitor).and_then(|()| json.end());
        (object, read)
    }

    /// Reads a value that may be an object; an empty array counts as an empty object, which is
    /// what PHP makes of one.
    pub(super) fn of(raw: &'a RawValue, names: &'static [&'static str; N]) -> Option<Self> {
        let text = if is_empty_array(raw) { "{}" } else { raw.get() };
        let (object, read) = Self::read(text, names);
        read.is_ok().then_some(object)
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

/// The elements of an array, each still as text.
pub(super) struct List<'a> {
    /// The first elements, up to the limit and one more.
    pub(super) elements: Vec<&'a RawValue>,
    /// How many there are.
    pub(super) count: usize,
}

impl<'a> List<'a> {
    /// Reads an array and keeps few more than `limit` of its elements; `None` if it is not one.
    pub(super) fn of(raw: &'a RawValue, limit: usize) -> Option<Self> {
        let mut json = serde_json::Deserializer::from_str(raw.get());
        json.deserialize_seq(Elements { limit }).ok()
    }
}

struct Elements {
    limit: usize,
}

impl<'a> Visitor<'a> for Elements {
    type Value = List<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut seq: S) -> Result<List<'a>, S::Error> {
        let mut elements = Vec::new();
        while elements.len() <= self.limit {
            let Some(element) = seq.next_element::<&'a RawValue>()? else {
                break;
            };
            elements.push(element);
        }
        let mut count = elements.len();
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(List { elements, count })
    }
}

/// Reads a string; `None` if it is none, or holds an escape that stands for no character.
pub(super) fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(raw.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Returns how many objects and arrays a value has inside each other, itself included.
pub(super) fn depth(raw: &RawValue) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in raw.get().bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Returns a value with U+FFFD in place of every escape that is half a surrogate pair: many parsers
/// refuse those, and text that was cut in the middle of an emoji has them.
pub(super) fn with_whole_characters(raw: &RawValue) -> Cow<'_, RawValue> {
    let text = raw.get();
    if !text.contains("\\u") {
        return Cow::Borrowed(raw);
    }
    let mut whole = String::new();
    let (mut rest, mut kept) = (text, 0);
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at..];
        let length = match (surrogate(escape), escape.get(6..).and_then(surrogate)) {
            (Some(Surrogate::High), Some(Surrogate::Low)) => 12,
            (Some(_), _) => {
                let start = text.len() - escape.len();
                whole.push_str(&text[kept..start]);
                whole.push_str("\\ufffd");
                kept = start + 6;
                6
            }
            (None, _) => 2,
        };
        rest = escape.get(length..).unwrap_or_default();
    }
    if kept == 0 {
        return Cow::Borrowed(raw);
    }
    whole.push_str(&text[kept..]);
    RawValue::from_string(whole).map_or(Cow::Borrowed(raw), Cow::Owned)
}

enum Surrogate {
    High,
    Low,
}

/// Returns which half of a surrogate pair the escape at the beginning of `text` is, if it is one.
fn surrogate(text: &str) -> Option<Surrogate> {
    match code_unit(text.as_bytes())? {
        0xd800..=0xdbff => Some(Surrogate::High),
        0xdc00..=0xdfff => Some(Surrogate::Low),
        _ => None,
    }
}

/// Reads the `\u` escape at the beginning of `text`.
fn code_unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// Returns the length of JSON text with characters in place of the `\u` escapes that no rule of JSON asks
/// for.
pub(super) fn len_without_escapes(text: &[u8]) -> usize {
    let (mut length, mut rest) = (text.len(), text);
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let escape = &rest[at..];
        let (read, written) = match (code_unit(escape), escape.get(6..).and_then(code_unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, 4),
            (Some(0x80..=0x7ff), _) => (6, 2),
            (Some(..0x80 | 0xd800..=0xdfff), _) => (6, 6),
            (Some(_), _) => (6, 3),
            (None, _) => (2, 2),
        };
        length -= read - written;
        rest = escape.get(read..).unwrap_or_default();
    }
    length
}

/// Reads the digits of an integer, with its sign; `None` for anything else, fractions and
/// exponents included.
pub(super) fn integer(raw: &RawValue) -> Option<&str> {
    let text = raw.get();
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(text)
}

/// Returns whether the value is `[]`.
pub(super) fn is_empty_array(raw: &RawValue) -> bool {
    raw.get()
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inner| inner.trim_ascii().is_empty())
}

/// Describes the type of a value, for a sentence, without repeating the value.
pub(super) fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') if string(raw).is_none() => {
            "a string with half of a surrogate pair, such as of an emoji that was cut in two; cut \
             text between characters"
        }
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't') => "true",
        Some(b'f') => "false",
        Some(b'n') => "null",
        _ if integer(raw).is_some() => "an integer",
        _ => "a number with a fraction or an exponent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["a", "b"];

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn members_are_kept_as_they_were_written() {
        let (object, read) =
            Object::read(r#" {"\u0061": [1, {"x":2}] ,"b":null,"c":3,"d":4}"#, &NAMES);
        assert!(read.is_ok());
        assert_eq!(
            object.values.map(|value| value.map(RawValue::get)),
            [Some(r#"[1, {"x":2}]"#), None]
        );
        assert_eq!(object.unknown.as_deref(), Some("c"));
        assert_eq!(object.twice, None);
    }

    #[test]
    fn a_broken_object_keeps_what_came_before_the_break() {
        let (object, read) = Object::read(r#"{"a":1,"b":"#, &NAMES);
        assert!(read.is_err());
        assert_eq!(object.values[0].map(RawValue::get), Some("1"));
    }

    #[test]
    fn a_member_that_comes_twice_is_noticed() {
        let (object, _) = Object::read(r#"{"a":1,"a":1}"#, &NAMES);
        assert_eq!(object.twice, Some("a"));
    }

    #[test]
    fn lists_count_beyond_what_they_keep() {
        let list = List::of(raw("[1,2,3,4,5]"), 2).unwrap();
        assert_eq!((list.elements.len(), list.count), (3, 5));
        assert!(List::of(raw("{}"), 2).is_none());
    }

    #[test]
    fn values_are_read_by_their_kind() {
        for (text, expected) in [
            (r#""a\/b""#, Some("a/b")),
            (r#""ab""#, Some("ab")),
            (r#""""#, Some("")),
            (r#""\ud800""#, None),
            ("1", None),
        ] {
            assert_eq!(string(raw(text)).as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            ("0", true),
            ("-7", true),
            ("1.0", false),
            ("1e3", false),
            ("\"1\"", false),
        ] {
            assert_eq!(integer(raw(text)).is_some(), expected, "{text}");
        }
        for text in ["[]", "[ \n]"] {
            assert!(is_empty_array(raw(text)));
        }
        for text in ["[0]", "{}", r#""[]""#] {
            assert!(!is_empty_array(raw(text)));
        }
    }

    #[test]
    fn the_levels_of_a_value_are_counted_outside_its_strings() {
        for (text, levels) in [
            ("1", 0),
            (r#""[[{""#, 0),
            ("[]", 1),
            (r#"{"a\"[":[1,{"b":[]}],"c":[]}"#, 4),
        ] {
            assert_eq!(depth(raw(text)), levels, "{text}");
        }
        assert_eq!(
            depth(raw(&format!("{}{}", "[".repeat(4000), "]".repeat(4000)))),
            4000
        );
    }

    #[test]
    fn half_a_surrogate_pair_becomes_a_replacement_character() {
        for (text, whole) in [
            (r#""\u00e9 \ud83d\ude00""#, r#""\u00e9 \ud83d\ude00""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""Sale \ud83d""#, r#""Sale \ufffd""#),
            (
                r#""\uDE00\ud83d\uD83D\ude00x""#,
                r#""\ufffd\ufffd\uD83D\ude00x""#,
            ),
            (r#"{"\ud83d":"\ud83d\n"}"#, r#"{"\ufffd":"\ufffd\n"}"#),
        ] {
            let found = with_whole_characters(raw(text));
            assert_eq!(found.get(), whole);
            assert_eq!(matches!(found, Cow::Borrowed(_)), text == whole, "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(found.get()).is_ok());
        }
    }

    #[test]
    fn escapes_that_json_does_not_ask_for_are_measured_as_characters() {
        for (text, length) in [
            (r#""\u041f\u0440\u0438""#, "\"При\"".len()),
            (r#""\u00e9\u20ac\ud83d\ude00""#, "\"é€😀\"".len()),
            (r#""\n\\u00e9\u0001\u0022""#, 23),
            (r#""\ud83d""#, 8),
            ("plain", 5),
            ("\\", 1),
            ("\\u12", 4),
        ] {
            assert_eq!(len_without_escapes(text.as_bytes()), length, "{text}");
        }
    }

    #[test]
    fn nesting_is_skipped_without_recursion() {
        let bomb = format!(r#"{{"a":{}{}}}"#, "[".repeat(1 << 20), "]".repeat(1 << 20));
        let (object, read) = Object::read(&bomb, &NAMES);
        assert!(read.is_ok() && object.values[0].is_some());
    }
}
