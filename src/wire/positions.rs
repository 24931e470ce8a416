//! Where the recipients of a message stand in the event as it was published.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::event::RECIPIENT_LIMIT;

/// The place of each recipient of a message, so that a fault of one names it as its producer does.
///
/// As text: runs of ascending positions, such as `0-49,60`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positions(Vec<Range<u32>>);

impl Positions {
    /// Creates positions in the order of the message.
    #[must_use]
    pub fn of(positions: impl IntoIterator<Item = u32>) -> Self {
        let mut runs: Vec<Range<u32>> = Vec::new();
        for place in positions {
            match runs.last_mut() {
                Some(run) if run.end == place => run.end += 1,
                _ => runs.push(place..place + 1),
            }
        }
        Self(runs)
    }

    /// Returns the place of the recipient at `index` of the message.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<u32> {
        let mut left = u32::try_from(index).ok()?;
        for run in &self.0 {
            let length = run.end - run.start;
            if left < length {
                return Some(run.start + left);
            }
            left -= length;
        }
        None
    }
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, run) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "," };
            match (run.start, run.end - 1) {
                (first, last) if first == last => write!(f, "{separator}{first}")?,
                (first, last) => write!(f, "{separator}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// The text is not a list of positions that an event can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlaces;

impl FromStr for Positions {
    type Err = NoPlaces;

    fn from_str(text: &str) -> Result<Self, NoPlaces> {
        let limit = u32::try_from(RECIPIENT_LIMIT).unwrap_or(u32::MAX);
        let place = |text: &str| {
            let place: Option<u32> = text.parse().ok();
            place.filter(|place| *place < limit).ok_or(NoPlaces)
        };
        let run = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (place(first)?, place(last)?);
            if first > last {
                return Err(NoPlaces);
            }
            Ok(first..last + 1)
        };
        text.split(',').map(run).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_are_written_as_such() {
        let positions = Positions::of([0, 1, 2, 5, 7, 8]);
        assert_eq!(positions.to_string(), "0-2,5,7-8");
        let found: Vec<_> = (0..7).map(|index| positions.get(index)).collect();
        let expected = [0, 1, 2, 5, 7, 8].map(Some);
        assert_eq!(found[..6], expected);
        assert_eq!(found[6], None);
    }

    #[test]
    fn what_no_event_can_have_is_not_read() {
        for text in ["", "a", "1,", "2-1", "10000", "0-10000", "-1", "1-", "1--2"] {
            assert_eq!(text.parse::<Positions>(), Err(NoPlaces), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(positions in prop::collection::btree_set(0..10_000u32, 1..99)) {
            let written = Positions::of(positions.iter().copied());
            prop_assert_eq!(written.to_string().parse(), Ok(written.clone()));
            for (index, place) in positions.into_iter().enumerate() {
                prop_assert_eq!(written.get(index), Some(place));
            }
        }
    }
}
