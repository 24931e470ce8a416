//! Those who wait for a place at one origin, in memory, for about a second.
//!
//! Each of them keeps a part of the prefetch window from the other origins. While places come back
//! quickly that is cheaper than the broker; when they do not, it is how one service's trouble becomes
//! everybody's. So few may wait at first, and more as they get places: an origin that is always busy
//! has its crowd, one that stalls out of the blue has none. Who waits in vain leaves room for half
//! as many as got a place meanwhile, which is how many would have waited for half as long; who waits
//! and gets one adds one. Who finds the crowd full goes to the broker at once.
//!
//! Each lane has a crowd of its own, as it has a prefetch window of its own: a campaign that waits
//! leaves a login code its room.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::message::Name;

use super::limiter::Limiter;

/// The crowds of the lanes; there are as many as the configuration has lanes.
#[derive(Debug)]
pub(super) struct Crowds {
    start: usize,
    most: usize,
    lanes: Mutex<Vec<(Name, Arc<Crowd>)>>,
}

impl Crowds {
    /// Lets `start` of each lane wait at first, and never more than `most`.
    pub(super) fn new(start: usize, most: usize) -> Self {
        Self {
            start,
            most,
            lanes: Mutex::default(),
        }
    }

    /// Returns the crowd of a lane.
    pub(super) fn of(&self, lane: &Name) -> Arc<Crowd> {
        let mut lanes = self.lock();
        if let Some((_, crowd)) = lanes.iter().find(|(name, _)| name == lane) {
            return Arc::clone(crowd);
        }
        let crowd = Arc::new(Crowd::new(self.start, self.most));
        lanes.push((lane.clone(), Arc::clone(&crowd)));
        crowd
    }

    /// Lets everybody wait: the origin was down and is well again, so what waited for it comes, and
    /// places come back quickly.
    pub(super) fn let_go(&self) {
        let lanes = self.lock();
        lanes.iter().for_each(|(_, crowd)| crowd.let_go());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Name, Arc<Crowd>)>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those of one lane who wait for a place.
#[derive(Debug)]
pub(super) struct Crowd(Mutex<Size>);

#[derive(Clone, Copy, Debug)]
struct Size {
    waiting: usize,
    limiter: Limiter,
    /// How many have got a place so far.
    served: usize,
}

/// One who waits, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    crowd: &'a Crowd,
    since: Instant,
    served_before: usize,
}

impl Crowd {
    /// Lets `start` wait at first, and never more than `most`.
    pub(super) fn new(start: usize, most: usize) -> Self {
        Self(Mutex::new(Size {
            waiting: 0,
            limiter: Limiter::new(start, most),
            served: 0,
        }))
    }

    fn let_go(&self) {
        self.lock().limiter.let_go();
    }

    /// Joins at `since`, unless the crowd is full.
    pub(super) fn join(&self, since: Instant) -> Option<Waiting<'_>> {
        let mut size = self.lock();
        if size.waiting >= size.limiter.limit() {
            return None;
        }
        size.waiting += 1;
        Some(Waiting {
            crowd: self,
            since,
            served_before: size.served,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Size> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// Says that it got a place.
    pub(super) fn succeeded(self) {
        let mut size = self.crowd.lock();
        let waiting = size.waiting;
        size.served += 1;
        size.limiter.succeeded(waiting);
    }

    /// Says that it waited in vain, until `now`.
    pub(super) fn gave_up(self, now: Instant) {
        let mut size = self.crowd.lock();
        let served = size.served - self.served_before;
        size.limiter.bears(served / 2, self.since, now);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut size = self.crowd.lock();
        size.waiting = size.waiting.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    const SECOND: Duration = Duration::from_secs(1);

    /// How many may wait at a time.
    fn room(crowd: &Crowd, now: Instant) -> usize {
        let waiting: Vec<_> = std::iter::from_fn(|| crowd.join(now)).collect();
        waiting.len()
    }

    #[test]
    fn who_waits_in_vain_leaves_room_for_half_of_those_who_did_not() {
        for (served, left) in [(0, 1), (1, 1), (9, 4), (60, 30), (600, 100)] {
            let (crowd, now) = (Crowd::new(100, 100), SystemClock.now().mono);
            let in_vain: Vec<_> = (0..50).map(|_| crowd.join(now).unwrap()).collect();
            (0..served).for_each(|_| crowd.join(now).unwrap().succeeded());
            let later = now + SECOND;
            in_vain.into_iter().for_each(|one| one.gave_up(later));
            assert_eq!(room(&crowd, later), left, "{served} served");
        }
    }

    #[test]
    fn the_crowd_grows_again_with_those_who_get_a_place() {
        let (crowd, now) = (Crowd::new(100, 100), SystemClock.now().mono);
        crowd.join(now).unwrap().gave_up(now + SECOND);
        assert_eq!(room(&crowd, now), 1);
        for _ in 0..20 {
            let waiting: Vec<_> = std::iter::from_fn(|| crowd.join(now)).collect();
            waiting.into_iter().for_each(Waiting::succeeded);
        }
        assert_eq!(room(&crowd, now), 100);
        crowd
            .join(now + SECOND * 2)
            .unwrap()
            .gave_up(now + SECOND * 3);
        crowd.let_go();
        assert_eq!(room(&crowd, now), 100, "it is well again");
    }

    #[test]
    fn who_is_gone_has_told_nothing() {
        let (crowd, now) = (Crowd::new(2, 2), SystemClock.now().mono);
        drop((crowd.join(now), crowd.join(now)));
        assert_eq!(room(&crowd, now), 2);
    }
}
