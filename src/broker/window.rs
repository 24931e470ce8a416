//! Which deliveries of one channel may be acknowledged, and how.
//!
//! Deliveries are settled in any order, but the cheapest acknowledgement covers all tags up to one.
//! So whatever is settled without a hole before it goes with one multiple acknowledgement. A single
//! slow delivery would hold up everything behind it: once too many are stuck behind a hole they are
//! acknowledged one by one. A multiple acknowledgement may only name a tag that is still open at
//! the broker, else RabbitMQ closes the channel.

use std::collections::BTreeSet;

/// The deliveries of one channel, by delivery tag: 1, 2, 3 and so on.
///
/// It keeps only what is not settled or not acknowledged, which the prefetch bounds.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The highest tag that was settled.
    highest: u64,
    /// The tags below it that are not settled.
    holes: BTreeSet<u64>,
    /// The tags that are settled and not acknowledged, in any order.
    settled: Vec<u64>,
}

/// What to acknowledge now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Everything up to this tag.
    pub(super) up_to: Option<u64>,
    /// Then each of these.
    pub(super) singly: Vec<u64>,
    /// How many deliveries that is.
    pub(super) count: usize,
}

impl Window {
    /// Records that a delivery is settled.
    pub(super) fn settle(&mut self, tag: u64) {
        if tag > self.highest {
            self.holes.extend(self.highest + 1..tag);
            self.highest = tag;
        } else if !self.holes.remove(&tag) {
            return;
        }
        self.settled.push(tag);
    }

    /// Removes and returns the tags to acknowledge, leaving at most `stuck` settled deliveries behind a hole.
    pub(super) fn take_due(&mut self, stuck: usize) -> Due {
        let hole = self.holes.first().copied().unwrap_or(u64::MAX);
        let mut due = Due::default();
        let before = self.settled.len();
        self.settled.retain(|&tag| {
            let free = tag < hole;
            if free {
                due.up_to = due.up_to.max(Some(tag));
            }
            !free
        });
        if self.settled.len() > stuck {
            due.singly = std::mem::take(&mut self.settled);
        }
        due.count = before - self.settled.len();
        due
    }

    /// Returns whether settled deliveries wait behind a hole.
    pub(super) fn is_stuck(&self) -> bool {
        !self.settled.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_no_hole_before_it_goes_with_one_acknowledgement() {
        let mut window = Window::default();
        for tag in [2, 1, 3, 5] {
            window.settle(tag);
        }
        let due = window.take_due(10);
        assert_eq!((due.up_to, due.count), (Some(3), 3));
        assert!(due.singly.is_empty());
        assert!(window.is_stuck());
        window.settle(4);
        assert_eq!(window.take_due(10).up_to, Some(5));
        assert!(!window.is_stuck());
        assert_eq!(window.take_due(0), Due::default());
    }

    #[test]
    fn what_is_stuck_behind_a_slow_one_goes_singly() {
        let mut window = Window::default();
        for tag in 2..=6 {
            window.settle(tag);
        }
        assert_eq!(window.take_due(5), Due::default());
        let due = window.take_due(4);
        assert_eq!(due.up_to, None);
        assert_eq!(due.singly, [2, 3, 4, 5, 6]);
        window.settle(1);
        let due = window.take_due(4);
        assert_eq!(
            due.up_to,
            Some(1),
            "6 is acknowledged already: naming it again closes the channel"
        );
    }

    /// The broker's side: what it would do to the channel.
    struct Broker(BTreeSet<u64>);

    impl Broker {
        fn acknowledge(&mut self, due: &Due, settled: &BTreeSet<u64>) {
            let mut count = 0;
            if let Some(up_to) = due.up_to {
                assert!(self.0.contains(&up_to), "unknown delivery tag {up_to}");
                let covered: Vec<_> = self.0.range(..=up_to).copied().collect();
                for tag in covered {
                    assert!(settled.contains(&tag), "{tag} acknowledged unsettled");
                    count += usize::from(self.0.remove(&tag));
                }
            }
            for tag in &due.singly {
                assert!(settled.contains(tag), "{tag} acknowledged unsettled");
                assert!(self.0.remove(tag), "unknown delivery tag {tag}");
                count += 1;
            }
            assert_eq!(count, due.count);
        }
    }

    proptest! {
        #[test]
        fn any_order_of_settling_acknowledges_each_once_and_nothing_early(
            order in Just((1..=60u64).collect::<Vec<_>>()).prop_shuffle(),
            stuck in prop::collection::vec(0usize..20, 60),
            flush in prop::collection::vec(any::<bool>(), 60),
        ) {
            let mut window = Window::default();
            let mut broker = Broker((1..=60).collect());
            let mut settled = BTreeSet::new();
            for ((tag, stuck), flush) in order.into_iter().zip(stuck).zip(flush) {
                window.settle(tag);
                settled.insert(tag);
                if flush {
                    broker.acknowledge(&window.take_due(stuck), &settled);
                    prop_assert!(window.settled.len() <= stuck);
                }
            }
            broker.acknowledge(&window.take_due(0), &settled);
            prop_assert!(broker.0.is_empty());
            prop_assert!(window.holes.is_empty());
        }
    }
}
