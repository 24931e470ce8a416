//! Attempts at a subscription whose push service takes one request at a time from us.

use std::time::Duration;

use crate::app::{App, Mode};
use crate::endpoint_turns;
use crate::gate::{Deferral, DeferralReason};
use crate::metrics::Deferred;
use crate::plan::Push;
use crate::push_service::Transport;

use super::Pipeline;
use super::fate::{Effort, Fate};

impl<T: Transport> Pipeline<T> {
    /// Makes one attempt, after the others at the same subscription where its push service needs
    /// that. What does not get its turn in time waits in the broker.
    pub(super) async fn attempt_in_turn(&self, app: &App, push: Push, effort: Effort<'_>) -> Fate {
        let (service, mode) = (effort.service, app.mode);
        if mode == Mode::DryRun || !endpoint_turns::are_needed(service) {
            return self.attempt(app, push, effort).await;
        }
        let subscription = push.message.subscription.endpoint.fingerprint();
        let Some(turn) = self.endpoint_turns.take(subscription).await else {
            self.metrics.deferred(service, Deferred::Busy);
            return self.defer(Deferral::of(DeferralReason::Busy, Duration::ZERO), &effort);
        };
        let fate = self.attempt(app, push, effort).await;
        turn.end();
        fate
    }
}
