//! One attempt at one recipient: admitted, signed, encrypted, sent, understood, decided.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use http::header::LOCATION;

use crate::classify;
use crate::classify::Context;
use crate::message::PushMessage;
use crate::outcome::{Again, Attempt, Meaning, Reason, Record, Verdict};
use crate::plan::{App, Mode, Push, Terms};
use crate::push_service::Transport;
use crate::vapid::VapidKey;
use crate::wire::headers::Passage;

use super::Pipeline;
use super::fate::Fate;
use super::request::Unsendable;

/// One exchange and what it means.
pub(super) struct Exchange {
    pub(super) verdict: Verdict,
    pub(super) status: Option<u16>,
    pub(super) message_url: Option<Box<str>>,
    pub(super) sent_at: SystemTime,
    pub(super) elapsed: Duration,
}

/// The longest `Location` that a result repeats.
const LOCATION_LIMIT: usize = 2048;

impl<T: Transport> Pipeline<T> {
    /// Makes one attempt; a panic is its own fate.
    pub(super) async fn attempt_safely(
        &self,
        app: &App,
        push: Push,
        terms: &Terms,
        passage: &Passage,
    ) -> Fate {
        let attempt = AssertUnwindSafe(self.attempt(app, push, terms, passage));
        attempt.catch_unwind().await.unwrap_or_else(|_panic| {
            self.metrics.panicked();
            Fate::Broken
        })
    }

    async fn attempt(&self, app: &App, push: Push, terms: &Terms, passage: &Passage) -> Fate {
        let endpoint = &push.message.subscription.endpoint;
        let key = push.key.as_deref().unwrap_or(&app.ring.primary);
        let permit = match self.admit(endpoint, key.name(), terms, passage).await {
            Ok(permit) => permit,
            Err(fate) => return fate,
        };
        let mut requests = passage.requests + 1;
        let mut exchange = self.exchange(app, key, &push.message, passage).await;
        if exchange
            .as_ref()
            .is_ok_and(|exchange| exchange.verdict.again == Some(Again::AsItWas))
        {
            requests += 1;
            exchange = self.exchange(app, key, &push.message, passage).await;
        }
        // A request that was not made tells nothing of the push service.
        if let (Mode::Send, Ok(exchange)) = (app.mode, &exchange) {
            self.report(endpoint, permit, &exchange.verdict);
        }
        let mut record = match exchange {
            Ok(exchange) => {
                match self.decide(endpoint.service(), exchange, requests, terms, passage) {
                    Fate::Settled(record) => record,
                    other @ (Fate::Waits(_) | Fate::Broken) => return other,
                }
            }
            Err(fault) => {
                let now = self.clock.now().wall;
                Box::new(Record::unsent(
                    Reason::InternalError,
                    now,
                    fault.to_string(),
                ))
            }
        };
        record.vapid_key = Some(key.name().clone());
        record.warnings = push.warnings;
        Fate::Settled(record)
    }

    async fn exchange(
        &self,
        app: &App,
        key: &VapidKey,
        message: &PushMessage,
        passage: &Passage,
    ) -> Result<Exchange, Unsendable> {
        let request = self.prepare(app, key, message)?;
        let endpoint = &message.subscription.endpoint;
        let sent = self.clock.now();
        let in_flight = self.metrics.request_in_flight(endpoint.service());
        let attempt = match app.mode {
            Mode::Send => {
                self.transport
                    .post(request, self.settings.push_timeout)
                    .await
            }
            Mode::DryRun => return Ok(dry_run(sent.wall)),
        };
        drop(in_flight);
        let now = self.clock.now();
        let context = Context {
            service: endpoint.service(),
            listed: endpoint.listed(),
            last_status: passage.last_status,
            retry_after_cap: self.settings.retry.of(endpoint.service()).retry_after_cap,
        };
        let verdict = classify::classify(&attempt, context, now.wall);
        let elapsed = now.mono.saturating_duration_since(sent.mono);
        self.metrics
            .exchange(endpoint.service(), verdict.meaning, elapsed);
        let (status, message_url) = match &attempt {
            Attempt::Answered(answer) => {
                let url = answer
                    .headers
                    .get(LOCATION)
                    .and_then(|url| url.to_str().ok());
                let url = url
                    .filter(|url| url.len() <= LOCATION_LIMIT)
                    .map(Into::into);
                (Some(answer.status.as_u16()), url)
            }
            Attempt::Failed(_) => (None, None),
        };
        Ok(Exchange {
            verdict,
            status,
            message_url,
            sent_at: sent.wall,
            elapsed,
        })
    }
}

/// What an application in `dry_run` is told: everything but the request was done.
fn dry_run(now: SystemTime) -> Exchange {
    Exchange {
        verdict: Verdict {
            meaning: Meaning::Accepted,
            reason: Reason::Accepted,
            after: None,
            pause: None,
            down: false,
            again: None,
            detail: Some("dry_run: encrypted and signed, not sent".into()),
        },
        status: None,
        message_url: None,
        sent_at: now,
        elapsed: Duration::ZERO,
    }
}
