//! One request at a time to a subscription, where the push service needs it.
//!
//! Mozilla's autopush stores messages for a browser that is offline under the user, the
//! subscription and the millisecond. Of two messages without a topic that it takes in the same
//! millisecond, both answered with 201, the later replaces the earlier (autopush-rs,
//! `autopush-common/src/notification.rs`, `chidmessageid`). So requests to one subscription there
//! follow each other, [`SPACING`] apart. Other subscriptions and other push services are not
//! affected. Other daemons are not coordinated: two daemons that push to one subscription in the same
//! millisecond can lose a message.
//!
//! A waiter holds no permit of the gate, and a subscription has at most [`WAITERS`] of them, so a
//! subscription whose requests hang does not hold up others.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::keyed_semaphore::{KeyPermit, KeyedSemaphore};
use crate::origin::Service;
use crate::subscription::Fingerprint;

/// How long after an answer the next request to the same subscription may begin.
const SPACING: Duration = Duration::from_millis(5);

/// The longest wait for a turn; what must wait longer waits in the broker.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many requests may wait for the turn of one subscription: about as many as are answered
/// within [`PATIENCE`].
const WAITERS: usize = 16;

/// The subscriptions that have a request under way, or had one within the last [`SPACING`].
#[derive(Debug)]
pub(super) struct EndpointTurns(KeyedSemaphore<Fingerprint>);

/// The right to make requests to a subscription; dropping it passes the turn on at once.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: KeyPermit<Fingerprint>,
}

/// Returns whether messages to one subscription of `service` must follow each other.
#[must_use]
pub(super) fn are_needed(service: Service) -> bool {
    service == Service::Mozilla
}

impl Default for EndpointTurns {
    fn default() -> Self {
        Self(KeyedSemaphore::new(1, WAITERS))
    }
}

impl EndpointTurns {
    /// Waits for the turn of a subscription, in the order of the calls. Returns `None` if it does not
    /// come within a second, or if too many requests wait for it already.
    pub(super) async fn take(&self, subscription: Fingerprint) -> Option<Turn> {
        let turn = timeout(PATIENCE, self.0.acquire(subscription)).await;
        turn.ok().flatten().map(|permit| Turn { _permit: permit })
    }
}

impl Turn {
    /// Passes the turn on once the push service's clock shows another millisecond.
    pub(super) fn end(self) {
        tokio::spawn(async move {
            sleep(SPACING).await;
            drop(self);
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn subscription(n: u64) -> Fingerprint {
        Fingerprint::of(&n.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn requests_to_one_subscription_follow_each_other_with_a_gap() {
        let turns = EndpointTurns::default();
        let request = async |answered_after: u64| {
            let turn = turns.take(subscription(1)).await.unwrap();
            let began = SystemClock.now().mono;
            sleep(Duration::from_millis(answered_after)).await;
            turn.end();
            (began, SystemClock.now().mono)
        };
        let times = join_all([20, 0, 3].map(request)).await;
        for pair in times.windows(2) {
            let gap = pair[1].0 - pair[0].1;
            assert!(gap >= SPACING && gap < 2 * SPACING, "{gap:?}");
        }
        assert_eq!(turns.0.in_use(), 1);
        sleep(2 * SPACING).await;
        assert_eq!(turns.0.in_use(), 0, "nothing is remembered for longer");
    }

    #[tokio::test(start_paused = true)]
    async fn other_subscriptions_do_not_wait() {
        let turns = EndpointTurns::default();
        let began = SystemClock.now().mono;
        let taken = join_all((0..1000).map(|n| turns.take(subscription(n)))).await;
        assert!(taken.iter().all(Option::is_some));
        assert_eq!(SystemClock.now().mono, began);
        drop(taken);
        assert_eq!(turns.0.in_use(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_end_has_few_waiters_and_none_for_long() {
        let turns = EndpointTurns::default();
        let began = SystemClock.now().mono;
        let waited = || SystemClock.now().mono - began;
        let hangs = turns.take(subscription(1)).await;
        let actual = join_all((0..100).map(async |_| {
            let turn = turns.take(subscription(1)).await;
            (turn.is_none(), waited())
        }));
        let actual = actual.await;
        assert!(actual.iter().all(|(refused, _)| *refused));
        let waiters = actual.iter().filter(|(_, after)| !after.is_zero());
        assert_eq!(waiters.count(), WAITERS);
        assert!(waited() <= PATIENCE + SPACING, "{:?}", waited());
        drop(hangs);
        assert_eq!(turns.0.in_use(), 0);
    }
}
