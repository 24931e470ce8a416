//! Whether push services call an unusual ratio of subscriptions gone.
//!
//! Why watch it: subscriptions die a few at a time. A service, or something in front of it, that
//! calls most of them gone at once may be wrong, and applications delete what they are told is
//! gone. Results are published all the same, since the answers are clear; an operator hears of it.
//! The ratio is over the last few hundred answers, so that it follows a campaign. It becomes usual again
//! at a lower ratio than it became unusual, so that it does not flicker.

use crate::origin::Service;
use parking_lot::Mutex;

/// The number of answers that count; older ones count for less and less.
const WINDOW: u32 = 400;

/// The fewest answers that a ratio is judged by.
const LEAST: u32 = 100;

/// The recently settled recipients of one push service.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GoneRatio {
    answers: u32,
    gone: u32,
    is_unusual: bool,
}

impl GoneRatio {
    /// Records one more answer. Returns whether the ratio is unusual, if that changed: it is unusual
    /// above one half, and usual again below one quarter.
    pub(super) fn record(&mut self, gone: bool) -> Option<bool> {
        self.answers += 1;
        self.gone += u32::from(gone);
        if self.answers >= WINDOW {
            self.answers /= 2;
            self.gone /= 2;
        }
        let is_unusual = if self.is_unusual {
            self.gone * 4 >= self.answers
        } else {
            self.answers >= LEAST && self.gone * 2 > self.answers
        };
        (std::mem::replace(&mut self.is_unusual, is_unusual) != is_unusual).then_some(is_unusual)
    }
}

/// The ratio of each family of push services.
#[derive(Debug, Default)]
pub(super) struct GoneRatios(Mutex<[GoneRatio; Service::ALL.len()]>);

impl GoneRatios {
    /// Records one more answer of a service. Returns whether its ratio is unusual, if that changed.
    pub(super) fn record(&self, service: Service, gone: bool) -> Option<bool> {
        let index = Service::ALL.iter().position(|one| *one == service)?;
        let mut ratios = self.0.lock();
        ratios[index].record(gone)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: [bool; 0] = [];

    /// Records `count` answers of which every `nth` is gone; returns the changes.
    fn record(share: &mut GoneRatio, count: u32, nth: u32) -> Vec<bool> {
        (1..=count)
            .filter_map(|n| share.record(n % nth == 0))
            .collect()
    }

    #[test]
    fn it_rises_when_most_are_gone_and_falls_when_few_are() {
        let mut share = GoneRatio::default();
        assert_eq!(record(&mut share, 10_000, 20), NONE, "one of twenty");
        assert_eq!(record(&mut share, 10_000, 2), NONE, "half of them");
        assert_eq!(record(&mut share, 1000, 1), [true], "all of them");
        assert_eq!(record(&mut share, 10_000, 3), NONE, "a third of them");
        assert_eq!(record(&mut share, 10_000, 20), [false]);
    }

    #[test]
    fn a_few_answers_tell_nothing() {
        let mut share = GoneRatio::default();
        assert_eq!(record(&mut share, LEAST - 1, 1), NONE);
        assert_eq!(record(&mut share, 1, 1), [true]);
    }

    proptest! {
        #[test]
        fn no_more_are_gone_than_answered(answers in prop::collection::vec(any::<bool>(), 0..3000)) {
            let mut share = GoneRatio::default();
            for gone in answers {
                share.record(gone);
                prop_assert!(share.gone <= share.answers && share.answers < WINDOW);
            }
        }
    }
}
