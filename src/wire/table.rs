//! AMQP header tables, read as outsiders write them and written within bounds.

use std::time::{Duration, SystemTime};

use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

/// The longest header value that is read or written, in bytes.
pub(super) const TEXT_LIMIT: usize = 512;

/// The last moment of the year 9999 in milliseconds since 1970.
const MILLIS_LIMIT: u64 = 253_402_300_799_999;

/// Returns a text of at most [`TEXT_LIMIT`] bytes.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "AMQP has many types, and only these are texts"
)]
pub(super) fn text<'a>(table: &'a FieldTable, name: &str) -> Option<&'a str> {
    let text = match table.inner().get(name)? {
        AMQPValue::LongString(text) => str::from_utf8(text.as_bytes()).ok()?,
        AMQPValue::ShortString(text) => text.as_str(),
        AMQPValue::ByteArray(bytes) => str::from_utf8(bytes.as_slice()).ok()?,
        _ => return None,
    };
    (text.len() <= TEXT_LIMIT).then_some(text)
}

/// Returns an integer that is not negative, whatever its width.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "AMQP has many types, and only these are integers"
)]
pub(super) fn number(table: &FieldTable, name: &str) -> Option<u64> {
    match *table.inner().get(name)? {
        AMQPValue::ShortShortInt(number) => u64::try_from(number).ok(),
        AMQPValue::ShortShortUInt(number) => Some(number.into()),
        AMQPValue::ShortInt(number) => u64::try_from(number).ok(),
        AMQPValue::ShortUInt(number) => Some(number.into()),
        AMQPValue::LongInt(number) => u64::try_from(number).ok(),
        AMQPValue::LongUInt(number) => Some(number.into()),
        AMQPValue::LongLongInt(number) => u64::try_from(number).ok(),
        AMQPValue::Timestamp(number) => Some(number),
        _ => None,
    }
}

/// Returns a small number.
pub(super) fn count(table: &FieldTable, name: &str) -> Option<u32> {
    number(table, name).and_then(|number| number.try_into().ok())
}

/// Returns a moment given in milliseconds since 1970.
pub(super) fn moment(table: &FieldTable, name: &str) -> Option<SystemTime> {
    let millis = number(table, name).filter(|millis| *millis <= MILLIS_LIMIT)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

/// Writes a text, cut off at [`TEXT_LIMIT`] bytes.
pub(super) fn put_text(table: &mut FieldTable, name: &'static str, text: &str) {
    let text = &text[..text.floor_char_boundary(TEXT_LIMIT)];
    put(table, name, AMQPValue::LongString(LongString::from(text)));
}

/// Writes a number.
pub(super) fn put_number(table: &mut FieldTable, name: &'static str, number: impl Into<u64>) {
    let number = i64::try_from(number.into()).unwrap_or(i64::MAX);
    put(table, name, AMQPValue::LongLongInt(number));
}

/// Writes a moment in milliseconds since 1970.
pub(super) fn put_moment(table: &mut FieldTable, name: &'static str, moment: SystemTime) {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    put_number(table, name, u64::try_from(millis).unwrap_or(u64::MAX));
}

/// Returns a value as it is copied to another message: a text cut off at [`TEXT_LIMIT`] bytes; `None`
/// for tables and arrays.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "AMQP has many types, and only these have no bound"
)]
pub(super) fn single(value: &AMQPValue) -> Option<AMQPValue> {
    match value {
        AMQPValue::FieldTable(_) | AMQPValue::FieldArray(_) => None,
        AMQPValue::LongString(text) => Some(AMQPValue::LongString(cut(text.as_bytes()).into())),
        AMQPValue::ByteArray(bytes) => Some(AMQPValue::ByteArray(cut(bytes.as_slice()).into())),
        other => Some(other.clone()),
    }
}

fn cut(bytes: &[u8]) -> Vec<u8> {
    let limit = match str::from_utf8(bytes) {
        Ok(text) => text.floor_char_boundary(TEXT_LIMIT),
        Err(_) => TEXT_LIMIT.min(bytes.len()),
    };
    bytes[..limit].to_vec()
}

fn put(table: &mut FieldTable, name: &'static str, value: AMQPValue) {
    table.insert(ShortString::from(name), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(value: AMQPValue) -> FieldTable {
        let mut table = FieldTable::default();
        put(&mut table, "x", value);
        table
    }

    #[test]
    fn numbers_are_read_in_every_width() {
        for (value, expected) in [
            (AMQPValue::ShortShortInt(7), Some(7)),
            (AMQPValue::ShortShortUInt(7), Some(7)),
            (AMQPValue::ShortInt(7), Some(7)),
            (AMQPValue::ShortUInt(7), Some(7)),
            (AMQPValue::LongInt(7), Some(7)),
            (AMQPValue::LongUInt(7), Some(7)),
            (AMQPValue::LongLongInt(7), Some(7)),
            (AMQPValue::Timestamp(7), Some(7)),
            (AMQPValue::LongLongInt(-7), None),
            (AMQPValue::Double(7.0), None),
            (AMQPValue::LongString("7".into()), None),
            (AMQPValue::Void, None),
        ] {
            assert_eq!(number(&table(value.clone()), "x"), expected, "{value:?}");
        }
        assert_eq!(count(&table(AMQPValue::LongLongInt(1 << 40)), "x"), None);
        assert_eq!(moment(&table(AMQPValue::LongLongInt(i64::MAX)), "x"), None);
    }

    #[test]
    fn texts_are_bounded_both_ways() {
        let long = "\u{e9}".repeat(TEXT_LIMIT);
        assert_eq!(
            text(&table(AMQPValue::LongString(long.clone().into())), "x"),
            None
        );
        assert_eq!(
            text(&table(AMQPValue::LongString(vec![0xff].into())), "x"),
            None
        );
        let mut table = FieldTable::default();
        put_text(&mut table, "x", &format!("a{long}"));
        assert_eq!(text(&table, "x").unwrap().len(), TEXT_LIMIT - 1);
    }
}
