//! Which key of the ring signs, and what an answer says of it (systemd/README.md, "Another key").

mod mismatch;
mod state_file;
mod subscription_keys;
pub(super) mod token_cache;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::app::{App, Mode};
use crate::message::Name;
use crate::origin::{Origin, Service};
use crate::outcome::Verdict;
use crate::plan::Push;
use crate::subscription::Endpoint;
use crate::vapid::{KeyId, VapidKey};
use crate::wire::headers::RetryHistory;

use super::alarms::Alarms;

use self::mismatch::{KeyJudgement, Mismatches};

pub(super) use self::mismatch::{RingJudgement, SuspensionCause};
pub use self::state_file::{StateError, StateFile};
pub use self::subscription_keys::SubscriptionKeys;

/// What is known of the keys of all rings.
pub(super) struct Keys {
    subscription_keys: Arc<SubscriptionKeys>,
    mismatches: Mismatches,
    alarms: Arc<Alarms>,
}

impl Keys {
    /// Creates the state of a daemon that has not sent anything.
    pub(super) fn new(alarms: Arc<Alarms>) -> Self {
        Self {
            subscription_keys: Arc::default(),
            mismatches: Mismatches::default(),
            alarms,
        }
    }

    /// Returns the keys that subscriptions were found to be made with.
    pub(super) fn subscription_keys(&self) -> &Arc<SubscriptionKeys> {
        &self.subscription_keys
    }

    /// Returns the keys in the order in which they are tried.
    ///
    /// The first is the key that an earlier pass of the message ended with, else the key that the
    /// event names, else the key that the subscription was found to be made with, else the primary
    /// key. The other keys of the ring follow, newest first.
    pub(super) fn in_order<'a>(
        &self,
        app: &'a App,
        push: &Push,
        history: &RetryHistory,
    ) -> impl Iterator<Item = &'a Arc<VapidKey>> + use<'a> {
        let held = |name: &Name| app.ring.get(name);
        let earlier = history.vapid_key.as_ref().and_then(held);
        let asked = || push.key.as_ref().and_then(|key| held(key.name()));
        let found = || {
            let subscription = push.message.subscription.endpoint.fingerprint();
            let keys = &self.subscription_keys;
            let name = (!app.ring.older.is_empty()).then(|| keys.get(subscription))??;
            held(&name)
        };
        let first = earlier.or_else(asked).or_else(found);
        let first = first.unwrap_or(&app.ring.primary);
        let others = app.ring.iter().filter(|key| key.name() != first.name());
        std::iter::once(first).chain(others)
    }

    /// Returns how long a key is still suspended at an origin, and why.
    pub(super) fn suspended(
        &self,
        origin: &Origin,
        key: &VapidKey,
        now: Instant,
    ) -> Option<(Duration, SuspensionCause)> {
        self.mismatches.suspended(origin, key.id(), now)
    }

    /// Records that a push service accepted a message that the key signed.
    pub(super) fn accepted(&self, app: &App, key: &VapidKey, endpoint: &Endpoint, now: Instant) {
        if app.mode == Mode::DryRun || !endpoint.is_bound_to_key() {
            return;
        }
        if self.mismatches.accept(endpoint.origin(), key.id(), now) {
            self.alarms.key_accepted(endpoint, key.name());
        }
        if app.ring.older.is_empty() {
            return;
        }
        if key.name() == app.ring.primary.name() {
            self.subscription_keys.remove(endpoint.fingerprint());
        } else {
            self.subscription_keys
                .insert(endpoint.fingerprint(), key.name());
        }
    }

    /// Judges a subscription that no key of the ring matches, and alerts operators of keys that are
    /// suspended for it.
    pub(super) fn mismatched(&self, app: &App, endpoint: &Endpoint, now: Instant) -> RingJudgement {
        let ring = app.ring.iter().map(|key| key.id());
        let origin = endpoint.origin();
        let judgement = self
            .mismatches
            .judge(origin, ring, endpoint.fingerprint(), now);
        if let RingJudgement::Wait { alarms, .. } = &judgement {
            for (key, first) in alarms {
                if self.is_alarming(endpoint, key, now) {
                    self.alarms.key_mismatch(endpoint, &key.name, *first);
                }
            }
        }
        judgement
    }

    /// Judges a refusal of a token that a key signed. Returns how long the recipient waits for the
    /// key, or `None` if the refusal concerns its subscription alone.
    ///
    /// `back_off` is the wait where the service names none and the key is not suspended.
    pub(super) fn refused(
        &self,
        endpoint: &Endpoint,
        key: &VapidKey,
        verdict: &Verdict,
        now: Instant,
        back_off: impl FnOnce() -> Duration,
    ) -> Option<Duration> {
        let (origin, subscription) = (endpoint.origin(), endpoint.fingerprint());
        let detail = verdict.detail.as_deref();
        match self.mismatches.refuse(origin, key.id(), subscription, now) {
            KeyJudgement::Subscription => None,
            KeyJudgement::Undecided { first } => {
                if first && endpoint.is_listed() {
                    self.alarms.key_refused_once(endpoint, key.name(), detail);
                }
                Some(verdict.after.unwrap_or_else(back_off))
            }
            KeyJudgement::Suspended { left, renewed, .. } => {
                if renewed && self.is_alarming(endpoint, key.id(), now) {
                    self.alarms.key_refused(endpoint, key.name(), left, detail);
                }
                Some(left)
            }
        }
    }

    /// Returns whether operators should hear that a key is suspended at the origin of `endpoint`.
    ///
    /// A key that the service has recently accepted at another host is right. Anybody can make up
    /// names below the domains of the large services, and what answers there may refuse every key.
    fn is_alarming(&self, endpoint: &Endpoint, key: &KeyId, now: Instant) -> bool {
        let service = Some(endpoint.service());
        let is_of_service = |origin: &Origin| Service::of_listed_host(origin.host()) == service;
        endpoint.is_listed() && !self.mismatches.is_accepted_at(is_of_service, key, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::metrics::Metrics;

    #[test]
    fn a_dry_run_says_nothing_of_a_key() {
        let keys = Keys::new(Arc::new(Alarms::new(Arc::new(Metrics::new().unwrap()))));
        let endpoint = Endpoint::parse("https://fcm.googleapis.com/x").unwrap();
        let now = SystemClock.now().mono;
        for (mode, is_proof) in [(Mode::DryRun, false), (Mode::Send, true)] {
            let mut app = App::for_tests("shop");
            app.ring.older.clear();
            app.mode = mode;
            keys.accepted(&app, &app.ring.primary, &endpoint, now);
            let judgement = keys.mismatched(&app, &endpoint, now);
            assert_eq!(judgement == RingJudgement::OtherKey, is_proof, "{mode:?}");
        }
    }
}
