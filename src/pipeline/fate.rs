//! What an exchange leads to: the recipient's end, or another pass.

use std::time::{Duration, SystemTime};

use crate::gate::{Deferral, DeferralReason};
use crate::message::Name;
use crate::mismatch::Cause;
use crate::origin::Service;
use crate::outcome::{Reason, Record, Verdict, Waiting, Warning};
use crate::plan::Terms;
use crate::push_service::Transport;
use crate::retry::{Decision, Lifetime, Policy};
use crate::wire::headers::RetryHistory;

use super::Pipeline;
use super::exchange::Exchange;

/// What one pass brings a recipient.
pub(super) enum Fate {
    /// Its end.
    Settled(Box<Record>),
    /// Another pass, later.
    Waits(Wait),
    /// A panic.
    Broken,
}

impl Fate {
    pub(super) fn settled(record: Record) -> Self {
        Self::Settled(Box::new(record))
    }
}

/// A recipient that must wait in the broker.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    /// What for.
    pub(super) waiting: Waiting,
    /// How long.
    pub(super) after: Duration,
    /// How long it may be at most: what is left until the deadline.
    pub(super) within: Duration,
    /// How often in a row there was no room.
    pub(super) deferrals: u32,
    /// Attempts used up so far.
    pub(super) attempts: u32,
    /// Requests made so far.
    pub(super) requests: u32,
    /// The status of the last answer.
    pub(super) last_status: Option<u16>,
    /// The key to begin with, where it is another than one would.
    pub(super) vapid_key: Option<Name>,
}

/// What was done for a recipient so far, in this pass and before.
pub(super) struct Effort<'a> {
    pub(super) service: Service,
    /// The lane that it came by.
    pub(super) lane: &'a Name,
    pub(super) terms: &'a Terms,
    pub(super) history: &'a RetryHistory,
    pub(super) requests: u32,
    pub(super) last_status: Option<u16>,
    pub(super) key: Option<Name>,
    /// What a result is to say of second requests.
    pub(super) warnings: Vec<Warning>,
}

impl<'a> Effort<'a> {
    pub(super) fn new(
        service: Service,
        lane: &'a Name,
        terms: &'a Terms,
        history: &'a RetryHistory,
    ) -> Self {
        Self {
            service,
            lane,
            terms,
            history,
            requests: history.requests,
            last_status: history.last_status,
            key: None,
            warnings: Vec::new(),
        }
    }

    /// Notes the key that the next pass begins with, unless it would anyway.
    pub(super) fn begins_with(&mut self, key: &Name, anyway: &Name) {
        self.key = (key != anyway).then(|| key.clone());
    }

    fn wait(&self, waiting: Waiting, after: Duration, lifetime: Lifetime) -> Wait {
        Wait {
            waiting,
            after,
            within: lifetime.left,
            deferrals: 0,
            attempts: self.history.attempts,
            requests: self.requests,
            last_status: self.last_status,
            vapid_key: self.key.clone(),
        }
    }

    fn lifetime(&self, now: SystemTime) -> Lifetime {
        let deadline = &self.terms.deadline;
        Lifetime {
            left: deadline.left(now).unwrap_or_default(),
            ends_as: deadline.reason,
            now_or_never: deadline.now_or_never(),
        }
    }
}

/// The shortest wait for a key.
const SHORTEST_HOLD: Duration = Duration::from_secs(1);

impl<T: Transport> Pipeline<T> {
    /// Turns an exchange into the recipient's end, or into a wait.
    pub(super) fn decide(&self, exchange: Exchange, effort: Effort<'_>) -> Fate {
        let Exchange {
            verdict, status, ..
        } = exchange;
        let attempts = effort.history.attempts + 1;
        let settled_at = self.now().wall;
        let lifetime = effort.lifetime(settled_at);
        let jitter = self.jitter.draw();
        let decision = self
            .retry(effort.service)
            .decide(&verdict, attempts, lifetime, jitter);
        match decision {
            Decision::Again(after) => Fate::Waits(Wait {
                attempts,
                last_status: status,
                ..effort.wait(Waiting::Retry(verdict.reason), after, lifetime)
            }),
            Decision::Final(reason) => Fate::settled(Record {
                reason,
                status,
                attempts,
                requests: effort.requests,
                message_url: exchange.message_url,
                vapid_key: None,
                sent_at: Some(exchange.sent_at),
                settled_at,
                elapsed: Some(exchange.elapsed),
                warnings: Vec::new(),
                detail: detail(reason, verdict),
            }),
        }
    }

    /// Returns how a push service is retried.
    pub(super) fn retry(&self, service: Service) -> &Policy {
        self.settings.retry.of(service)
    }

    /// Sends a recipient that was not admitted to wait, or ends it if it has no time for that.
    pub(super) fn defer(&self, deferral: Deferral, effort: &Effort<'_>) -> Fate {
        let detail = deferral.why.outlasts();
        let mut fate = self.wait_or_expire(deferral, Waiting::Busy, detail, effort);
        if let Fate::Waits(wait) = &mut fate {
            wait.deferrals = effort.history.deferrals.saturating_add(1);
        }
        fate
    }

    /// Sends a recipient to wait until more is known of the key, which uses up no attempt.
    ///
    /// It waits for at most half of what is left of its life, so that it is tried again while it
    /// can be sent.
    pub(super) fn hold(&self, cause: Cause, left: Duration, effort: &Effort<'_>) -> Fate {
        let (reason, detail) = match cause {
            Cause::Mismatch => (
                Reason::KeyMismatch,
                "its time runs out before it is known whether the subscription belongs to another \
                 key or a wrong key is loaded (key_mismatch)",
            ),
            Cause::Refusal => (
                Reason::VapidRejected,
                "its time runs out before the push service, which refused the VAPID token, is tried \
                 again (vapid_rejected)",
            ),
        };
        let life = effort.lifetime(self.now().wall).left;
        let left = left.min((life / 2).max(SHORTEST_HOLD));
        let deferral = Deferral::of(DeferralReason::Paused, left);
        self.wait_or_expire(deferral, Waiting::Retry(reason), detail, effort)
    }

    fn wait_or_expire(
        &self,
        deferral: Deferral,
        waiting: Waiting,
        detail: &str,
        effort: &Effort<'_>,
    ) -> Fate {
        let now = self.now().wall;
        let lifetime = effort.lifetime(now);
        let after = deferral.delay(effort.history.deferrals, lifetime.left, self.jitter.draw());
        if after < lifetime.left {
            return Fate::Waits(effort.wait(waiting, after, lifetime));
        }
        let mut record = Record::unsent(lifetime.ends_as, now, detail);
        record.requests = effort.requests;
        record.status = effort.last_status;
        Fate::settled(record)
    }
}

/// Says what an expired recipient was waiting for; else repeats what the verdict says.
fn detail(reason: Reason, verdict: Verdict) -> Option<Box<str>> {
    if reason == verdict.reason {
        return verdict.detail;
    }
    let waited_for = verdict.reason.name();
    Some(format!("its time runs out before it could be tried again ({waited_for})").into())
}
