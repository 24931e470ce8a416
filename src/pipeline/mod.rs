//! From a delivery to the publications that settle it.
//!
//! [`Pipeline::process`] cannot fail. It reads the event (`reading`), sends to each recipient
//! (`recipients`, [`crate::sender`]) and returns what must be confirmed before the delivery may be
//! acknowledged (`settlement`): results, subscription events, copies that wait, and originals for the
//! quarantine. A panic costs one recipient and leaves the original in quarantine.

mod campaigns;
mod control_keys;
mod fault;
mod gone_cache;
mod gone_ratio;
mod identity;
mod reading;
mod recipients;
mod record;
mod refusals;
mod settlement;
#[cfg(test)]
mod tests;
mod waiting;

use std::hash::{BuildHasher as _, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tracing::{Instrument as _, Span, error_span};

use crate::app::{App, Apps};
use crate::broker::{Inbound, Publication, Settled};
use crate::control::Withdrawn;
use crate::gate;
use crate::guard;
use crate::message::CopyIds;
use crate::metrics::Metrics;
use crate::outcome::Warning;
use crate::plan;
use crate::plan::{Moment, Plan, Refusal, Step};
use crate::push_service::Transport;
use crate::redelivery::Taken;
use crate::sender;
use crate::sender::{Sender, SubscriptionKeys};
use crate::subscription::Endpoint;
use crate::wire::body;
use crate::wire::body::EventBody;
use crate::wire::event::{Event, EventRef};
use crate::wire::fault::Fault;
use crate::wire::headers::RetryHistory;
use crate::wire::recipient::RecipientRef;
use crate::wire::trace::Trace;

use self::campaigns::Campaigns;
use self::fault::internal_error;
use self::reading::{Reading, Refused, find_app, history_of};
use self::recipients::Recipients;
use self::settlement::{Opening, Settlement};

pub use self::identity::identity;

/// The operator's choices about processing.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The applications and their keys.
    pub apps: Apps,
    /// The largest event, in bytes.
    pub event_limit: usize,
    /// Chunks and schedules.
    pub plan: plan::Settings,
    /// Which endpoints may be pushed to.
    pub guard: Arc<guard::Rules>,
    /// Whether messages without a topic get one of their own, so that a copy replaces the first.
    pub replace_duplicates: bool,
}

/// Processes deliveries, many at a time.
pub struct Pipeline<T> {
    settings: Settings,
    sender: Sender<T>,
    recipients: Recipients,
    ids: Arc<CopyIds>,
    campaigns: Arc<Campaigns>,
    metrics: Arc<Metrics>,
}

impl<T: Transport> Pipeline<T> {
    /// Creates a pipeline that sends by `sender`.
    pub fn new(settings: Settings, sender: Sender<T>, metrics: Arc<Metrics>) -> Self {
        let recipients = Recipients::new(
            Arc::clone(&settings.guard),
            settings.replace_duplicates,
            Arc::clone(&metrics),
        );
        // Of two numbers that are drawn, an id of a copy shows one and a progress message the other.
        let draw = || RandomState::new().hash_one(sender.now().wall);
        Self {
            recipients,
            ids: Arc::new(CopyIds::new(draw())),
            campaigns: Arc::new(Campaigns::new(draw())),
            settings,
            sender,
            metrics,
        }
    }

    /// Returns a pipeline with other settings that knows what this one has learned. It sends by
    /// `transport` if there is one, else as this one does.
    ///
    /// A delivery ends in the pipeline in which it began.
    #[must_use]
    pub fn with_settings(
        &self,
        settings: Settings,
        sending: sender::Settings,
        gates: gate::Settings,
        transport: Option<T>,
    ) -> Self {
        let guard = Arc::clone(&settings.guard);
        Self {
            recipients: self
                .recipients
                .with_settings(guard, settings.replace_duplicates),
            ids: Arc::clone(&self.ids),
            campaigns: Arc::clone(&self.campaigns),
            sender: self.sender.with_settings(sending, gates, transport),
            metrics: Arc::clone(&self.metrics),
            settings,
        }
    }

    /// Returns the keys that subscriptions were found to be made with, which should outlive a restart.
    #[must_use]
    pub fn subscription_keys(&self) -> &Arc<SubscriptionKeys> {
        self.sender.subscription_keys()
    }

    /// Returns what is cancelled and forgotten, for the reader of control messages.
    #[must_use]
    pub fn withdrawn(&self) -> &Arc<Withdrawn> {
        self.sender.withdrawn()
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

    /// Processes one delivery and returns what must be confirmed before it may be acknowledged.
    pub async fn process(&self, inbound: &Inbound) -> Settled {
        let history = &history_of(inbound);
        let span = log_span(&history.trace);
        self.process_message(inbound, history)
            .instrument(span)
            .await
    }

    async fn process_message(&self, inbound: &Inbound, history: &RetryHistory) -> Settled {
        let found = &body::open(&inbound.properties, &inbound.body);
        let settling = AssertUnwindSafe(self.settle(inbound, found, history));
        let settlement = settling.catch_unwind().await.unwrap_or_else(|_panic| {
            self.metrics.panicked();
            self.unread(inbound, history, &internal_error())
        });
        if let Some((campaign, news)) = settlement.news() {
            self.campaigns.add(campaign, &news);
        }
        settlement.finish(self.sender.now().wall)
    }

    /// Returns a progress message for each campaign of which something is new since the last call.
    #[must_use]
    pub fn progress(&self) -> Vec<Publication> {
        self.campaigns.report(self.sender.now().wall)
    }

    async fn settle<'a>(
        &'a self,
        inbound: &'a Inbound,
        found: &'a Result<EventBody, Fault>,
        history: &'a RetryHistory,
    ) -> Settlement<'a> {
        let settings = &self.settings;
        let (earliest, latest) = self.sender.time_bounds();
        let moment = Moment {
            earliest,
            latest,
            jitter: self.sender.jitter(),
        };
        match reading::read(
            inbound,
            found,
            history,
            &settings.apps,
            settings.event_limit,
            &settings.plan,
            moment,
        ) {
            Reading::Planned { event, app, plan } => {
                let opening = Opening::of_plan(&event, app, &plan.terms);
                let mut settlement = self.open(inbound, history, opening);
                match self.withdrawal(&settlement, &event, app, &plan) {
                    Some(refusal) => self.end_event(&mut settlement, event, &refusal),
                    None => self.follow_plan(&mut settlement, &event, app, plan).await,
                }
                settlement
            }
            Reading::Refused(refused) => {
                let opening = Opening::of_event(&refused.event, refused.app);
                let mut settlement = self.open(inbound, history, opening);
                self.refuse(&mut settlement, refused);
                settlement
            }
            Reading::NotAnEvent {
                about,
                recipient,
                fault,
            } => {
                let app = find_app(&settings.apps, about.app.as_ref(), history).ok();
                let opening = Opening::of_part(*about, app);
                let mut settlement = self.open(inbound, history, opening);
                self.end_original(&mut settlement, &recipient, &fault);
                settlement
            }
            Reading::Unread(fault) => self.unread(inbound, history, &fault),
        }
    }

    fn open<'a>(
        &'a self,
        inbound: &'a Inbound,
        history: &'a RetryHistory,
        opening: Opening<'a>,
    ) -> Settlement<'a> {
        let now = self.sender.now().wall;
        let key = history.routing_key.as_deref();
        let other = self.settings.apps.mismatch(opening.asked(), key);
        let warning = other.cloned().map(Warning::RoutingKeyMismatch);
        let mut settlement = Settlement::new(inbound, &self.ids, history, opening, now);
        settlement.warn(warning);
        settlement
    }

    async fn follow_plan<'a>(
        &self,
        settlement: &mut Settlement<'a>,
        event: &Event<'a>,
        app: &App,
        plan: Plan,
    ) {
        let Plan { terms, step } = plan;
        match step {
            Step::Split(split) => {
                let now = self.sender.now().wall;
                let within = terms.deadline.left(now).unwrap_or_default();
                settlement.split(event, split, within);
            }
            Step::Wait {
                after,
                until,
                waiting,
            } => {
                self.metrics.recipient_waits(waiting);
                let now = self.sender.now().wall;
                let within = terms.deadline.left(now).unwrap_or_default();
                settlement.wait_whole(event, after, until, within, waiting);
            }
            Step::Expire { reason, detail } => {
                let refusal = Refusal { reason, detail };
                self.end_all(settlement, event, &refusal);
            }
            Step::Push { hold } => {
                if !hold.is_zero() {
                    tokio::time::sleep(hold).await;
                }
                self.recipients
                    .push_all(&self.sender, settlement, event, app, &terms)
                    .await;
            }
        }
    }

    /// Ends every recipient of an event without a request: here, or in its chunks if it is large.
    fn refuse<'a>(&self, settlement: &mut Settlement<'a>, refused: Refused<'a>) {
        let Refused {
            event,
            refusal,
            quarantine,
            ..
        } = refused;
        if let Some(fault) = quarantine {
            settlement.quarantine(&fault);
        }
        self.end_event(settlement, event, &refusal);
    }

    fn end_event<'a>(&self, settlement: &mut Settlement<'a>, event: Event<'a>, refusal: &Refusal) {
        let event = event.without_content();
        let chunk = self.settings.plan.chunk;
        match plan::split(&event, chunk, settlement.history(), Some(refusal)) {
            Some(split) => settlement.split(&event, split, Duration::ZERO),
            None => self.end_all(settlement, &event, refusal),
        }
    }

    /// Returns why an event was taken back, if it was.
    ///
    /// Where it goes on waiting, its one recipient may have been, too. Those of many are looked up when
    /// they are pushed to.
    fn withdrawal(
        &self,
        settlement: &Settlement<'_>,
        event: &Event<'_>,
        app: &App,
        plan: &Plan,
    ) -> Option<Refusal> {
        let withdrawn = self.sender.withdrawn();
        if withdrawn.is_empty() {
            return None;
        }
        let now = self.sender.now().wall;
        let keys = control_keys::of_event(event, app, settlement.event_id(), &plan.terms);
        if event.is_fan_out() || !matches!(plan.step, Step::Wait { .. }) {
            return withdrawn.event(keys, now);
        }
        let about = event.only_recipient();
        let id = about.id_text();
        let endpoint = about.endpoint.as_deref();
        let endpoint = endpoint.and_then(|text| Endpoint::parse(text).ok());
        let keys = control_keys::of_recipient(keys, endpoint.as_ref(), id.as_deref());
        withdrawn.recipient(keys, now)
    }

    fn end_all<'a>(&self, settlement: &mut Settlement<'a>, event: &Event<'a>, refusal: &Refusal) {
        let now = self.sender.now().wall;
        self.recipients.end_all(settlement, event, refusal, now);
    }

    /// Settles a message whose body was not read. It is for the application of an event that names none.
    fn unread<'a>(
        &'a self,
        inbound: &'a Inbound,
        history: &'a RetryHistory,
        fault: &Fault,
    ) -> Settlement<'a> {
        let app = find_app(&self.settings.apps, None, history).ok();
        let opening = Opening::of_part(EventRef::default(), app);
        let mut settlement = self.open(inbound, history, opening);
        self.end_original(&mut settlement, &RecipientRef::default(), fault);
        settlement
    }

    /// Ends a message that is no event: one result, and the original in quarantine.
    fn end_original(
        &self,
        settlement: &mut Settlement<'_>,
        about: &RecipientRef<'_>,
        fault: &Fault,
    ) {
        settlement.quarantine(fault);
        let record = Refusal::from(fault.clone()).into_record(self.sender.now().wall);
        self.recipients.end(settlement, about, record);
    }
}

/// Returns the span that puts the trace id into every log line about a message; none for a message
/// without a trace. Its level is that of the quietest filter, since a line never lacks a span of its level.
fn log_span(trace: &Trace) -> Span {
    match trace.id() {
        Some(trace_id) => error_span!("event", trace_id),
        None => Span::none(),
    }
}
