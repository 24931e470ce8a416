//! From a delivery to what is owed for it: the hot path on one screen.
//!
//! [`Pipeline::process`] cannot fail. Whatever comes in, the answer is the list of publications that
//! settle it: results, subscription events, copies that wait, originals for the quarantine. A panic
//! costs one recipient and leaves the original in quarantine.

mod admission;
mod attempt;
mod exchange;
mod fate;
mod fault;
mod identity;
mod in_turn;
mod private_dns;
mod recipients;
mod record;
mod request;
mod settlement;
#[cfg(test)]
mod tests;
mod trial;
mod unfamiliar;
mod waiting;

use std::hash::{BuildHasher as _, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::app::{App, Apps};
use crate::broker::{Inbound, Publication, Settled, Source};
use crate::clock::{Clock, Jitter, Now};
use crate::drift::ClockSkews;
use crate::endpoint_turns::EndpointTurns;
use crate::gate::Gates;
use crate::gone_share::GoneShares;
use crate::guard;
use crate::learned::SubscriptionKeys;
use crate::message::CopyIds;
use crate::metrics::Metrics;
use crate::mismatch::Mismatches;
use crate::plan;
use crate::plan::{Plan, Refusal, Step};
use crate::push_service::Transport;
use crate::redelivery::Taken;
use crate::retry;
use crate::tokens::TokenCache;
use crate::tombstones::Tombstones;
use crate::wire::event;
use crate::wire::event::Event;
use crate::wire::fault::Fault;
use crate::wire::headers::RetryHistory;
use crate::wire::recipient::RecipientRef;

use self::fault::{foreign_type, internal_error, refused};
pub use self::identity::identity;
use self::private_dns::PrivateDns;
use self::settlement::Settlement;
use self::unfamiliar::Unfamiliar;

/// What an operator decides about processing.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The applications and their keys.
    pub apps: Apps,
    /// The largest event, in bytes.
    pub event_limit: usize,
    /// Chunks and schedules.
    pub plan: plan::Settings,
    /// Who may be pushed to.
    pub guard: Arc<guard::Rules>,
    /// Retries, by the family of the push service.
    pub retry: retry::Policies,
    /// One deadline over a whole exchange with a push service.
    pub push_timeout: Duration,
    /// Whether messages without a topic get one of their own, so that a copy replaces the first.
    pub replace_duplicates: bool,
}

/// Processes deliveries, many at a time.
pub struct Pipeline<T> {
    settings: Settings,
    transport: T,
    tokens: TokenCache,
    drifts: ClockSkews,
    endpoint_turns: EndpointTurns,
    gates: Gates,
    mismatches: Mismatches,
    learned: SubscriptionKeys,
    gone_shares: GoneShares,
    ids: CopyIds,
    tombstones: Tombstones,
    unfamiliar: Unfamiliar,
    private_dns: PrivateDns,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    jitter: Arc<dyn Jitter>,
}

impl<T: Transport> Pipeline<T> {
    /// Creates a pipeline that sends by `transport`.
    pub fn new(
        settings: Settings,
        transport: T,
        gates: Gates,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        jitter: Arc<dyn Jitter>,
    ) -> Self {
        Self {
            settings,
            transport,
            tokens: TokenCache::default(),
            drifts: ClockSkews::default(),
            endpoint_turns: EndpointTurns::default(),
            gates,
            mismatches: Mismatches::default(),
            learned: SubscriptionKeys::default(),
            gone_shares: GoneShares::default(),
            ids: CopyIds::new(RandomState::new().hash_one(clock.now().wall)),
            tombstones: Tombstones::default(),
            unfamiliar: Unfamiliar::default(),
            private_dns: PrivateDns::default(),
            metrics,
            clock,
            jitter,
        }
    }

    /// Returns what was learned of subscriptions and their keys, which should outlive a restart.
    #[must_use]
    pub fn learned(&self) -> &SubscriptionKeys {
        &self.learned
    }

    /// Processes one delivery, unless its result is known, and returns what must be confirmed before
    /// it may be acknowledged.
    pub async fn process_once(
        &self,
        inbound: &Inbound,
        taken: Taken<Publication>,
    ) -> Arc<[Publication]> {
        match taken {
            Taken::Open(slot) => {
                let settled = slot.get_or_init(|| self.process(inbound)).await;
                Arc::clone(&settled.publications)
            }
            Taken::Finished => Arc::default(),
        }
    }

    /// Returns the time that deadlines go by: no later than any that it may be.
    fn now(&self) -> Now {
        let now = self.clock.now();
        let (wall, _latest) = self.drifts.bounds(now);
        Now { wall, ..now }
    }

    /// Processes one delivery and returns what must be confirmed before it may be acknowledged.
    pub async fn process(&self, inbound: &Inbound) -> Settled {
        let history = &history_of(inbound);
        let mut settlement = self.open(inbound, history);
        let turned = AssertUnwindSafe(self.settle_event(inbound, history, &mut settlement));
        if turned.catch_unwind().await.is_err() {
            self.metrics.panicked();
            let mut settlement = self.open(inbound, history);
            self.end_unread(&mut settlement, &internal_error());
            return settlement.finish(self.now().wall);
        }
        settlement.finish(self.now().wall)
    }

    /// Opens the settlement of a message that is for whatever application a silent event is for.
    fn open<'a>(&'a self, inbound: &'a Inbound, history: &RetryHistory) -> Settlement<'a> {
        let app = self.settings.apps.find(None).ok();
        Settlement::new(inbound, &self.ids, history, app, self.now().wall)
    }

    async fn settle_event<'a>(
        &self,
        inbound: &'a Inbound,
        history: &RetryHistory,
        settlement: &mut Settlement<'a>,
    ) {
        let limit = self.settings.event_limit;
        if inbound.body.len() > limit {
            let fault = event::too_large(inbound.body.len(), limit);
            return self.end_unread(settlement, &fault);
        }
        if let Some(fault) = foreign_type(inbound) {
            return self.end_unread(settlement, &fault);
        }
        let apps = &self.settings.apps;
        let event = match event::decode(&inbound.body) {
            Ok(event) => event,
            Err(error) => {
                let fault = refused(inbound).unwrap_or(error.fault);
                settlement.about(&error.about, apps.find(error.about.app.as_ref()).ok());
                return self.end_original(settlement, &error.recipient, &fault);
            }
        };
        let found = apps.find(event.about.app.as_ref());
        settlement.event(&event, found.as_ref().ok().copied());
        let app = match found {
            Ok(app) => app,
            Err(refusal) => return self.refuse(settlement, history, event, &refusal),
        };
        if let Some(fault) = refused(inbound) {
            settlement.quarantine(&fault);
            return self.refuse(settlement, history, event, &fault.into());
        }
        self.follow_plan(inbound, history, settlement, event, app)
            .await;
    }

    async fn follow_plan<'a>(
        &self,
        inbound: &'a Inbound,
        history: &RetryHistory,
        settlement: &mut Settlement<'a>,
        event: Event<'a>,
        app: &Arc<App>,
    ) {
        let timestamp = *inbound.properties.timestamp();
        let now = self.drifts.bounds(self.clock.now());
        let Plan { terms, step } =
            match plan::plan(&event, app, history, timestamp, &self.settings.plan, now) {
                Ok(plan) => plan,
                Err(refusal) => return self.refuse(settlement, history, event, &refusal),
            };
        settlement.terms(&terms);
        match step {
            Step::Split(split) => settlement.split(&event, split),
            Step::Wait {
                after,
                until,
                waiting,
            } => {
                self.metrics.recipient_waits(waiting);
                let within = terms.deadline.left(now.0).unwrap_or_default();
                settlement.wait_whole(&event, after, until, within, waiting);
            }
            Step::Expire { reason, detail } => {
                self.end_all(settlement, &event, &Refusal { reason, detail });
            }
            Step::Push { hold } => {
                if !hold.is_zero() {
                    tokio::time::sleep(hold).await;
                }
                self.push_all(settlement, &event, app, &terms, history)
                    .await;
            }
        }
    }

    /// Ends every recipient of an event without a request: here, or in its chunks if it is large.
    fn refuse<'a>(
        &self,
        settlement: &mut Settlement<'a>,
        history: &RetryHistory,
        event: Event<'a>,
        refusal: &Refusal,
    ) {
        let event = event.without_content();
        match plan::split(&event, self.settings.plan.chunk, history, Some(refusal)) {
            Some(split) => settlement.split(&event, split),
            None => self.end_all(settlement, &event, refusal),
        }
    }

    /// Ends a message whose body was not read.
    fn end_unread(&self, settlement: &mut Settlement<'_>, fault: &Fault) {
        self.end_original(settlement, &RecipientRef::default(), fault);
    }

    /// Ends a message that is no event: one result, and the original in quarantine.
    fn end_original(
        &self,
        settlement: &mut Settlement<'_>,
        about: &RecipientRef<'_>,
        fault: &Fault,
    ) {
        settlement.quarantine(fault);
        self.end(
            settlement,
            about,
            Refusal::from(fault.clone()).into_record(self.now().wall),
        );
    }
}

/// Reads what happened to a message before; only our own queues carry our own headers.
fn history_of(inbound: &Inbound) -> RetryHistory {
    let read = match inbound.source {
        Source::Due => RetryHistory::read,
        Source::Lane | Source::Undeliverable => RetryHistory::fresh,
    };
    inbound
        .properties
        .headers()
        .as_ref()
        .map(read)
        .unwrap_or_default()
}
