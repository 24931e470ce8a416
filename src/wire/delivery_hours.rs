//! The member `deliver_between`: the hours of the day at which a recipient may be pushed to
//! (examples/README.md, "The event").

use jiff::civil::Time;
use serde_json::value::RawValue;

use super::fault::{Fault, Faults};
use super::json::Object;
use super::member;
use crate::delivery_hours::{DeliveryHours, InvalidHours};
use crate::outcome::Reason;

/// Its members, all of which are required.
pub const MEMBERS: [&str; 3] = ["from", "to", "zone"];

/// The most bytes of JSON that it may take. Every copy of an event repeats it.
const TEXT_LIMIT: usize = 1 << 10;

const TIME: &str = "a time such as \"08:00\" or \"21:30:00\"";

const ZONE: &str = "the name of a time zone such as \"Europe/Berlin\"";

/// Reads delivery hours. Those that cannot be kept end a recipient as a schedule does that cannot be
/// kept.
pub(super) fn delivery_hours(path: &'static str, raw: &RawValue) -> Result<DeliveryHours, Fault> {
    if raw.get().len() > TEXT_LIMIT {
        let expected = format!(
            "expected at most {TEXT_LIMIT} bytes; got {}",
            raw.get().len()
        );
        return Err(Fault::malformed(path, expected));
    }
    let Some(object) = Object::of(raw, &MEMBERS) else {
        return Err(Fault::kind(
            path,
            "an object with `from`, `to` and `zone`",
            raw,
        ));
    };
    read(&object).map_err(|fault| fault.under(path))
}

fn read(object: &Object<'_, { MEMBERS.len() }>) -> Result<DeliveryHours, Fault> {
    let mut faults = Faults::default();
    faults.note_unknown(object, &MEMBERS);
    let [from, to, zone] = object.values;
    for (name, value, expected) in [("from", from, TIME), ("to", to, TIME), ("zone", zone, ZONE)] {
        if value.is_none() {
            faults.note(Fault::malformed(
                name,
                format!("is missing; expected {expected}"),
            ));
        }
    }
    let from = faults.read("from", from, time);
    let to = faults.read("to", to, time);
    let zone = faults.read("zone", zone, member::string);
    match (faults.first(), from.zip(to).zip(zone)) {
        (None, Some(((from, to), zone))) => {
            DeliveryHours::new(from, to, &zone).map_err(|invalid| fault_of(&invalid))
        }
        (Some(fault), _) => Err(fault),
        (None, None) => Err(Fault::malformed("", format!("expected {TIME}"))),
    }
}

fn fault_of(invalid: &InvalidHours) -> Fault {
    let path = match invalid {
        InvalidHours::Empty => "to",
        InvalidHours::Misspelt(_) | InvalidHours::UnknownZone => "zone",
    };
    Fault::malformed(path, invalid.to_string()).because(Reason::InvalidSchedule)
}

/// Reads `HH:MM` or `HH:MM:SS`.
fn time(path: &'static str, raw: &RawValue) -> Result<Time, Fault> {
    let text = member::string(path, raw)?;
    let is_digital = |(index, byte): (usize, u8)| match index % 3 {
        2 => byte == b':',
        _ => byte.is_ascii_digit(),
    };
    let is_time = matches!(text.len(), 5 | 8) && text.bytes().enumerate().all(is_digital);
    // A leap second is none to the clocks that are asked here.
    let time = Some(text).filter(|text| is_time && !text.ends_with(":60"));
    time.and_then(|text| text.parse().ok())
        .ok_or_else(|| Fault::malformed(path, format!("expected {TIME}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(text: &str) -> (Reason, String) {
        let raw = serde_json::from_str(text).unwrap();
        let fault = delivery_hours("deliver_between", raw).unwrap_err();
        (fault.reason, fault.to_string())
    }

    #[test]
    fn hours_are_two_times_and_a_zone() {
        for text in [
            r#"{"from":"08:00","to":"21:30","zone":"Europe/Berlin"}"#,
            r#"{"zone":"UTC","to":"06:00","from":"22:00:30"}"#,
        ] {
            let raw = serde_json::from_str(text).unwrap();
            assert!(delivery_hours("deliver_between", raw).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_hours_is_told_with_its_place() {
        let time = "expected a time such as \"08:00\" or \"21:30:00\"";
        let cases = [
            (
                "5",
                "expected an object with `from`, `to` and `zone`; got an integer".to_owned(),
            ),
            (
                r#"{"from":"08:00","zone":"UTC"}"#,
                format!(".to: is missing; {time}"),
            ),
            (
                r#"{"from":"08:00","to":"09:00"}"#,
                ".zone: is missing; expected the name of a time zone such as \"Europe/Berlin\""
                    .to_owned(),
            ),
            (
                r#"{"from":"8:00","to":"09:00","zone":"UTC"}"#,
                format!(".from: {time}"),
            ),
            (
                r#"{"from":"08:00","to":"24:00","zone":"UTC"}"#,
                format!(".to: {time}"),
            ),
            (
                r#"{"from":"08:00","to":"09:00:60","zone":"UTC"}"#,
                format!(".to: {time}"),
            ),
            (
                r#"{"from":"T08:00","to":"09:00","zone":"UTC"}"#,
                format!(".from: {time}"),
            ),
            (
                r#"{"form":"08:00","to":"09:00","zone":"UTC"}"#,
                ".form: unknown member; did you mean `from`?".to_owned(),
            ),
        ];
        for (text, expected) in cases {
            let separator = if expected.starts_with('.') { "" } else { ": " };
            let expected = format!("deliver_between{separator}{expected}");
            assert_eq!(sentence(text), (Reason::MalformedEvent, expected), "{text}");
        }
    }

    #[test]
    fn hours_that_cannot_be_kept_are_an_invalid_schedule() {
        for (text, expected) in [
            (
                r#"{"from":"08:00","to":"08:00:00","zone":"UTC"}"#,
                "deliver_between.to: expected a time other than `from`; leave deliver_between out to \
                 deliver at any time",
            ),
            (
                r#"{"from":"08:00","to":"21:30","zone":"Europe/Berln"}"#,
                "deliver_between.zone: unknown time zone; did you mean `Europe/Berlin`?",
            ),
        ] {
            assert_eq!(
                sentence(text),
                (Reason::InvalidSchedule, expected.to_owned())
            );
        }
    }
}
