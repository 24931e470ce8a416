//! How many recipients wait for a permit in memory, for about a second.
//!
//! Each waiter uses a part of the prefetch window that other origins need. While permits become free
//! quickly, waiting is cheaper than a trip through the broker. When they do not, the slow service would slow
//! down the others. So few may wait at first, and more as they get permits. A waiter that waits in vain
//! lowers the limit to half of the number of waiters that got a permit meanwhile, which is how many would
//! have waited half as long. A waiter that gets a permit raises the limit by one. A recipient beyond the
//! limit goes to the broker at once.
//!
//! Each lane has a limit of its own, as it has a prefetch window of its own: a waiting campaign leaves a
//! login code its share. Within a lane, a recipient may use more of the limit the more often it was deferred
//! in a row ([`QueuePosition`]), so that none is deferred for ever.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::message::Name;

use super::limiter::Limiter;

/// The waiters of every configured lane.
#[derive(Debug)]
pub(super) struct Waiters(Mutex<Lanes>);

#[derive(Debug)]
struct Lanes {
    start: usize,
    most: usize,
    by_name: HashMap<Name, Arc<LaneWaiters>>,
}

/// Which share of the limit a recipient may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueuePosition {
    /// Half: it was not deferred before, and others are about to come back.
    Behind,
    /// All of it.
    Equal,
    /// Half as much again: it was deferred twice or more.
    Ahead,
}

impl Waiters {
    /// Creates limits of `start` waiters of each lane, which never grow beyond `most`.
    pub(super) fn new(start: usize, most: usize) -> Self {
        Self(Mutex::new(Lanes {
            start,
            most,
            by_name: HashMap::new(),
        }))
    }

    /// Changes the limits to what [`Waiters::new`] takes. A limit that was learned stays within them.
    pub(super) fn resize(&self, start: usize, most: usize) {
        let mut lanes = self.0.lock();
        (lanes.start, lanes.most) = (start, most);
        let waiters = lanes.by_name.values();
        waiters.for_each(|waiters| waiters.0.lock().limiter.set_most(most));
    }

    /// Returns the waiters of a lane.
    pub(super) fn of(&self, lane: &Name) -> Arc<LaneWaiters> {
        let mut lanes = self.0.lock();
        let (start, most) = (lanes.start, lanes.most);
        let waiters = lanes
            .by_name
            .entry(lane.clone())
            .or_insert_with(|| Arc::new(LaneWaiters::new(start, most)));
        Arc::clone(waiters)
    }

    /// Raises every limit to the maximum: the origin was down and has recovered, so its messages come
    /// back, and permits will be free soon.
    pub(super) fn allow_most(&self) {
        let lanes = self.0.lock();
        let waiters = lanes.by_name.values();
        waiters.for_each(|waiters| waiters.allow_most());
    }
}

/// The waiters of one lane.
#[derive(Debug)]
pub(super) struct LaneWaiters(Mutex<Size>);

#[derive(Clone, Copy, Debug)]
struct Size {
    waiting: usize,
    limiter: Limiter,
    /// How many have got a permit so far.
    served: usize,
}

/// One waiter, until this is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    waiters: Arc<LaneWaiters>,
    since: Instant,
    served_before: usize,
}

impl QueuePosition {
    fn of_limit(self, limit: usize) -> usize {
        match self {
            Self::Behind => limit.div_ceil(2),
            Self::Equal => limit,
            Self::Ahead => limit + limit.div_ceil(2),
        }
    }
}

impl LaneWaiters {
    fn new(start: usize, most: usize) -> Self {
        Self(Mutex::new(Size {
            waiting: 0,
            limiter: Limiter::new(start, most),
            served: 0,
        }))
    }

    fn allow_most(&self) {
        self.0.lock().limiter.let_go();
    }

    /// Begins to wait at `since`, unless the limit is reached.
    pub(super) fn join(
        self: &Arc<Self>,
        position: QueuePosition,
        since: Instant,
    ) -> Option<Waiting> {
        let mut size = self.0.lock();
        if size.waiting >= position.of_limit(size.limiter.limit()) {
            return None;
        }
        size.waiting += 1;
        Some(Waiting {
            waiters: Arc::clone(self),
            since,
            served_before: size.served,
        })
    }
}

impl Waiting {
    /// Records that it got a permit.
    pub(super) fn succeeded(self) {
        let mut size = self.waiters.0.lock();
        let waiting = size.waiting;
        size.served += 1;
        size.limiter.succeeded(waiting);
    }

    /// Records that it waited in vain, until `now`.
    pub(super) fn gave_up(self, now: Instant) {
        let mut size = self.waiters.0.lock();
        let served = size.served - self.served_before;
        size.limiter.lower_to(served / 2, self.since, now);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut size = self.waiters.0.lock();
        size.waiting = size.waiting.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    const SECOND: Duration = Duration::from_secs(1);

    fn waiters(count: usize) -> Arc<LaneWaiters> {
        Arc::new(LaneWaiters::new(count, count))
    }

    fn join(waiters: &Arc<LaneWaiters>, now: Instant) -> Option<Waiting> {
        waiters.join(QueuePosition::Equal, now)
    }

    /// How many may wait at a time.
    fn room(waiters: &Arc<LaneWaiters>, now: Instant) -> usize {
        let waiting: Vec<_> = std::iter::from_fn(|| join(waiters, now)).collect();
        waiting.len()
    }

    #[test]
    fn a_wait_in_vain_lowers_the_limit_to_half_of_those_that_were_not() {
        for (served, left) in [(0, 1), (1, 1), (9, 4), (60, 30), (600, 100)] {
            let (waiters, now) = (waiters(100), SystemClock.now().mono);
            let in_vain: Vec<_> = (0..50).map(|_| join(&waiters, now).unwrap()).collect();
            (0..served).for_each(|_| join(&waiters, now).unwrap().succeeded());
            let later = now + SECOND;
            in_vain.into_iter().for_each(|one| one.gave_up(later));
            assert_eq!(room(&waiters, later), left, "{served} served");
        }
    }

    #[test]
    fn the_limit_grows_again_with_those_that_get_a_permit() {
        let (waiters, now) = (waiters(100), SystemClock.now().mono);
        join(&waiters, now).unwrap().gave_up(now + SECOND);
        assert_eq!(room(&waiters, now), 1);
        for _ in 0..20 {
            let waiting: Vec<_> = std::iter::from_fn(|| join(&waiters, now)).collect();
            waiting.into_iter().for_each(Waiting::succeeded);
        }
        assert_eq!(room(&waiters, now), 100);
        join(&waiters, now + SECOND * 2)
            .unwrap()
            .gave_up(now + SECOND * 3);
        waiters.allow_most();
        assert_eq!(room(&waiters, now), 100, "the origin has recovered");
    }

    #[test]
    fn a_dropped_waiter_leaves_its_room_and_no_trace() {
        let (waiters, now) = (waiters(2), SystemClock.now().mono);
        drop((join(&waiters, now), join(&waiters, now)));
        assert_eq!(room(&waiters, now), 2);
    }

    #[test]
    fn there_is_more_room_the_more_often_one_was_deferred() {
        let (waiters, now) = (waiters(10), SystemClock.now().mono);
        let mut all = Vec::new();
        for (position, more) in [
            (QueuePosition::Behind, 5),
            (QueuePosition::Equal, 5),
            (QueuePosition::Ahead, 5),
        ] {
            let waiting: Vec<_> = std::iter::from_fn(|| waiters.join(position, now)).collect();
            assert_eq!(waiting.len(), more, "{position:?}");
            all.push(waiting);
        }
    }
}
