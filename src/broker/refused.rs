//! What the broker refused to take, until it is published again.
//!
//! What can go wrong here: an exchange copies a publication into every queue that is bound for it,
//! and the broker refuses the whole as soon as one of them does (`x-max-length` with
//! `reject-publish`). Each attempt leaves one more copy in the others. So what is refused at one
//! destination waits together: a single publication tries again, after waits that double up to
//! [`LONGEST_WAIT`], and the others follow when it was taken, twice as many each time. What comes
//! new is still published once at once, for the other queues are to have it in time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lapin::types::ShortString;
use tokio::time::Instant;

use crate::backoff::Backoff;

/// The wait before the first attempt to publish again; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// So many publications to one destination are published again at once.
const LARGEST_ROUND: usize = 64;

/// An exchange and a routing key.
pub(super) type Destination = (ShortString, ShortString);

/// The refused publications of a generation, by destination.
pub(super) struct Refused<T>(BTreeMap<Destination, Line<T>>);

/// The publications that one destination refused, in the order of their refusal.
struct Line<T> {
    waiting: VecDeque<T>,
    /// So many of them are published again and not answered.
    in_flight: usize,
    /// Whether one of these was refused again.
    refused_again: bool,
    /// So many are published again in the next round.
    round: usize,
    /// Rounds in a row with a refusal.
    refusals: u32,
    /// When the next round begins.
    next: Instant,
}

impl<T> Default for Refused<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Refused<T> {
    /// Keeps a publication that was refused, `again` if it came from here, and returns how long its
    /// destination is left alone; `jitter` is from 0 to 1.
    pub(super) fn refuse(
        &mut self,
        to: Destination,
        publication: T,
        again: bool,
        now: Instant,
        jitter: f64,
    ) -> Duration {
        let line = self.0.entry(to).or_insert_with(|| Line::new(now, jitter));
        if again {
            line.waiting.push_front(publication);
            line.refused_again = true;
            line.answered(now, jitter);
        } else {
            line.waiting.push_back(publication);
        }
        line.next.saturating_duration_since(now)
    }

    /// Records that a publication was taken, `again` if it came from here.
    pub(super) fn accept(&mut self, to: &Destination, again: bool, now: Instant, jitter: f64) {
        let Some(line) = self.0.get_mut(to) else {
            return;
        };
        if again {
            line.answered(now, jitter);
        } else if line.in_flight == 0 {
            line.next = line.next.min(now);
        }
        if line.waiting.is_empty() && line.in_flight == 0 {
            self.0.remove(to);
        }
    }

    /// Returns when something is published again.
    pub(super) fn next(&self) -> Option<Instant> {
        let lines = self.0.values().filter(|line| line.in_flight == 0);
        lines.map(|line| line.next).min()
    }

    /// Removes and returns the publications that are due for another attempt.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<T> {
        let mut due = Vec::new();
        for line in self.0.values_mut() {
            if line.in_flight == 0 && line.next <= now {
                let round = line.round.min(line.waiting.len());
                line.in_flight = round;
                due.extend(line.waiting.drain(..round));
            }
        }
        due
    }

    /// Returns whether everything was taken.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts the publications that wait, and those that are published again and not answered.
    pub(super) fn len(&self) -> usize {
        let lines = self.0.values();
        lines.map(|line| line.waiting.len() + line.in_flight).sum()
    }
}

impl<T> Line<T> {
    fn new(now: Instant, jitter: f64) -> Self {
        Self {
            waiting: VecDeque::new(),
            in_flight: 0,
            refused_again: false,
            round: 1,
            refusals: 0,
            next: now + wait(0, jitter),
        }
    }

    /// Records an answer of this round, and after the last plans the next.
    fn answered(&mut self, now: Instant, jitter: f64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight > 0 {
            return;
        }
        if std::mem::take(&mut self.refused_again) {
            self.round = 1;
            self.refusals = self.refusals.saturating_add(1);
            self.next = now + wait(self.refusals, jitter);
        } else {
            self.round = (self.round * 2).min(LARGEST_ROUND);
            self.refusals = 0;
            self.next = now;
        }
    }
}

/// How long a destination is left alone after so many rounds with a refusal.
fn wait(refusals: u32, jitter: f64) -> Duration {
    let wait = Backoff::new(FIRST_WAIT, LONGEST_WAIT).wait(refusals);
    wait.mul_f64(0.5 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn to(key: &str) -> Destination {
        ("results".into(), key.into())
    }

    /// Refuses `count` publications, numbered from 0.
    fn refusing(count: usize, now: Instant) -> Refused<usize> {
        let mut refused = Refused::default();
        for number in 0..count {
            refused.refuse(to("a"), number, false, now, 1.0);
        }
        refused
    }

    #[test]
    fn one_publication_tries_again_for_all_that_were_refused_and_waits_longer_each_time() {
        let begun = SystemClock.now().mono;
        let mut refused = refusing(100, begun);
        let mut tries = 0;
        while let Some(next) = refused
            .next()
            .filter(|&at| at < begun + Duration::from_hours(1))
        {
            let due = refused.take_due(next);
            assert_eq!(due, [0]);
            assert_eq!(refused.len(), 100);
            assert_eq!(refused.next(), None, "another would not know more");
            refused.refuse(to("a"), 0, true, next, 1.0);
            tries += 1;
        }
        // 100 ms doubles twelve times up to five minutes, in ten minutes; then twelve an hour.
        assert!((20..26).contains(&tries), "{tries}");
    }

    #[test]
    fn what_was_taken_lets_twice_as_many_follow() {
        let now = SystemClock.now().mono;
        let mut refused = refusing(200, now);
        let mut at = refused.next().unwrap();
        let mut rounds = Vec::new();
        while !refused.is_empty() {
            let due = refused.take_due(at);
            rounds.push(due.len());
            for _ in due {
                refused.accept(&to("a"), true, at, 1.0);
            }
            at = refused.next().unwrap_or(at);
        }
        assert_eq!(rounds, [1, 2, 4, 8, 16, 32, 64, 64, 9]);
        assert_eq!(at, now + FIRST_WAIT);
    }

    #[test]
    fn a_refusal_among_many_makes_it_one_again() {
        let now = SystemClock.now().mono;
        let mut refused = refusing(20, now);
        let at = refused.next().unwrap();
        refused.take_due(at);
        refused.accept(&to("a"), true, at, 1.0);
        let due = refused.take_due(at);
        refused.refuse(to("a"), due[0], true, at, 1.0);
        refused.accept(&to("a"), true, at, 1.0);
        assert_eq!(refused.next(), Some(at + FIRST_WAIT * 2));
        assert_eq!(refused.take_due(at + FIRST_WAIT * 2), [due[0]]);
    }

    #[test]
    fn something_new_that_is_taken_ends_the_wait() {
        let now = SystemClock.now().mono;
        let mut refused = refusing(2, now);
        refused.accept(&to("b"), false, now, 1.0);
        assert!(refused.take_due(now).is_empty());
        refused.accept(&to("a"), false, now, 1.0);
        assert_eq!(refused.take_due(now), [0]);
    }

    #[test]
    fn destinations_wait_for_themselves() {
        let now = SystemClock.now().mono;
        let mut refused = refusing(1, now);
        refused.refuse(to("b"), 7, false, now + LONGEST_WAIT, 1.0);
        assert_eq!(refused.take_due(now + FIRST_WAIT), [0]);
        assert_eq!(refused.next(), Some(now + LONGEST_WAIT + FIRST_WAIT));
    }

    proptest! {
        #[test]
        fn whatever_is_answered_nothing_is_lost(
            answers in prop::collection::vec(any::<bool>(), 0..200),
            count in 1usize..40,
        ) {
            let mut now = SystemClock.now().mono;
            let mut refused = refusing(count, now);
            let mut taken = 0;
            let mut answers = answers.into_iter();
            while let Some(next) = refused.next() {
                now = next;
                for number in refused.take_due(now) {
                    if answers.next().unwrap_or(true) {
                        taken += 1;
                        refused.accept(&to("a"), true, now, 0.5);
                    } else {
                        refused.refuse(to("a"), number, true, now, 0.5);
                    }
                }
                prop_assert_eq!(refused.len() + taken, count);
            }
            prop_assert_eq!(taken, count);
        }
    }
}
