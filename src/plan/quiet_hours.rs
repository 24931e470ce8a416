//! When a recipient may be pushed to that has delivery hours.
//!
//! The clocks on the wall count: a recipient is pushed to while they show one of its hours. A clock that
//! is set forward over the beginning of the hours begins them; one that is set back out of them ends
//! them, and they begin again when it shows them again.

use std::iter::successors;
use std::time::{Duration, SystemTime};

use jiff::{Span, Timestamp};

use super::deadline::Deadline;
use crate::delivery_hours::{DeliveryHours, timestamp};

/// The longest time over which those who wait for the same hours are spread.
const SPREAD: Duration = Duration::from_secs(5 * 60);

/// What part of the hours that time is at most.
const SPREAD_PART: u32 = 10;

/// How many days ahead the hours begin at the latest: a zone has skipped a day (Samoa, 2011-12-30).
const DAYS: u8 = 4;

/// Outside its delivery hours, a recipient waits or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// It waits until then.
    Until(SystemTime),
    /// Its time runs out before its hours begin.
    TooLong,
}

/// The detail of a recipient whose time runs out before its delivery hours begin.
pub const OUTLASTS: &str = "its time runs out before its delivery hours begin (deliver_between)";

/// Decides what follows for a recipient at `at`; `None` if it may be pushed to.
///
/// `jitter` is a number from 0 to 1. It spreads those who wait, so that they do not all come at once.
#[must_use]
pub fn quiet(
    hours: Option<&DeliveryHours>,
    deadline: &Deadline,
    at: SystemTime,
    jitter: f64,
) -> Option<Quiet> {
    let hours = hours?;
    let opening = opening(hours, timestamp(at)?)?;
    let Some(left) = deadline.left(opening) else {
        return Some(Quiet::TooLong);
    };
    let room = SPREAD.min(hours.length() / SPREAD_PART).min(left / 2);
    Some(Quiet::Until(opening + room.mul_f64(jitter.clamp(0.0, 1.0))))
}

/// Returns when hours begin that do not contain `at`.
fn opening(hours: &DeliveryHours, at: Timestamp) -> Option<SystemTime> {
    if hours.contain(at) {
        return None;
    }
    let zone = hours.zone();
    let today = zone.to_datetime(at).date();
    let begins = successors(Some(today), |day| day.tomorrow().ok())
        .take(DAYS.into())
        .flat_map(|day| {
            // Where the clocks are set back, they show the time twice.
            let begin = zone.to_ambiguous_timestamp(day.to_datetime(hours.from()));
            [begin.earlier(), begin.later()]
        })
        .filter_map(Result::ok);
    let end = at
        .checked_add(Span::new().hours(24 * i64::from(DAYS)))
        .unwrap_or(Timestamp::MAX);
    let changes = zone.following(at).map(|change| change.timestamp());
    let found = begins
        .chain(changes.take_while(|change| *change < end))
        .filter(|begin| *begin > at && hours.contain(*begin))
        .min();
    Some(found.unwrap_or(end).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Ttl;

    fn hours(from: &str, to: &str, zone: &str) -> DeliveryHours {
        DeliveryHours::new(from.parse().unwrap(), to.parse().unwrap(), zone).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn hours_begin_when_the_clocks_of_their_zone_show_them() {
        for (from, to, zone, now, begin) in [
            (
                "08:00",
                "21:30",
                "Europe/Berlin",
                "2026-11-21T06:59:59Z",
                "2026-11-21T07:00:00Z",
            ),
            (
                "08:00",
                "21:30",
                "Europe/Berlin",
                "2026-11-21T07:00:00Z",
                "now",
            ),
            (
                "08:00",
                "21:30",
                "Europe/Berlin",
                "2026-11-21T20:30:00Z",
                "2026-11-22T07:00:00Z",
            ),
            (
                "22:00",
                "06:00",
                "Europe/Berlin",
                "2026-11-21T05:00:00Z",
                "2026-11-21T21:00:00Z",
            ),
            (
                "22:00",
                "06:00",
                "Europe/Berlin",
                "2026-11-21T23:30:00Z",
                "now",
            ),
            (
                "08:00",
                "21:30",
                "Asia/Kathmandu",
                "2026-11-21T00:00:00Z",
                "2026-11-21T02:15:00Z",
            ),
            // The last of the year.
            (
                "08:00",
                "21:30",
                "UTC",
                "2026-12-31T22:00:00Z",
                "2027-01-01T08:00:00Z",
            ),
            // The night between: the offset of the next morning counts.
            (
                "08:00",
                "21:30",
                "Europe/Berlin",
                "2026-03-28T21:00:00Z",
                "2026-03-29T06:00:00Z",
            ),
            (
                "08:00",
                "21:30",
                "Europe/Berlin",
                "2026-10-24T21:00:00Z",
                "2026-10-25T07:00:00Z",
            ),
            // Clocks are set forward from 02:00 to 03:00: over the beginning of the hours.
            (
                "02:30",
                "21:30",
                "Europe/Berlin",
                "2026-03-29T00:00:00Z",
                "2026-03-29T01:00:00Z",
            ),
            // Over all of the hours: that day has none.
            (
                "02:10",
                "02:50",
                "Europe/Berlin",
                "2026-03-29T00:00:00Z",
                "2026-03-30T00:10:00Z",
            ),
            // Clocks are set back from 03:00 to 02:00: the hours begin, pause and begin again.
            (
                "02:30",
                "21:30",
                "Europe/Berlin",
                "2026-10-25T00:00:00Z",
                "2026-10-25T00:30:00Z",
            ),
            (
                "02:30",
                "21:30",
                "Europe/Berlin",
                "2026-10-25T01:10:00Z",
                "2026-10-25T01:30:00Z",
            ),
            (
                "22:00",
                "02:30",
                "Europe/Berlin",
                "2026-10-25T00:45:00Z",
                "2026-10-25T01:00:00Z",
            ),
            (
                "22:00",
                "02:30",
                "Europe/Berlin",
                "2026-10-25T01:45:00Z",
                "2026-10-25T21:00:00Z",
            ),
            // Half an hour of daylight-saving time.
            (
                "02:15",
                "03:00",
                "Australia/Lord_Howe",
                "2026-10-03T15:00:00Z",
                "2026-10-03T15:30:00Z",
            ),
            // A day that a zone skipped, and one whose midnight does not exist.
            (
                "08:00",
                "21:30",
                "Pacific/Apia",
                "2011-12-30T09:30:00Z",
                "2011-12-30T18:00:00Z",
            ),
            (
                "00:00",
                "06:00",
                "America/Sao_Paulo",
                "2018-11-04T02:59:00Z",
                "2018-11-04T03:00:00Z",
            ),
            // A zone that leaves its standard time for good.
            (
                "08:00",
                "21:30",
                "Europe/Istanbul",
                "2016-09-06T22:00:00Z",
                "2016-09-07T05:00:00Z",
            ),
        ] {
            let hours = hours(from, to, zone);
            let found = opening(&hours, at(now)).map(|begin| timestamp(begin).unwrap());
            let expected = (begin != "now").then(|| at(begin));
            assert_eq!(found, expected, "{from}-{to} {zone} at {now}");
        }
    }

    #[test]
    fn those_who_wait_are_spread_within_the_hours_and_before_the_deadline() {
        for (from, to, ttl, jitter, expected) in [
            ("08:00", "21:30", 86_400, 0.0, Some(3600)),
            ("08:00", "21:30", 86_400, 1.0, Some(3900)),
            ("08:00", "08:10", 86_400, 1.0, Some(3660)),
            ("08:00", "08:00:10", 86_400, 1.0, Some(3601)),
            ("08:00", "21:30", 3660, 1.0, Some(3630)),
            ("08:00", "21:30", 3600, 0.0, None),
            ("08:00", "21:30", 0, 0.0, None),
        ] {
            let now = SystemTime::from(at("2026-11-21T07:00:00Z"));
            let deadline = Deadline::of(now, Ttl::clamped(ttl), None);
            let hours = hours(from, to, "UTC");
            let found = quiet(Some(&hours), &deadline, now, jitter);
            let expected = expected.map_or(Quiet::TooLong, |seconds| {
                Quiet::Until(now + Duration::from_secs(seconds))
            });
            assert_eq!(found, Some(expected), "{from} {to} {ttl} {jitter}");
        }
    }

    #[test]
    fn without_hours_any_time_is_right() {
        let now = SystemTime::UNIX_EPOCH;
        let deadline = Deadline::of(now, Ttl::clamped(60), None);
        assert_eq!(quiet(None, &deadline, now, 0.5), None);
    }

    proptest! {
        #[test]
        fn a_wait_ends_within_the_hours_and_no_sooner_moment_is_within_them(
            from in 0u32..86_400,
            length in 60u32..86_340,
            now in 1_700_000_000i64..1_900_000_000,
            zone in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca",
                "Asia/Kathmandu", "Pacific/Chatham", "America/Santiago",
            ]),
        ) {
            let time = |second: u32| {
                let second = second % 86_400;
                format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
            };
            let hours = hours(&time(from), &time(from + length), zone);
            let now = Timestamp::from_second(now).unwrap();
            let Some(found) = opening(&hours, now) else {
                prop_assert!(hours.contain(now));
                return Ok(());
            };
            let found = timestamp(found).unwrap();
            prop_assert!(now < found && hours.contain(found));
            let mut between = now;
            while between < found {
                prop_assert!(!hours.contain(between), "{between}");
                between += Span::new().seconds(59);
            }
        }
    }
}
