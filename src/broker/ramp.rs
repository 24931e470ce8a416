//! How the prefetch of a queue grows after a start, and follows the size of its messages.
//!
//! A message can end the connection when it is delivered, or the process while it is handled. Then
//! every delivery that is in hand at that moment loses one of its attempts, and the queue returns
//! all of them. So every queue begins with one message, after a start of the process as well as
//! after a reconnect, and doubles its prefetch when what it was given did no harm:
//!
//! * A message that was never delivered before has all its attempts left. A whole prefetch of such
//!   messages doubles it at once. A first start therefore costs some round trips to the broker.
//! * A message that was delivered before was in hand when something ended. It did no harm when it
//!   is acknowledged, or when it has been in hand for [`SURVIVAL`]: parsing, decoding and planning
//!   are done by then, and what is left to wait for is mostly a slow push service. Waiting for the
//!   acknowledgement would let the slowest push hold up its queue after each reconnect.
//! * A message can kill later than that, when its push is answered. The broker counts deliveries, so
//!   such a message shows: once it has used up half of its attempts it is a suspect. A suspect is
//!   kept alone until it is acknowledged (for at most [`SUSPICION`]), and the prefetch does not grow
//!   by it, because the next one may be a suspect as well. Whatever was in hand beside it so far
//!   still has the other half of its attempts.
//!
//! A queue gives out what was returned to it before everything else, so these messages are met
//! while the prefetch is small.
//!
//! The prefetch is also kept so low that messages of the mean size fill the budget for bytes
//! ([`budget`]). That budget alone bounds what is in hand; but what the broker has sent and nobody
//! reads is in the way of other daemons that could handle it.
//!
//! [`budget`]: super::budget

use std::time::Duration;

use tokio::time::Instant;

/// A message that did not end anything for so long is taken for harmless.
///
/// An event of the largest size is decoded and planned in a tenth of it.
pub(super) const SURVIVAL: Duration = Duration::from_millis(150);

/// A suspect is waited for no longer than this: three times the longest push.
pub(super) const SUSPICION: Duration = Duration::from_secs(60);

/// So many messages make the mean of their sizes.
const MEAN_OF: i64 = 64;

/// The prefetch of one queue.
#[derive(Debug)]
pub(super) struct Ramp {
    prefetch: u16,
    limit: u16,
    /// How many bytes may be in hand, and the mean size of a message.
    bytes: u64,
    mean_size: Option<u64>,
    /// A message that was delivered so often before is a suspect.
    suspect_from: u64,
    /// How many messages were delivered.
    delivered: u64,
    step: Step,
}

/// What happened since the prefetch grew last.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    /// How many messages were delivered and acknowledged before it.
    delivered: u64,
    acknowledged: u64,
    /// When every message that was delivered before has been in hand for long enough.
    survived: Option<Instant>,
    has_suspect: bool,
}

impl Ramp {
    /// Begins with a prefetch of one, which grows to `limit` if that many messages have no more than
    /// `bytes`; the broker delivers a message `delivery_limit` times before it gives up on it.
    pub(super) fn new(limit: u16, delivery_limit: u32, bytes: u64) -> Self {
        Self {
            prefetch: 1,
            limit,
            bytes,
            mean_size: None,
            suspect_from: u64::from(delivery_limit / 2).max(1),
            delivered: 0,
            step: Step::default(),
        }
    }

    /// Returns the present prefetch.
    pub(super) fn prefetch(&self) -> u16 {
        self.prefetch
    }

    /// Returns whether the prefetch may become larger.
    pub(super) fn can_grow(&self) -> bool {
        let fitting = self.fitting();
        let doubled = self.prefetch.saturating_mul(2);
        self.prefetch < fitting && (doubled <= fitting || fitting == self.limit)
    }

    /// Returns how many messages of the mean size may be in hand.
    fn fitting(&self) -> u16 {
        let fitting = self.bytes / self.mean_size.unwrap_or_default().max(1);
        let fitting = u16::try_from(fitting).unwrap_or(u16::MAX);
        fitting.clamp(1, self.limit.max(1))
    }

    /// Lowers the prefetch if it is twice too large for the size of the messages, and returns
    /// it then.
    pub(super) fn shrink(&mut self) -> Option<u16> {
        let fitting = self.fitting();
        if self.prefetch < fitting.saturating_mul(2) {
            return None;
        }
        self.prefetch = fitting;
        Some(fitting)
    }

    /// Records a message of so many bytes.
    pub(super) fn deliver(&mut self, size: usize) {
        self.delivered += 1;
        let size = size as u64;
        let mean = self.mean_size.unwrap_or(size);
        let change = (size.cast_signed() - mean.cast_signed()) / MEAN_OF;
        self.mean_size = Some(mean.saturating_add_signed(change));
    }

    /// Records that the message was delivered `before` times.
    pub(super) fn note_redelivery(&mut self, before: u64, now: Instant) {
        let is_suspect = before >= self.suspect_from;
        let wait = if is_suspect { SUSPICION } else { SURVIVAL };
        self.step.survived = self.step.survived.max(Some(now + wait));
        self.step.has_suspect |= is_suspect;
    }

    /// Returns whether the messages since the last growth did no harm; `acknowledged` counts all that
    /// were acknowledged so far.
    pub(super) fn is_harmless(&self, acknowledged: u64, now: Instant) -> bool {
        let step = &self.step;
        let delivered = self.delivered - step.delivered;
        if delivered == 0 {
            return false;
        }
        let in_time = match step.survived {
            Some(survived) => now >= survived,
            None => delivered >= u64::from(self.prefetch),
        };
        let acknowledged = if step.has_suspect {
            acknowledged >= self.delivered
        } else {
            acknowledged >= step.acknowledged + u64::from(self.prefetch)
        };
        in_time || acknowledged
    }

    /// Returns whether a suspect is among the messages since the last growth.
    pub(super) fn has_suspect(&self) -> bool {
        self.step.has_suspect
    }

    /// Returns when time alone makes [`Self::is_harmless`] true.
    pub(super) fn harmless_at(&self) -> Option<Instant> {
        self.step.survived
    }

    /// Goes on to the next step, and returns the prefetch if it grew.
    pub(super) fn advance(&mut self, acknowledged: u64) -> Option<u16> {
        let had_suspect = self.step.has_suspect;
        self.step = Step {
            delivered: self.delivered,
            acknowledged,
            ..Step::default()
        };
        if had_suspect || !self.can_grow() {
            return None;
        }
        self.prefetch = self.prefetch.saturating_mul(2).min(self.fitting());
        Some(self.prefetch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    const MOMENT: Duration = Duration::from_millis(1);

    fn now() -> Instant {
        SystemClock.now().mono
    }

    fn ramp(delivery_limit: u32) -> Ramp {
        Ramp::new(500, delivery_limit, 1 << 20)
    }

    /// Delivers a message for the second time or more.
    fn redeliver(ramp: &mut Ramp, before: u64, now: Instant) {
        ramp.deliver(100);
        ramp.note_redelivery(before, now);
    }

    /// Delivers so many messages for the first time, and lets the prefetch follow.
    fn deliver_all(ramp: &mut Ramp, sizes: impl IntoIterator<Item = usize>) -> Vec<u16> {
        let now = now();
        let mut prefetches = vec![ramp.prefetch()];
        for size in sizes {
            ramp.deliver(size);
            prefetches.extend(ramp.shrink());
            while ramp.can_grow() && ramp.is_harmless(0, now) {
                prefetches.extend(ramp.advance(0));
            }
        }
        prefetches
    }

    #[test]
    fn first_deliveries_double_the_prefetch_without_waiting() {
        let mut ramp = ramp(20);
        assert!(!ramp.is_harmless(0, now()), "nothing was delivered");
        let prefetches = deliver_all(&mut ramp, [100; 511]);
        assert_eq!(prefetches, [1, 2, 4, 8, 16, 32, 64, 128, 256, 500]);
        assert!(!ramp.can_grow());
    }

    #[test]
    fn a_part_of_a_prefetch_of_first_deliveries_proves_nothing() {
        let now = now();
        let mut ramp = ramp(20);
        ramp.deliver(100);
        assert_eq!(ramp.advance(0), Some(2));
        ramp.deliver(100);
        assert!(!ramp.is_harmless(0, now));
        assert_eq!(ramp.harmless_at(), None, "time does not help");
        ramp.deliver(100);
        assert!(ramp.is_harmless(0, now));
    }

    #[test]
    fn what_was_delivered_before_must_survive_or_be_acknowledged() {
        let now = now();
        let mut ramp = ramp(20);
        redeliver(&mut ramp, 1, now);
        assert!(!ramp.is_harmless(0, now + SURVIVAL - MOMENT));
        assert_eq!(ramp.harmless_at(), Some(now + SURVIVAL));
        assert!(ramp.is_harmless(0, now + SURVIVAL));
        assert!(ramp.is_harmless(1, now), "acknowledged at once");
        assert_eq!(ramp.advance(0), Some(2));
        // The clock begins again with each of them.
        redeliver(&mut ramp, 1, now);
        redeliver(&mut ramp, 1, now + 100 * MOMENT);
        assert!(!ramp.is_harmless(1, now + SURVIVAL));
        assert!(ramp.is_harmless(1, now + 100 * MOMENT + SURVIVAL));
        assert!(ramp.is_harmless(2, now));
    }

    #[test]
    fn what_used_up_half_of_its_attempts_is_alone_until_it_is_acknowledged() {
        let now = now();
        let mut ramp = ramp(20);
        for before in [10, 11] {
            redeliver(&mut ramp, before, now);
            let settled = ramp.delivered - 1;
            assert!(!ramp.is_harmless(settled, now + 100 * SURVIVAL));
            assert!(ramp.is_harmless(settled, now + SUSPICION));
            assert!(ramp.is_harmless(settled + 1, now));
            assert_eq!(ramp.advance(settled + 1), None, "the next may be one, too");
        }
        redeliver(&mut ramp, 9, now);
        assert!(ramp.is_harmless(2, now + SURVIVAL));
        assert_eq!(ramp.advance(2), Some(2));
    }

    #[test]
    fn with_few_attempts_everything_that_comes_again_is_suspect() {
        for limit in [1, 2, 3] {
            let now = now();
            let mut ramp = ramp(limit);
            redeliver(&mut ramp, 1, now);
            assert!(!ramp.is_harmless(0, now + SURVIVAL));
        }
    }

    #[test]
    fn large_messages_are_taken_one_at_a_time_from_the_first_on() {
        let mut ramp = ramp(20);
        assert_eq!(deliver_all(&mut ramp, [4 << 20; 50]), [1]);
    }

    #[test]
    fn the_prefetch_follows_the_size_of_the_messages_down_and_up_again() {
        let mut ramp = ramp(20);
        deliver_all(&mut ramp, [1000; 600]);
        assert_eq!(ramp.prefetch(), 500);
        let down = deliver_all(&mut ramp, [4 << 20; 30]);
        assert_eq!(down, [500, 15, 5, 2, 1], "the first counts most");
        let up = deliver_all(&mut ramp, [1000; 1500]);
        assert_eq!(up.last(), Some(&500));
    }

    #[test]
    fn a_few_large_messages_among_many_small_ones_change_little() {
        let mut ramp = ramp(20);
        let sizes = (0..3000).map(|n| if n % 100 == 0 { 20_000 } else { 1000 });
        let prefetches = deliver_all(&mut ramp, sizes);
        assert_eq!(prefetches.len(), 10, "{prefetches:?}");
    }
}
