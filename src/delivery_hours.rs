//! The hours of the day at which a recipient may be pushed to.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

use crate::words::nearest;

/// The hours of the day at which a recipient may be pushed to, by the clocks of its time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryHours {
    from: Time,
    to: Time,
    zone: TimeZone,
}

/// Why there are no such hours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHours {
    /// The hours begin when they end.
    #[error("expected a time other than `from`; leave deliver_between out to deliver at any time")]
    Empty,
    /// No time zone has this name; one has a similar name.
    #[error("unknown time zone; did you mean `{0}`?")]
    Misspelt(Box<str>),
    /// No time zone has such a name.
    #[error("unknown time zone; expected a name of the IANA database, such as Europe/Berlin")]
    UnknownZone,
}

/// The longest name that is compared with those of time zones.
const ZONE_LIMIT: usize = 64;

const DAY: Duration = Duration::from_hours(24);

impl DeliveryHours {
    /// Creates the hours from `from`, inclusive, to `to`, exclusive, over midnight if `to` is earlier.
    ///
    /// # Errors
    /// If the times are equal or the IANA database has no such zone.
    pub fn new(from: Time, to: Time, zone: &str) -> Result<Self, InvalidHours> {
        if from == to {
            return Err(InvalidHours::Empty);
        }
        // To jiff, `Etc/Unknown` is UTC by another name.
        let known = TimeZone::get(zone).ok().filter(|it| !it.is_unknown());
        let zone = known.ok_or_else(|| unknown(zone))?;
        Ok(Self { from, to, zone })
    }

    /// Returns when they begin.
    #[must_use]
    pub fn from(&self) -> Time {
        self.from
    }

    /// Returns the time zone whose clocks count.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Returns whether the clocks of the zone show one of these hours at `at`.
    #[must_use]
    pub fn contain(&self, at: Timestamp) -> bool {
        let time = self.zone.to_datetime(at).time();
        if self.from < self.to {
            self.from <= time && time < self.to
        } else {
            self.from <= time || time < self.to
        }
    }

    /// Returns how long they are on a day on which the clocks are not changed.
    #[must_use]
    pub fn length(&self) -> Duration {
        let span = self.from.duration_until(self.to);
        match Duration::try_from(span) {
            Ok(length) => length,
            Err(_) => DAY.saturating_sub(span.unsigned_abs()),
        }
    }
}

/// Returns a time for the rules of time zones; `None` if it is after the year 9999.
#[must_use]
pub fn timestamp(at: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(at).ok()
}

fn unknown(zone: &str) -> InvalidHours {
    if zone.len() > ZONE_LIMIT {
        return InvalidHours::UnknownZone;
    }
    let known: Vec<_> = jiff::tz::db().available().collect();
    match nearest(zone, known.iter().map(|name| name.as_str())) {
        Some(near) => InvalidHours::Misspelt(near.into()),
        None => InvalidHours::UnknownZone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(from: &str, to: &str, zone: &str) -> Result<DeliveryHours, InvalidHours> {
        DeliveryHours::new(from.parse().unwrap(), to.parse().unwrap(), zone)
    }

    #[test]
    fn hours_end_before_their_end_and_may_pass_midnight() {
        for (from, to, at, within) in [
            ("08:00", "21:30", "07:59:59", false),
            ("08:00", "21:30", "08:00:00", true),
            ("08:00", "21:30", "21:29:59", true),
            ("08:00", "21:30", "21:30:00", false),
            ("22:00", "06:00", "21:59:59", false),
            ("22:00", "06:00", "22:00:00", true),
            ("22:00", "06:00", "00:00:00", true),
            ("22:00", "06:00", "06:00:00", false),
        ] {
            let hours = hours(from, to, "Europe/Berlin").unwrap();
            let at = format!("2026-11-21T{at}+01:00").parse().unwrap();
            assert_eq!(hours.contain(at), within, "{from} {to} {at}");
        }
    }

    #[test]
    fn the_length_of_hours_over_midnight_is_counted_through_it() {
        for (from, to, seconds) in [
            ("08:00", "21:30", 48_600),
            ("22:00", "06:00", 28_800),
            ("00:00", "23:59:59", 86_399),
            ("00:00:01", "00:00", 86_399),
        ] {
            let length = hours(from, to, "UTC").unwrap().length();
            assert_eq!(length.as_secs(), seconds, "{from} {to}");
        }
    }

    #[test]
    fn a_zone_that_does_not_exist_is_told_which_was_meant() {
        for (zone, sentence) in [
            (
                "Europe/Berln",
                "unknown time zone; did you mean `Europe/Berlin`?",
            ),
            (
                "Amerika/New_York",
                "unknown time zone; did you mean `America/New_York`?",
            ),
            (
                "Etc/Unknown",
                "unknown time zone; expected a name of the IANA database, such as Europe/Berlin",
            ),
            (
                "somewhere",
                "unknown time zone; expected a name of the IANA database, such as Europe/Berlin",
            ),
            (
                &"x".repeat(5000),
                "unknown time zone; expected a name of the IANA database, such as Europe/Berlin",
            ),
        ] {
            let refused = hours("08:00", "21:30", zone).unwrap_err();
            assert_eq!(refused.to_string(), sentence, "{zone}");
        }
        assert_eq!(hours("08:00", "08:00", "UTC"), Err(InvalidHours::Empty));
        for zone in ["UTC", "europe/berlin", "Asia/Kathmandu", "Etc/GMT+5"] {
            assert!(hours("08:00", "21:30", zone).is_ok(), "{zone}");
        }
    }
}
