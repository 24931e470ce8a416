//! What an exchange leads to: the recipient's end, or another pass.

use std::time::{Duration, SystemTime};

use crate::gate::Deferral;
use crate::origin::Service;
use crate::outcome::{Reason, Record, Verdict, Waiting};
use crate::plan::Terms;
use crate::push_service::Transport;
use crate::retry::{Decision, Lifetime};
use crate::wire::headers::Passage;

use super::Pipeline;
use super::attempt::Exchange;

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
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// What for.
    pub(super) waiting: Waiting,
    /// How long.
    pub(super) after: Duration,
    /// Attempts used up so far.
    pub(super) attempts: u32,
    /// Requests made so far.
    pub(super) requests: u32,
    /// The status of the last answer.
    pub(super) last_status: Option<u16>,
}

impl<T: Transport> Pipeline<T> {
    /// Turns an exchange into the recipient's end, or into a wait.
    pub(super) fn decide(
        &self,
        service: Service,
        exchange: Exchange,
        requests: u32,
        terms: &Terms,
        passage: &Passage,
    ) -> Fate {
        let Exchange {
            verdict,
            status,
            message_url,
            sent_at,
            elapsed,
        } = exchange;
        let attempts = passage.attempts + 1;
        let settled_at = self.clock.now().wall;
        let lifetime = lifetime(terms, settled_at);
        match self.settings.retry.of(service).decide(
            &verdict,
            attempts,
            lifetime,
            self.jitter.draw(),
        ) {
            Decision::Again(after) => Fate::Waits(Wait {
                waiting: Waiting::Retry(verdict.reason),
                after,
                attempts,
                requests,
                last_status: status,
            }),
            Decision::Final(reason) => Fate::settled(Record {
                reason,
                status,
                attempts,
                requests,
                message_url,
                vapid_key: None,
                sent_at: Some(sent_at),
                settled_at,
                elapsed: Some(elapsed),
                warnings: Vec::new(),
                detail: detail(reason, verdict),
            }),
        }
    }

    /// Sends a recipient that was not admitted to wait, or ends it if it has no time for that.
    pub(super) fn defer(
        &self,
        deferral: Deferral,
        terms: &Terms,
        passage: &Passage,
        now: SystemTime,
    ) -> Fate {
        let lifetime = lifetime(terms, now);
        let after = deferral.delay(passage.pass, lifetime.left, self.jitter.draw());
        if after >= lifetime.left {
            let detail = deferral.why.outlasts();
            return Fate::settled(Record::unsent(lifetime.ends_as, now, detail));
        }
        Fate::Waits(Wait {
            waiting: Waiting::Busy,
            after,
            attempts: passage.attempts,
            requests: passage.requests,
            last_status: passage.last_status,
        })
    }
}

fn lifetime(terms: &Terms, now: SystemTime) -> Lifetime {
    Lifetime {
        left: terms.deadline.left(now).unwrap_or_default(),
        ends_as: terms.deadline.reason,
        now_or_never: terms.deadline.now_or_never(),
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
