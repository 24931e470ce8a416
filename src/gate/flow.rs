//! The flows to one origin: the requests of one lane with one key.
//!
//! Lanes and keys have queues of their own, so that an urgent message does not queue behind a campaign, and
//! a key does not wait for the pause of another.

use std::time::Duration;

use tokio::time::Instant;

use crate::message::Name;
use crate::outcome::DeferralReason;

use super::deferral::{Deferral, Shut};
use super::line::Line;
use super::request::Request;
use super::throughput::Throughput;

/// The flows to an origin, one for each lane and key in use there.
#[derive(Debug, Default)]
pub(super) struct Flows(Vec<Flow>);

/// The requests of one lane with one key.
#[derive(Debug)]
struct Flow {
    lane: Name,
    key: Name,
    throughput: Throughput,
    /// The recipients that wait for a permit, or for the end of a pause and then for a permit.
    permits: Line,
    /// The recipients that wait for an origin whose breaker is open.
    recovery: Line,
}

/// How much faster than measured deferred recipients come back. Too few would leave permits unused, and
/// too many are deferred once more.
const SURPLUS: f64 = 1.25;

/// The longest wait for a permit that is planned: in a few minutes the rate may have changed.
const LONGEST: Duration = Duration::from_secs(600);

/// How many come back a second, at least, to an origin that has been left alone, and the longest that
/// they are spread over. While it is down all of them go round, so a large backlog must come back
/// slowly; a small one comes back at once.
const RECOVERY_RATE: f64 = 250.0;
const RECOVERY_LONGEST: Duration = Duration::from_secs(450);

impl Flows {
    /// Counts a request that goes out.
    pub(super) fn admitted(&mut self, lane: &Name, key: &Name, now: Instant) {
        self.of(lane, key).throughput.admitted(now);
    }

    /// Returns whether recipients of a flow are about to come back for a permit.
    pub(super) fn is_awaited(&self, lane: &Name, key: &Name, now: Instant) -> bool {
        let known = self.find(lane, key);
        known.is_some_and(|index| self.0[index].permits.is_pending(now))
    }

    /// Plans the return of a deferred recipient.
    ///
    /// A recipient that comes back in a pause has had its turn and lost it to the pause. It comes again
    /// soon after the pause, before the recipients that wait for a permit.
    pub(super) fn defer(
        &mut self,
        request: Request<'_>,
        Shut { why, left }: Shut,
        in_flight: usize,
        now: Instant,
    ) -> Deferral {
        let flow = self.of(request.lane, request.key);
        let rate = match why {
            DeferralReason::Busy => flow.throughput.deferred(in_flight, now),
            DeferralReason::Paused => flow.throughput.deferred_in_pause(now),
            DeferralReason::BreakerOpen | DeferralReason::Rate => None,
        };
        let (start, rate) = (now + left, rate.map(|rate| rate * SURPLUS));
        let turn = match (why, rate) {
            (DeferralReason::Rate, _) | (DeferralReason::Busy, None) => {
                return Deferral::of(why, left);
            }
            (DeferralReason::Paused, Some(rate)) if request.is_new() => {
                flow.permits.join(start, rate, LONGEST)
            }
            (DeferralReason::Busy, Some(rate)) => flow.permits.join(start, rate, LONGEST),
            (DeferralReason::Paused | DeferralReason::BreakerOpen, rate) => {
                let rate = rate.map_or(RECOVERY_RATE, |rate| rate.max(RECOVERY_RATE));
                flow.recovery.join(start, rate, RECOVERY_LONGEST)
            }
        };
        Deferral::in_line(why, left, turn)
    }

    fn find(&self, lane: &Name, key: &Name) -> Option<usize> {
        let is_it = |flow: &Flow| flow.lane == *lane && flow.key == *key;
        self.0.iter().position(is_it)
    }

    fn of(&mut self, lane: &Name, key: &Name) -> &mut Flow {
        let index = self.find(lane, key).unwrap_or_else(|| {
            self.0.push(Flow {
                lane: lane.clone(),
                key: key.clone(),
                throughput: Throughput::default(),
                permits: Line::default(),
                recovery: Line::default(),
            });
            self.0.len() - 1
        });
        &mut self.0[index]
    }
}
