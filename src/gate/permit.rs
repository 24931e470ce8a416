//! The right to have one request under way, and the report of its result.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::message::Name;
use crate::outcome::{BreakerState, Verdict};

use super::breaker::Pass;
use super::fair_semaphore::FairPermit;
use super::origin_gate::OriginGate;
use super::request::Change;

/// The permits besides the origin's own.
pub(super) struct SharedPermits {
    _shared: Option<FairPermit>,
    _whole: FairPermit,
}

impl SharedPermits {
    pub(super) fn new(shared: Option<FairPermit>, whole: FairPermit) -> Self {
        Self {
            _shared: shared,
            _whole: whole,
        }
    }
}

/// The right to have one request under way. Dropped without a report, the request was abandoned.
pub struct Permit {
    gate: Arc<OriginGate>,
    _own: FairPermit,
    _shared_permits: SharedPermits,
    pass: Pass,
    reported: bool,
    key: Name,
    since: Instant,
}

impl Permit {
    pub(super) fn new(
        gate: Arc<OriginGate>,
        permit: FairPermit,
        shared_permits: SharedPermits,
        pass: Pass,
        key: &Name,
        since: Instant,
    ) -> Self {
        Self {
            gate,
            _own: permit,
            _shared_permits: shared_permits,
            pass,
            reported: false,
            key: key.clone(),
            since,
        }
    }

    /// Returns what changed when it was granted: the breaker is half-open if this is its probe.
    #[must_use]
    pub fn change(&self) -> Option<Change> {
        let change = Change::Breaker(BreakerState::HalfOpen, Duration::ZERO);
        self.pass.probe.then_some(change)
    }

    /// Reports the verdict on the request, frees the permits, and returns what that changed.
    pub fn report(mut self, verdict: &Verdict, now: Instant) -> Option<Change> {
        self.reported = true;
        let (pass, since) = (self.pass, self.since);
        self.gate.report(pass, &self.key, since, verdict, now)
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("pass", &self.pass)
            .finish_non_exhaustive()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let unreported = (!self.reported).then_some(self.pass);
        self.gate.leave(unreported);
    }
}
