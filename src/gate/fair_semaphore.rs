//! A semaphore whose lanes take turns.
//!
//! Why: a campaign keeps hundreds of recipients waiting for a permit. In one queue with them, a login code
//! would stand at the end and be deferred. So each lane has a queue of its own, and a free permit goes to the
//! queues in turn: at most one waiter of each other lane is served before the first of a lane. No lane is
//! preferred, so none can be starved. Within a lane, a recipient that was deferred more often comes first.
//!
//! A free permit is handed to a waiter, so a later request cannot take it first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::message::Name;

/// A number of permits, and the queues of waiters.
#[derive(Debug)]
pub(super) struct FairSemaphore {
    state: Mutex<State>,
}

/// A permit, which is free again when it is dropped.
#[derive(Debug)]
pub(super) struct FairPermit(Arc<FairSemaphore>);

#[derive(Debug)]
struct State {
    limit: usize,
    /// It exceeds the limit for a while after the limit was lowered.
    taken: usize,
    /// The lanes with waiters; the first is served next.
    lines: VecDeque<Line>,
    arrivals: u64,
}

/// The waiters of one lane, in the order of [`Turn`].
#[derive(Debug)]
struct Line {
    lane: Name,
    waiting: BTreeMap<Turn, oneshot::Sender<FairPermit>>,
}

/// The order of waiters: those that were deferred more often first, then as they came.
type Turn = (Reverse<u32>, u64);

impl FairSemaphore {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let state = State {
            limit,
            taken: 0,
            lines: VecDeque::new(),
            arrivals: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    /// Returns a permit if one is free, which means that there is no waiter.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<FairPermit> {
        let taken = self.state.lock().try_take();
        taken.then(|| FairPermit(Arc::clone(self)))
    }

    /// Waits for a permit in the queue of a lane, before waiters with fewer deferrals. A dropped future
    /// leaves the queue.
    pub(super) async fn take(self: &Arc<Self>, lane: &Name, deferrals: u32) -> FairPermit {
        loop {
            let Some(mut waiting) = self.queue_up(lane, deferrals) else {
                return FairPermit(Arc::clone(self));
            };
            if let Ok(permit) = (&mut waiting.permit).await {
                return permit;
            }
        }
    }

    /// Changes the number of permits to `limit`. Permits that are taken beyond it are not handed on when
    /// they are dropped.
    pub(super) fn resize(self: &Arc<Self>, limit: usize) {
        self.change(|state| state.limit = limit);
    }

    /// Returns the number of free permits.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        let state = self.state.lock();
        state.limit.saturating_sub(state.taken)
    }

    /// Takes a permit, or joins the queue of a lane if none is free.
    fn queue_up(self: &Arc<Self>, lane: &Name, deferrals: u32) -> Option<Waiting> {
        let mut state = self.state.lock();
        if state.try_take() {
            return None;
        }
        let (sender, permit) = oneshot::channel();
        Some(Waiting {
            turn: state.queue_up(lane, deferrals, sender),
            lane: lane.clone(),
            semaphore: Arc::clone(self),
            permit,
        })
    }

    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        let served = {
            let mut state = self.state.lock();
            change(&mut state);
            state.serve()
        };
        for next in served {
            // A waiter that gave up in this very moment frees it again.
            let _gone = next.send(FairPermit(Arc::clone(self)));
        }
    }
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        self.0.change(|state| state.taken -= 1);
    }
}

impl State {
    fn try_take(&mut self) -> bool {
        let free = self.taken < self.limit;
        self.taken += usize::from(free);
        free
    }

    fn queue_up(
        &mut self,
        lane: &Name,
        deferrals: u32,
        sender: oneshot::Sender<FairPermit>,
    ) -> Turn {
        self.arrivals += 1;
        let turn = (Reverse(deferrals), self.arrivals);
        if let Some(line) = self.lines.iter_mut().find(|line| line.lane == *lane) {
            line.waiting.insert(turn, sender);
        } else {
            self.lines.push_back(Line {
                lane: lane.clone(),
                waiting: BTreeMap::from([(turn, sender)]),
            });
        }
        turn
    }

    /// Takes every free permit for the waiters whose turn it is.
    fn serve(&mut self) -> Vec<oneshot::Sender<FairPermit>> {
        let mut served = Vec::new();
        while self.taken < self.limit {
            let Some(next) = self.next() else { break };
            self.taken += 1;
            served.push(next);
        }
        served
    }

    fn next(&mut self) -> Option<oneshot::Sender<FairPermit>> {
        let mut line = self.lines.pop_front()?;
        let (_, next) = line.waiting.pop_first()?;
        if !line.waiting.is_empty() {
            self.lines.push_back(line);
        }
        Some(next)
    }

    fn leave(&mut self, lane: &Name, turn: Turn) {
        for line in self.lines.iter_mut().filter(|line| line.lane == *lane) {
            line.waiting.remove(&turn);
        }
        self.lines.retain(|line| !line.waiting.is_empty());
    }
}

/// A waiter in a queue.
struct Waiting {
    semaphore: Arc<FairSemaphore>,
    lane: Name,
    turn: Turn,
    permit: oneshot::Receiver<FairPermit>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.semaphore.state.lock().leave(&self.lane, self.turn);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::future::{BoxFuture, FutureExt};
    use proptest::prelude::*;

    use super::*;

    /// Joins the queue of a lane.
    fn wait(semaphore: &Arc<FairSemaphore>, lane: &str) -> BoxFuture<'static, FairPermit> {
        wait_after(semaphore, lane, 0)
    }

    /// The same for a recipient that was deferred before.
    fn wait_after(
        semaphore: &Arc<FairSemaphore>,
        lane: &str,
        deferrals: u32,
    ) -> BoxFuture<'static, FairPermit> {
        let (semaphore, lane) = (Arc::clone(semaphore), Name::parse(lane).unwrap());
        let mut waiting = async move { semaphore.take(&lane, deferrals).await }.boxed();
        assert!(taken(&mut waiting).is_none(), "there is a permit");
        waiting
    }

    fn taken(waiting: &mut BoxFuture<'static, FairPermit>) -> Option<FairPermit> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match waiting.poll_unpin(&mut context) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    #[test]
    fn at_most_one_of_each_other_lane_goes_first() {
        let semaphore = FairSemaphore::new(1);
        let mut held = semaphore.try_take().unwrap();
        let lanes = ["bulk", "bulk", "bulk", "due", "high", "bulk", "high"];
        let mut line: Vec<_> = lanes.map(|lane| (lane, wait(&semaphore, lane))).into();
        let mut order = Vec::new();
        while !line.is_empty() {
            drop(held);
            let mut served = line
                .iter_mut()
                .enumerate()
                .filter_map(|(n, (lane, it))| Some((n, *lane, taken(it)?)));
            let (n, lane, permit) = served.next().unwrap();
            assert!(served.next().is_none(), "one permit, one is served");
            drop(served);
            (held, _) = (permit, line.remove(n));
            order.push(lane);
        }
        assert_eq!(
            order,
            ["bulk", "due", "high", "bulk", "high", "bulk", "bulk"]
        );
    }

    #[test]
    fn what_was_deferred_more_often_comes_first() {
        let semaphore = FairSemaphore::new(1);
        let mut held = semaphore.try_take().unwrap();
        let mut line: Vec<_> = [0, 2, 1, 2]
            .map(|deferrals| wait_after(&semaphore, "bulk", deferrals))
            .into();
        let mut order = Vec::new();
        while order.len() < line.len() {
            drop(held);
            let served = line
                .iter_mut()
                .enumerate()
                .filter(|(n, _)| !order.contains(n));
            let (n, permit) = served
                .filter_map(|(n, it)| Some((n, taken(it)?)))
                .next()
                .unwrap();
            held = permit;
            order.push(n);
        }
        assert_eq!(order, [1, 3, 2, 0]);
    }

    #[test]
    fn a_dropped_waiter_leaves_the_queue_and_returns_its_permit() {
        let semaphore = FairSemaphore::new(1);
        let held = semaphore.try_take().unwrap();
        let (first, second) = (wait(&semaphore, "bulk"), wait(&semaphore, "bulk"));
        let mut third = wait(&semaphore, "bulk");
        drop(first);
        drop(held);
        // The permit belongs to the second one, which has not polled yet.
        assert!(semaphore.try_take().is_none());
        drop(second);
        assert!(taken(&mut third).is_some());
        assert_eq!(semaphore.free(), 1);
        assert!(semaphore.state.lock().lines.is_empty());
    }

    #[test]
    fn waiters_are_served_when_the_limit_rises() {
        let semaphore = FairSemaphore::new(0);
        let mut waiting: Vec<_> = (0..3).map(|_| wait(&semaphore, "bulk")).collect();
        semaphore.resize(2);
        let served: Vec<_> = waiting.iter_mut().filter_map(taken).collect();
        assert_eq!(served.len(), 2);
        semaphore.resize(1);
        drop(served);
        assert!(taken(&mut waiting[2]).is_some());
        assert_eq!(semaphore.free(), 1);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Wait(usize),
        Free(usize),
        GiveUp(usize),
        Resize(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..3usize).prop_map(Step::Wait),
            4 => (0..9usize).prop_map(Step::Free),
            1 => (0..9usize).prop_map(Step::GiveUp),
            1 => (0..5usize).prop_map(Step::Resize),
        ]
    }

    proptest! {
        #[test]
        fn no_permit_is_lost_and_none_is_idle_while_there_are_waiters(
            steps in prop::collection::vec(step(), 0..100),
        ) {
            let semaphore = FairSemaphore::new(2);
            let (mut held, mut line): (Vec<FairPermit>, Vec<_>) = (Vec::new(), Vec::new());
            let mut limit = 2;
            for step in steps {
                match step {
                    Step::Wait(lane) => {
                        let lane = Name::parse(["a", "b", "c"][lane]).unwrap();
                        let semaphore = Arc::clone(&semaphore);
                        line.push(async move { semaphore.take(&lane, 0).await }.boxed());
                    }
                    Step::Free(n) if n < held.len() => drop(held.swap_remove(n)),
                    Step::GiveUp(n) if n < line.len() => drop(line.swap_remove(n)),
                    Step::Resize(to) => {
                        limit = to;
                        semaphore.resize(to);
                    }
                    Step::Free(_) | Step::GiveUp(_) => {}
                }
                let before = held.len();
                line.retain_mut(|it| {
                    let permit = taken(it);
                    let waits = permit.is_none();
                    held.extend(permit);
                    waits
                });
                prop_assert!(held.len() <= limit.max(before));
                prop_assert!(line.is_empty() || held.len() >= limit);
                prop_assert_eq!(semaphore.free(), limit.saturating_sub(held.len()));
            }
        }
    }
}
