//! What the broker says of a message that it gave up on.

use lapin::types::{AMQPValue, FieldTable};

use super::table;

/// Why and where the broker gave up on a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Death {
    /// Why.
    pub cause: DeathCause,
    /// The queue it was in.
    pub queue: Option<Box<str>>,
    /// The routing key it had there.
    pub routing_key: Option<Box<str>>,
}

/// Why the broker gave up on a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeathCause {
    /// The producer's `expiration` passed.
    Expired,
    /// It was delivered too often without being settled.
    DeliveryLimit,
    /// Anything else, or not said.
    #[default]
    Other,
}

impl Death {
    /// Reads the headers the broker gives a message that it moves to the undeliverable queue.
    ///
    /// The last death is the one that counts: a message that came back from a delay band has
    /// expired there before, as it should. `x-death` begins with the last one on every version;
    /// `x-first-death-*` is what is left if some hop dropped it.
    #[must_use]
    pub fn read(headers: &FieldTable) -> Self {
        match headers.inner().get("x-death") {
            Some(AMQPValue::FieldArray(deaths)) => match deaths.as_slice().first() {
                Some(AMQPValue::FieldTable(last)) => Self::of(last, "reason", "queue"),
                _ => Self::default(),
            },
            _ => Self::of(headers, "x-first-death-reason", "x-first-death-queue"),
        }
    }

    fn of(table: &FieldTable, reason: &str, queue: &str) -> Self {
        Self {
            cause: match table::text(table, reason) {
                Some("expired") => DeathCause::Expired,
                Some("delivery_limit") => DeathCause::DeliveryLimit,
                _ => DeathCause::Other,
            },
            queue: table::text(table, queue).map(Box::from),
            routing_key: first_text(table, "routing-keys").map(Box::from),
        }
    }
}

/// Returns the text with which an array begins.
fn first_text<'a>(table: &'a FieldTable, name: &str) -> Option<&'a str> {
    let AMQPValue::FieldArray(texts) = table.inner().get(name)? else {
        return None;
    };
    let AMQPValue::LongString(text) = texts.as_slice().first()? else {
        return None;
    };
    str::from_utf8(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use lapin::types::{FieldArray, LongString};

    use super::*;

    fn death(reason: &str, queue: &str) -> AMQPValue {
        let mut table = FieldTable::default();
        table::put_text(&mut table, "reason", reason);
        table::put_text(&mut table, "queue", queue);
        let key = AMQPValue::LongString("shop.high".into());
        let keys = AMQPValue::FieldArray(vec![key].into());
        table.insert("routing-keys".into(), keys);
        AMQPValue::FieldTable(table)
    }

    #[test]
    fn the_last_death_counts() {
        let mut headers = FieldTable::default();
        table::put_text(&mut headers, "x-first-death-reason", "expired");
        table::put_text(&mut headers, "x-first-death-queue", "webpush.delay.1s");
        assert_eq!(
            Death::read(&headers),
            Death {
                cause: DeathCause::Expired,
                queue: Some("webpush.delay.1s".into()),
                routing_key: None,
            }
        );
        let deaths = vec![
            death("delivery_limit", "webpush.due.default"),
            death("expired", "webpush.delay.1s"),
        ];
        headers.insert(
            "x-death".into(),
            AMQPValue::FieldArray(FieldArray::from(deaths)),
        );
        assert_eq!(
            Death::read(&headers),
            Death {
                cause: DeathCause::DeliveryLimit,
                queue: Some("webpush.due.default".into()),
                routing_key: Some("shop.high".into()),
            }
        );
    }

    #[test]
    fn nonsense_is_some_other_cause() {
        for value in [
            AMQPValue::FieldArray(FieldArray::default()),
            AMQPValue::FieldArray(vec![AMQPValue::Void].into()),
            AMQPValue::LongString(LongString::from("x")),
        ] {
            let mut headers = FieldTable::default();
            headers.insert("x-death".into(), value);
            assert_eq!(Death::read(&headers), Death::default());
        }
    }
}
