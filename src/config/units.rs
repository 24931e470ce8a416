//! Quantities as an operator writes them: `"30s"`, `"64KiB"`, a number in its range.
//!
//! Limits are part of the type, so that a value outside them is a wrong value like any other and
//! the message can say what was expected.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::text::{Written, parsed};

/// One millisecond, in the unit of [`Span`]'s limits.
pub(super) const MILLISECOND: u64 = 1;
/// One second.
pub(super) const SECOND: u64 = 1000;
/// One minute.
pub(super) const MINUTE: u64 = 60 * SECOND;
/// One hour.
pub(super) const HOUR: u64 = 60 * MINUTE;
/// One day.
pub(super) const DAY: u64 = 24 * HOUR;

/// A duration of `MIN` to `MAX` milliseconds, written `"30s"` or `"1h30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, derive_more::Display)]
#[display("{}", duration_text(self.get()))]
pub(super) struct Span<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Span<MIN, MAX> {
    /// Checks a number of milliseconds against the limits.
    pub(super) const fn of(milliseconds: u64) -> Self {
        assert!(MIN <= milliseconds && milliseconds <= MAX);
        Self(milliseconds)
    }

    pub(super) fn get(self) -> Duration {
        Duration::from_millis(self.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let duration = humantime::parse_duration(text).ok()?;
        let milliseconds = u64::try_from(duration.as_millis()).ok()?;
        let whole = Duration::from_millis(milliseconds) == duration;
        (whole && (MIN..=MAX).contains(&milliseconds)).then_some(Self(milliseconds))
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Span<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Span<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [min, max] = [MIN, MAX].map(|limit| duration_text(Duration::from_millis(limit)));
        let expected = format!("a duration from \"{min}\" to \"{max}\"");
        parsed(deserializer, expected, |written| {
            Self::parse(written.text()?)
        })
    }
}

/// Writes a duration as an operator would: `"1m30s"`.
pub(super) fn duration_text(duration: Duration) -> String {
    const UNITS: [(u128, &str); 5] = [
        (DAY as u128, "d"),
        (HOUR as u128, "h"),
        (MINUTE as u128, "m"),
        (SECOND as u128, "s"),
        (MILLISECOND as u128, "ms"),
    ];
    let mut left = duration.as_millis();
    // People say 24h and 36h, and days from two on.
    let from = usize::from(left < 2 * UNITS[0].0);
    let mut text = String::new();
    for (unit, name) in &UNITS[from..] {
        if left >= *unit {
            text += &format!("{}{name}", left / unit);
            left %= unit;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// One kibibyte, in bytes.
pub(super) const KIB: u64 = 1024;
/// One mebibyte.
pub(super) const MIB: u64 = 1024 * KIB;
/// One gibibyte.
pub(super) const GIB: u64 = 1024 * MIB;

/// A size of `MIN` to `MAX` bytes, written `"64KiB"` or as the number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Size<MIN, MAX> {
    /// Checks a number of bytes against the limits.
    pub(super) const fn of(bytes: u64) -> Self {
        assert!(MIN <= bytes && bytes <= MAX);
        Self(bytes)
    }

    pub(super) fn get(self) -> u64 {
        self.0
    }

    pub(super) fn parse(written: Written<'_>) -> Option<Self> {
        let bytes = match written {
            Written::Text(text) => text.parse::<ByteSize>().ok()?.as_u64(),
            Written::Number(bytes) => bytes,
        };
        (MIN..=MAX).contains(&bytes).then_some(Self(bytes))
    }

    /// Returns the size as the length of something in memory.
    pub(super) fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Size<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&size_text(self.0))
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Size<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [min, max] = [MIN, MAX].map(size_text);
        let expected = format!("a size from \"{min}\" to \"{max}\"");
        parsed(deserializer, expected, Self::parse)
    }
}

/// Writes a size as an operator would: in the largest unit that divides it.
pub(super) fn size_text(bytes: u64) -> String {
    [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")]
        .into_iter()
        .find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit))
        .map_or_else(
            || format!("{bytes}B"),
            |(unit, name)| format!("{}{name}", bytes / unit),
        )
}

/// A whole number from 1 to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(super) struct Count<const MAX: u32>(u32);

impl<const MAX: u32> Count<MAX> {
    /// Checks a number against the limits.
    pub(super) const fn of(number: u32) -> Self {
        assert!(1 <= number && number <= MAX);
        Self(number)
    }

    pub(super) fn get(self) -> u32 {
        self.0
    }

    pub(super) fn short(self) -> u16 {
        u16::try_from(self.0).unwrap_or(u16::MAX)
    }

    pub(super) fn size(self) -> usize {
        // No target of this program has a narrower usize; the lint is satisfied either way.
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<'de, const MAX: u32> Deserialize<'de> for Count<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = format!("a whole number from 1 to {MAX}");
        parsed(deserializer, expected, |written| {
            match written {
                Written::Number(number) => u32::try_from(number).ok(),
                Written::Text(_) => None,
            }
            .filter(|number| (1..=MAX).contains(number))
            .map(Self)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    type AnySpan = Span<0, { u64::MAX }>;

    #[test]
    fn durations_are_written_as_people_write_them() {
        for (milliseconds, text) in [
            (0, "0s"),
            (150, "150ms"),
            (1500, "1s500ms"),
            (90 * SECOND, "1m30s"),
            (24 * HOUR, "24h"),
            (36 * HOUR, "36h"),
            (14 * DAY, "14d"),
            (50 * HOUR, "2d2h"),
        ] {
            assert_eq!(AnySpan::of(milliseconds).to_string(), text);
        }
    }

    #[test]
    fn sizes_are_written_in_the_largest_unit_that_divides_them() {
        for (bytes, text) in [
            (0, "0B"),
            (3993, "3993B"),
            (64 * KIB, "64KiB"),
            (1025, "1025B"),
            (4 * MIB, "4MiB"),
            (GIB, "1GiB"),
        ] {
            assert_eq!(size_text(bytes), text);
            assert_eq!(text.parse::<ByteSize>().unwrap().as_u64(), bytes);
        }
    }

    #[test]
    fn a_duration_is_in_whole_milliseconds_and_inside_its_limits() {
        type Narrow = Span<{ 10 * MILLISECOND }, SECOND>;
        for good in ["10ms", "1s", "999ms", "1000 ms"] {
            assert!(Narrow::parse(good).is_some(), "{good}");
        }
        for bad in [
            "9ms",
            "1s1ms",
            "10",
            "",
            "-1s",
            "1.5s",
            "10500us",
            "9999999999999999999h",
        ] {
            assert!(Narrow::parse(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(milliseconds in 0..1000 * DAY) {
            let span = AnySpan::of(milliseconds);
            proptest::prop_assert_eq!(AnySpan::parse(&span.to_string()), Some(span));
        }
    }
}
