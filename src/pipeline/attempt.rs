//! One attempt at one recipient: admitted, signed, encrypted, sent, understood, decided.
//!
//! An attempt is mostly one request. There are more where a second one may fare better at once: a
//! service that finds fault with a token, a topic or a TTL gets one request that differs, and a
//! subscription that was made with another key is tried with each key of the ring.

use std::panic::AssertUnwindSafe;
use std::time::SystemTime;

use futures_util::FutureExt as _;

use crate::app::{App, Mode};
use crate::message::{Name, PushMessage};
use crate::mismatch::{Cause, Judgement};
use crate::outcome::{Again, Meaning, Reason, Record, Warning};
use crate::plan;
use crate::plan::{Push, Terms};
use crate::push_service::Transport;
use crate::vapid::VapidKey;
use crate::wire::headers::RetryHistory;

use super::Pipeline;
use super::exchange::Exchange;
use super::fate::{Effort, Fate};
use super::request::Unsendable;

impl<T: Transport> Pipeline<T> {
    /// Makes one attempt; a panic is its own fate.
    pub(super) async fn attempt_safely(
        &self,
        app: &App,
        push: Push,
        lane: &Name,
        terms: &Terms,
        history: &RetryHistory,
    ) -> Fate {
        let service = push.message.subscription.endpoint.service();
        let effort = Effort::new(service, lane, terms, history);
        let attempt = AssertUnwindSafe(self.attempt_in_turn(app, push, effort));
        attempt.catch_unwind().await.unwrap_or_else(|_panic| {
            self.metrics.panicked();
            Fate::Broken
        })
    }

    /// Tries one key after the other until one fits.
    pub(super) async fn attempt(&self, app: &App, push: Push, mut effort: Effort<'_>) -> Fate {
        let endpoint = &push.message.subscription.endpoint;
        let (mut misfit, mut suspended) = (None, None);
        for key in self.keys_to_try(app, &push, effort.history) {
            let now = self.clock.now().mono;
            if let Some((left, cause)) =
                self.mismatches
                    .suspended(endpoint.origin(), key.name(), now)
            {
                suspended = suspended.max(Some((left, cause, key.name())));
                continue;
            }
            let change = misfit.is_some().then_some(Again::AnotherKey);
            effort.begins_with(key.name(), default_key(app, &push));
            match self.try_key(app, key, change, &push, &mut effort).await {
                Err(fate) => return fate,
                Ok(exchange) if exchange.verdict.is_key_mismatch() => {
                    effort.last_status = exchange.status;
                    misfit = Some((key, exchange));
                }
                Ok(exchange) => return self.conclude(app, key, push, exchange, effort),
            }
        }
        if let Some((left, cause, key)) = suspended {
            effort.begins_with(key, default_key(app, &push));
            return self.hold(cause, left, &effort);
        }
        match misfit {
            Some((key, exchange)) => self.fits_no_key(app, key, push, exchange, effort),
            None => Fate::Broken,
        }
    }

    /// Makes the request with one key, and a second one where that may fare better at once; an
    /// error is the fate of who got no answer.
    ///
    /// A request that was certainly not seen does not count as the first.
    async fn try_key(
        &self,
        app: &App,
        key: &VapidKey,
        mut change: Option<Again>,
        push: &Push,
        effort: &mut Effort<'_>,
    ) -> Result<Exchange, Fate> {
        let endpoint = &push.message.subscription.endpoint;
        let permit = self.admit(endpoint, key.name(), effort).await?;
        let mut answered = None;
        let exchange = loop {
            let now = self.now().wall;
            let Some(message) = plan::timely(&push.message, &effort.terms.deadline, now) else {
                break answered.ok_or_else(|| too_late(effort, now))?;
            };
            if let Some(change) = change {
                self.metrics.second_request(change);
                effort.warnings.extend(told(change));
            }
            effort.requests += 1;
            let exchange = self.exchange(app, key, &message, effort.history, change);
            let exchange = exchange
                .await
                .map_err(|fault| self.unsendable(&fault, key))?;
            let Some(again) = second_request(change, &exchange, &message) else {
                break exchange;
            };
            if again == Again::FreshToken {
                let origin = endpoint.origin();
                self.tokens.refused(app, key, origin, &exchange.token);
            }
            change = Some(again);
            answered = Some(exchange);
        };
        // A request that was not made tells nothing of the push service.
        if app.mode == Mode::Send {
            self.report(endpoint, permit, &exchange.verdict);
        }
        Ok(exchange)
    }

    /// Takes what a key that may be the right one has brought.
    fn conclude(
        &self,
        app: &App,
        key: &VapidKey,
        push: Push,
        exchange: Exchange,
        mut effort: Effort<'_>,
    ) -> Fate {
        let endpoint = &push.message.subscription.endpoint;
        let verdict = &exchange.verdict;
        if verdict.meaning == Meaning::Accepted {
            self.key_fits(app, key, endpoint);
        } else if verdict.is_vapid_refusal()
            && let Some(wait) = self.judge_refusal(endpoint, key.name(), verdict, &effort)
        {
            effort.last_status = exchange.status;
            return self.hold(Cause::Refusal, wait, &effort);
        }
        let mut warnings = push.warnings;
        warnings.append(&mut effort.warnings);
        let mut fate = self.decide(exchange, effort);
        if let Fate::Settled(record) = &mut fate {
            record.vapid_key = Some(key.name().clone());
            record.warnings = warnings;
        }
        fate
    }

    /// Ends a subscription that belongs to another key, or has it wait while nobody can tell.
    fn fits_no_key(
        &self,
        app: &App,
        key: &VapidKey,
        push: Push,
        exchange: Exchange,
        mut effort: Effort<'_>,
    ) -> Fate {
        let wait = match self.judge_misfit(app, &push.message.subscription.endpoint) {
            Judgement::Believed => return self.conclude(app, key, push, exchange, effort),
            Judgement::Wait { suspended, .. } => suspended,
        };
        effort.key = None;
        let wait = wait.unwrap_or_else(|| self.wait_for_key(&effort));
        self.hold(Cause::Mismatch, wait, &effort)
    }

    fn unsendable(&self, fault: &Unsendable, key: &VapidKey) -> Fate {
        let now = self.now().wall;
        let mut record = Record::unsent(Reason::InternalError, now, fault.to_string());
        record.vapid_key = Some(key.name().clone());
        Fate::settled(record)
    }
}

/// The key that signs if nothing was learned.
fn default_key<'a>(app: &'a App, push: &'a Push) -> &'a Name {
    push.key.as_ref().unwrap_or(&app.ring.primary).name()
}

/// Returns what the second request changes, if one may follow and would differ.
fn second_request(
    change: Option<Again>,
    exchange: &Exchange,
    message: &PushMessage,
) -> Option<Again> {
    let again = exchange.verdict.again?;
    (may_follow(change, again) && plan::changed(message, again).is_some()).then_some(again)
}

/// Ends a recipient whose deadline came before the request could be made.
fn too_late(effort: &Effort<'_>, now: SystemTime) -> Fate {
    let detail = "its time ran out while it waited for room to send";
    let mut record = Record::unsent(effort.terms.deadline.reason, now, detail);
    record.requests = effort.requests;
    record.status = effort.last_status;
    Fate::settled(record)
}

/// Tells whether a request that changed one thing may be followed by one that changes another: only
/// what no service has answered may, or the first with a key.
fn may_follow(change: Option<Again>, again: Again) -> bool {
    match change {
        None | Some(Again::AnotherKey) => true,
        Some(Again::AsItWas) => again != Again::AsItWas,
        Some(Again::NewConnection) => !matches!(again, Again::AsItWas | Again::NewConnection),
        Some(Again::FreshToken | Again::WithoutTopic | Again::TtlOfOne | Again::OtherCoding) => {
            false
        }
    }
}

/// What a result says of a second request whose reason nothing else in it tells.
fn told(again: Again) -> Option<Warning> {
    match again {
        Again::AsItWas | Again::NewConnection | Again::AnotherKey => None,
        Again::FreshToken | Again::WithoutTopic | Again::TtlOfOne | Again::OtherCoding => {
            Some(Warning::SecondRequest(again))
        }
    }
}
