//! Those who wait for a place at one origin, in memory, for about a second.
//!
//! Each of them keeps a part of the prefetch window from the other origins. While places come back
//! quickly that is cheaper than the broker; when they do not, it is how one service's trouble becomes
//! everybody's. So how many may wait is felt out as the places are: who waits in vain halves it, who
//! waits and gets a place raises it by a little. Who finds the crowd full goes to the broker at once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::limiter::Limiter;

/// Those who wait for a place.
#[derive(Debug)]
pub(super) struct Crowd(Mutex<Size>);

#[derive(Clone, Copy, Debug)]
struct Size {
    waiting: usize,
    limiter: Limiter,
}

/// One who waits, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    crowd: &'a Crowd,
    since: Instant,
}

impl Crowd {
    /// Lets so many wait until somebody does so in vain.
    pub(super) fn new(most: usize) -> Self {
        Self(Mutex::new(Size {
            waiting: 0,
            limiter: Limiter::new(most, most),
        }))
    }

    /// Joins at `since`, unless the crowd is full.
    pub(super) fn join(&self, since: Instant) -> Option<Waiting<'_>> {
        let mut size = self.lock();
        if size.waiting >= size.limiter.limit() {
            return None;
        }
        size.waiting += 1;
        Some(Waiting { crowd: self, since })
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
        size.limiter.succeeded(waiting);
    }

    /// Says that it waited in vain, until `now`.
    pub(super) fn gave_up(self, now: Instant) {
        self.crowd.lock().limiter.overloaded(self.since, now);
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
    fn waiting_in_vain_halves_the_crowd_once_for_all_who_did_so_together() {
        let (crowd, mut now) = (Crowd::new(100), SystemClock.now().mono);
        for size in [100, 50, 25, 12, 6, 3, 1, 1] {
            let waiting: Vec<_> = std::iter::from_fn(|| crowd.join(now)).collect();
            assert_eq!(waiting.len(), size);
            now += SECOND;
            waiting.into_iter().for_each(|one| one.gave_up(now));
            now += SECOND;
        }
    }

    #[test]
    fn the_crowd_grows_again_with_those_who_get_a_place() {
        let (crowd, now) = (Crowd::new(100), SystemClock.now().mono);
        crowd.join(now).unwrap().gave_up(now + SECOND);
        for _ in 0..20 {
            let waiting: Vec<_> = std::iter::from_fn(|| crowd.join(now)).collect();
            waiting.into_iter().for_each(Waiting::succeeded);
        }
        assert!(room(&crowd, now) > 80);
    }

    #[test]
    fn who_is_gone_has_told_nothing() {
        let (crowd, now) = (Crowd::new(2), SystemClock.now().mono);
        drop((crowd.join(now), crowd.join(now)));
        assert_eq!(room(&crowd, now), 2);
    }
}
