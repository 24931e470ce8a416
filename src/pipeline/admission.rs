//! At the gate: who is admitted, what is reported back, and how operators hear of it.

use tracing::info;

use crate::gate::{Admission, Change, DeferralReason, Permit, Request};
use crate::message::Name;
use crate::metrics::{BreakerState, Deferred};
use crate::outcome::Verdict;
use crate::push_service::Transport;
use crate::subscription::Endpoint;

use super::Pipeline;
use super::fate::{Effort, Fate};

impl<T: Transport> Pipeline<T> {
    /// Asks for a permit in the line of a lane; an error is the fate of who is not admitted.
    pub(super) async fn admit(
        &self,
        endpoint: &Endpoint,
        key: &Name,
        effort: &Effort<'_>,
    ) -> Result<Permit, Fate> {
        let asked_at = self.clock.now().mono;
        let request = Request {
            origin: endpoint.origin(),
            listing: endpoint.listing(),
            key,
            lane: effort.lane,
            deferrals: effort.history.deferrals,
        };
        let admission = self.gates.admit(request, asked_at).await;
        let now = self.clock.now();
        let waited = now.mono.saturating_duration_since(asked_at);
        self.metrics.admission_waited(endpoint.service(), waited);
        self.metrics.gate_origins(self.gates.origins());
        match admission {
            Admission::Granted(permit) => {
                self.gate_changed(endpoint, permit.change());
                Ok(permit)
            }
            Admission::Deferred(deferral) => {
                self.metrics
                    .deferred(endpoint.service(), deferred(deferral.why));
                Err(self.defer(deferral, effort))
            }
        }
    }

    /// Tells the gate what came of a request, which frees its places.
    pub(super) fn report(&self, endpoint: &Endpoint, permit: Permit, verdict: &Verdict) {
        let change = permit.report(verdict, self.clock.now().mono);
        self.gate_changed(endpoint, change);
    }

    fn gate_changed(&self, endpoint: &Endpoint, change: Option<Change>) {
        self.metrics.breakers_open(self.gates.breakers_open());
        let Some(change) = change else { return };
        let (origin, service) = (endpoint.origin(), endpoint.service());
        let push_service = service.name();
        let turned = |to| self.metrics.breaker_turned(service, to);
        match change {
            Change::Opened(wait) => {
                turned(BreakerState::Open);
                info!(%origin, push_service, ?wait, "breaker opened");
            }
            Change::HalfOpen => {
                turned(BreakerState::HalfOpen);
                info!(%origin, push_service, "breaker half-open");
            }
            Change::Closed => {
                turned(BreakerState::Closed);
                info!(%origin, push_service, "breaker closed");
            }
            Change::Paused(scope, wait) => {
                info!(%origin, push_service, scope = scope.name(), ?wait, "paused");
            }
        }
    }
}

fn deferred(why: DeferralReason) -> Deferred {
    match why {
        DeferralReason::Busy => Deferred::Busy,
        DeferralReason::BreakerOpen => Deferred::BreakerOpen,
        DeferralReason::Paused => Deferred::Paused,
        DeferralReason::Rate => Deferred::Rate,
    }
}
