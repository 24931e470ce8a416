//! The recipients of one event. What happens to one does not affect another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::task::yield_now;

use crate::app::App;
use crate::guard;
use crate::metrics::Metrics;
use crate::origin::Service;
use crate::outcome::{Record, Waiting};
use crate::plan;
use crate::plan::quiet_hours;
use crate::plan::{Push, Quiet, Refusal, Seen, Terms, quiet};
use crate::push_service::Transport;
use crate::sender::{Next, Sender, Wait};
use crate::wire::event::Event;
use crate::wire::headers::RetryHistory;
use crate::wire::recipient::{RawRecipient, Recipient, RecipientRef};

use super::control_keys;
use super::fault::internal_error;
use super::gone_cache::{GoneCache, Tombstone};
use super::gone_ratio::GoneRatios;
use super::record;
use super::refusals::Refusals;
use super::settlement::Settlement;

/// Other tasks get their turn each time that so many recipients were read and their messages encrypted, which
/// takes about a millisecond.
const READ_AT_ONCE: usize = 16;

/// Plans, sends and ends recipients.
pub(super) struct Recipients {
    guard: Arc<guard::Rules>,
    replace_duplicates: bool,
    gone_cache: Arc<GoneCache>,
    gone_ratios: Arc<GoneRatios>,
    refusals: Arc<Refusals>,
    metrics: Arc<Metrics>,
}

/// What all recipients of an event share.
struct Common<'e, 'a> {
    event: &'e Event<'a>,
    app: &'e App,
    terms: &'e Terms,
    history: &'e RetryHistory,
    /// One for all, so that those who wait for the same time leave together.
    jitter: f64,
}

/// What followed for the recipient at an index of the event.
type Followed<'a> = (usize, RecipientRef<'a>, Next);

impl Recipients {
    /// Creates the state of a daemon that has ended no recipient.
    pub(super) fn new(
        guard: Arc<guard::Rules>,
        replace_duplicates: bool,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            guard,
            replace_duplicates,
            gone_cache: Arc::default(),
            gone_ratios: Arc::default(),
            refusals: Arc::default(),
            metrics,
        }
    }

    /// Returns the same with other settings and what is known of subscriptions.
    pub(super) fn with_settings(&self, guard: Arc<guard::Rules>, replace_duplicates: bool) -> Self {
        Self {
            guard,
            replace_duplicates,
            gone_cache: Arc::clone(&self.gone_cache),
            gone_ratios: Arc::clone(&self.gone_ratios),
            refusals: Arc::clone(&self.refusals),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Sends to as many recipients at once as the lane has slots for.
    ///
    /// Recipients without a slot are not decoded yet. That bounds the memory of large events, and
    /// such a recipient is not deferred to the broker for want of a permit. The first recipient of
    /// each message needs no slot, so messages never block each other.
    pub(super) async fn push_all<'a, T: Transport>(
        &self,
        sender: &Sender<T>,
        settlement: &mut Settlement<'a>,
        event: &Event<'a>,
        app: &App,
        terms: &Terms,
    ) {
        let (lane, history) = (settlement.lane(), settlement.history());
        let common = Common {
            event,
            app,
            terms,
            history,
            jitter: sender.jitter(),
        };
        let event_id = settlement.event_id().clone();
        let keys = control_keys::of_event(event, app, &event_id, terms);
        let slots = sender.slots(lane);
        let mut seen = Seen::default();
        let mut recipients = event.recipients();
        let mut sending = FuturesUnordered::new();
        let mut followed = Vec::with_capacity(event.recipient_count());
        let is_only = event.recipient_count() == 1;
        let mut read = 0;
        loop {
            let slot = slots.take();
            if read < READ_AT_ONCE
                && (slot.is_some() || sending.is_empty())
                && let Some(raw) = recipients.next()
            {
                read += 1;
                let now = sender.now().wall;
                let (about, planned) = self.plan_one(raw, &common, &mut seen, now);
                let push = match planned {
                    Ok(push) => push,
                    Err(next) => {
                        followed.push((raw.index, about, next));
                        continue;
                    }
                };
                let id = about.id_text();
                let of_recipient =
                    control_keys::of_recipient(keys, Some(push.endpoint()), id.as_deref());
                if let Some(refusal) = sender.withdrawn().recipient(of_recipient, now) {
                    let next = Next::settled(refusal.into_record(now));
                    followed.push((raw.index, about, next));
                } else if let Some(push) = self.skip_if_gone(push, settlement, &about, &common, now)
                {
                    let pushing = async move {
                        let _slot = slot;
                        let keys =
                            control_keys::of_recipient(keys, Some(push.endpoint()), id.as_deref());
                        let next = sender.send(app, push, lane, terms, history, keys).await;
                        (raw.index, about, next)
                    };
                    if is_only {
                        // Boxed, so that the future of an event of many recipients is no larger.
                        followed.push(Box::pin(pushing).await);
                    } else {
                        sending.push(pushing);
                    }
                }
                continue;
            }
            drop(slot);
            tokio::select! {
                biased;
                Some(next) = sending.next() => followed.push(next),
                () = yield_now(), if read == READ_AT_ONCE => read = 0,
                else => break,
            }
        }
        followed.sort_unstable_by_key(|(index, ..)| *index);
        let now = sender.now().wall;
        self.settle_all(settlement, event, app, followed, now);
    }

    /// Returns the push, unless its subscription was called gone since the event was created: then the
    /// recipient ends here.
    ///
    /// The event by which it was found gone is sent again when it is delivered again: its subscription
    /// event was not confirmed.
    fn skip_if_gone(
        &self,
        mut push: Push,
        settlement: &mut Settlement<'_>,
        about: &RecipientRef<'_>,
        common: &Common<'_, '_>,
        now: SystemTime,
    ) -> Option<Push> {
        let subscription = push.message.subscription.endpoint.fingerprint();
        let (app, created_at) = (&common.app.name, common.terms.created_at);
        let redelivered = settlement.redelivered();
        match self.gone_cache.find(app, subscription) {
            Some(tombstone) if redelivered && tombstone.is_of(settlement.event_id()) => {}
            Some(tombstone) if tombstone.covers(created_at) => {
                self.end_as_gone(settlement, about, &tombstone, now);
                return None;
            }
            Some(tombstone) if tombstone.is_gone() && !redelivered => {
                self.metrics.pushed_after_gone();
            }
            Some(_) | None => {}
        }
        if self.replace_duplicates {
            push.replace_duplicates(settlement.event_id());
        }
        Some(push)
    }

    /// Settles every recipient, in the order of the event.
    fn settle_all<'a>(
        &self,
        settlement: &mut Settlement<'a>,
        event: &Event<'a>,
        app: &App,
        followed: Vec<Followed<'a>>,
        now: SystemTime,
    ) {
        for (index, about, next) in followed {
            if let (Next::Settled(record), Some(subscription)) = (&next, about.fingerprint) {
                let event = settlement.event_id();
                self.gone_cache
                    .record(&app.name, subscription, event, record);
            }
            self.settle(settlement, index, &about, next, now);
        }
        settlement.publish_waiting(event);
    }

    fn settle(
        &self,
        settlement: &mut Settlement<'_>,
        index: usize,
        about: &RecipientRef<'_>,
        next: Next,
        now: SystemTime,
    ) {
        match next {
            Next::Settled(record) => self.end(settlement, about, *record),
            Next::Panicked => {
                settlement.quarantine(&internal_error());
                let record = Refusal::from(internal_error()).into_record(now);
                self.end(settlement, about, record);
            }
            Next::Wait(wait) => {
                record::waits(&self.metrics, settlement, about, &wait);
                settlement.wait(index, wait);
            }
        }
    }

    /// Decodes and plans one recipient. An error is what follows for a recipient that is not sent to.
    fn plan_one<'a>(
        &self,
        raw: RawRecipient<'a>,
        common: &Common<'_, 'a>,
        seen: &mut Seen,
        now: SystemTime,
    ) -> (RecipientRef<'a>, Result<Push, Next>) {
        let Common {
            event, app, terms, ..
        } = common;
        let refused = |refusal: Refusal| Next::settled(refusal.into_record(now));
        let planned = catch_unwind(AssertUnwindSafe(|| {
            match event.decode_recipient(raw, common.history.position_of(raw.index)) {
                Ok(recipient) => {
                    let recipient = recipient.known_to(&self.guard.services);
                    let guard = &self.guard;
                    let push =
                        plan::plan_recipient(&recipient, event, app, terms, guard, seen, now);
                    let push = push.map_err(refused);
                    let push = push.and_then(|push| match not_now(&recipient, common, now) {
                        Some(next) => Err(next),
                        None => Ok(push),
                    });
                    (recipient.about, push)
                }
                Err(error) => (error.about, Err(refused(error.fault.into()))),
            }
        }));
        match planned {
            Ok(planned) => planned,
            Err(_panic) => {
                self.metrics.panicked();
                (RecipientRef::default(), Err(Next::Panicked))
            }
        }
    }

    /// Ends every recipient in the same way.
    pub(super) fn end_all<'a>(
        &self,
        settlement: &mut Settlement<'a>,
        event: &Event<'a>,
        refusal: &Refusal,
        now: SystemTime,
    ) {
        for raw in event.recipients() {
            let about = match event.decode_recipient(raw, None) {
                Ok(recipient) => recipient.about,
                Err(error) => error.about,
            };
            self.end(settlement, &about, refusal.clone().into_record(now));
        }
    }

    /// Ends one recipient.
    pub(super) fn end(
        &self,
        settlement: &mut Settlement<'_>,
        about: &RecipientRef<'_>,
        record: Record,
    ) {
        let record = counted(record, settlement.history());
        record::settled(&self.metrics, settlement, about, &record);
        record::gone_ratio(&self.metrics, &self.gone_ratios, about, &record);
        self.refusals
            .report(about.service.unwrap_or(Service::Other), &record);
        settlement.end(about, &record);
    }

    /// Ends one recipient whose subscription was called gone before.
    fn end_as_gone(
        &self,
        settlement: &mut Settlement<'_>,
        about: &RecipientRef<'_>,
        tombstone: &Tombstone,
        now: SystemTime,
    ) {
        self.metrics.tombstone_hit();
        let record = counted(tombstone.record(now), settlement.history());
        record::settled(&self.metrics, settlement, about, &record);
        settlement.end_as_gone(about, &record);
    }
}

/// Returns what follows for a recipient that may not be pushed to now.
fn not_now(recipient: &Recipient<'_>, common: &Common<'_, '_>, now: SystemTime) -> Option<Next> {
    let deadline = &common.terms.deadline;
    let expired = |detail| Next::settled(Record::unsent(deadline.reason, now, detail));
    // The recipient may have waited for its slot since the event was found in time.
    let Some(left) = deadline.left(now) else {
        return Some(expired("its time ran out while it waited for room to send"));
    };
    let hours = recipient.options.hours.as_ref();
    Some(match quiet(hours, deadline, now, common.jitter)? {
        Quiet::Until(until) => {
            let after = until.duration_since(now).unwrap_or_default();
            let waiting = Waiting::QuietHours;
            Next::Wait(Wait::without_attempt(waiting, after, left, common.history))
        }
        Quiet::TooLong => expired(quiet_hours::OUTLASTS),
    })
}

/// Adds the attempts and requests of earlier passes to a record.
fn counted(record: Record, history: &RetryHistory) -> Record {
    Record {
        attempts: record.attempts.max(history.attempts),
        requests: record.requests.max(history.requests),
        status: record.status.or(history.last_status),
        ..record
    }
}
