//! Which key of the ring signs, and what is made of the answer (systemd/README.md, "Another key").

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::app::{App, Mode};
use crate::message::Name;
use crate::metrics::KeyAlarm;
use crate::mismatch::{Belief, Judgement};
use crate::origin::{Origin, Service};
use crate::outcome::Verdict;
use crate::plan::Push;
use crate::push_service::Transport;
use crate::subscription::Endpoint;
use crate::vapid::VapidKey;
use crate::wire::headers::RetryHistory;

use super::Pipeline;
use super::fate::Effort;

impl<T: Transport> Pipeline<T> {
    /// Returns the keys in the order in which they are tried.
    ///
    /// The first is the one that an earlier pass of the message had come to, else the one that was
    /// asked for, else what was learned of the subscription, else the primary; then come the others
    /// of the ring, newest first.
    pub(super) fn keys_to_try<'a>(
        &self,
        app: &'a App,
        push: &Push,
        history: &RetryHistory,
    ) -> impl Iterator<Item = &'a Arc<VapidKey>> + use<'a, T> {
        let held = |name: &Name| app.ring.get(name);
        let come_to = history.vapid_key.as_ref().and_then(held);
        let asked = || push.key.as_ref().and_then(|key| held(key.name()));
        let learned = || {
            let subscription = push.message.subscription.endpoint.fingerprint();
            let name = (!app.ring.older.is_empty()).then(|| self.learned.get(subscription))??;
            held(&name)
        };
        let first = come_to.or_else(asked).or_else(learned);
        let first = first.unwrap_or(&app.ring.primary);
        let others = app.ring.iter().filter(|key| key.name() != first.name());
        std::iter::once(first).chain(others)
    }

    /// Notes that a push service took what a key signed.
    pub(super) fn key_fits(&self, app: &App, key: &VapidKey, endpoint: &Endpoint) {
        if app.mode == Mode::DryRun || !endpoint.is_bound_to_key() {
            return;
        }
        let (origin, now) = (endpoint.origin(), self.clock.now().mono);
        if self.mismatches.prove(origin, key.name(), now) {
            info!(
                %origin,
                key = %key.name(),
                "a push service takes what this key signs; its suspension is over"
            );
        }
        if app.ring.older.is_empty() {
            return;
        }
        if key.name() == app.ring.primary.name() {
            self.learned.forget(endpoint.fingerprint());
        } else {
            self.learned.learn(endpoint.fingerprint(), key.name());
        }
    }

    /// Judges a subscription that fits no key of the ring; tells operators of keys that are taken
    /// for wrong, unless an unlisted host says so.
    pub(super) fn judge_misfit(&self, app: &App, endpoint: &Endpoint) -> Judgement {
        let (origin, now) = (endpoint.origin(), self.clock.now().mono);
        let ring = app.ring.iter().map(|key| key.name());
        let judgement = self
            .mismatches
            .judge(origin, ring, endpoint.fingerprint(), now);
        if let Judgement::Wait { alarms, .. } = &judgement {
            let alarms = alarms.iter();
            for (key, first) in alarms.filter(|(key, _)| self.is_alarming(endpoint, key, now)) {
                self.metrics
                    .key_alarm(endpoint.service(), KeyAlarm::Mismatch);
                if *first {
                    warn!(
                        %origin,
                        push_service = endpoint.service().name(),
                        %key,
                        "no subscription here was made with this key, so it is taken for wrong and \
                         its messages wait: load the right private key and restart; if the key is \
                         right and merely new or unused here, wait, or take it off the ring"
                    );
                }
            }
        }
        judgement
    }

    /// Judges a refusal of what a key signed. Returns how long the recipient waits for the key, or
    /// `None` if the endpoint is at fault.
    ///
    /// Operators hear of a key that is suspended, unless an unlisted host refuses it.
    pub(super) fn judge_refusal(
        &self,
        endpoint: &Endpoint,
        key: &Name,
        verdict: &Verdict,
        effort: &Effort<'_>,
    ) -> Option<Duration> {
        let (origin, now) = (endpoint.origin(), self.clock.now().mono);
        let subscription = endpoint.fingerprint();
        let (push_service, detail) = (endpoint.service().name(), verdict.detail.as_deref());
        match self.mismatches.refuse(origin, key, subscription, now) {
            Belief::Believed => None,
            Belief::Doubted { first } => {
                if first && endpoint.is_listed() {
                    info!(
                        %origin, push_service, %key, %subscription, detail,
                        "a push service refuses what this key signs for one subscription"
                    );
                }
                Some(verdict.after.unwrap_or_else(|| self.wait_for_key(effort)))
            }
            Belief::Suspended { left, renewed, .. } => {
                if renewed && self.is_alarming(endpoint, key, now) {
                    self.metrics
                        .key_alarm(endpoint.service(), KeyAlarm::VapidRejected);
                    warn!(
                        %origin, push_service, %key, wait = ?left, detail,
                        "a push service refuses what this key signs for every subscription, so its \
                         messages wait: check the private key, the application's subject and this \
                         machine's clock, then restart"
                    );
                }
                Some(left)
            }
        }
    }

    /// Tells whether operators should hear that a key is suspended where the endpoint is.
    ///
    /// A key that the service has lately taken at another host is right. Anybody can make up
    /// names below the domains of the large services, and what answers there may refuse every key.
    fn is_alarming(&self, endpoint: &Endpoint, key: &Name, now: Instant) -> bool {
        let service = Some(endpoint.service());
        let is_of_service = |origin: &Origin| Service::of_listed_host(origin.host()) == service;
        endpoint.is_listed() && !self.mismatches.is_taken_at(is_of_service, key, now)
    }

    /// Returns how long a recipient waits that was answered against its key before more is known.
    pub(super) fn wait_for_key(&self, effort: &Effort<'_>) -> Duration {
        let times = effort.history.requests.saturating_add(1);
        self.retry(effort.service)
            .back_off(times, self.jitter.draw())
    }
}
