//! The recipients of one event: each fares by itself.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::app::App;
use crate::outcome::Record;
use crate::plan;
use crate::plan::{Push, Refusal, Seen, Terms};
use crate::push_service::Transport;
use crate::tombstones::Tombstone;
use crate::wire::event::Event;
use crate::wire::headers::RetryHistory;
use crate::wire::recipient::{RawRecipient, Recipient, RecipientRef};

use super::Pipeline;
use super::fate::Fate;
use super::fault::internal_error;
use super::record;
use super::settlement::Settlement;

impl<T: Transport> Pipeline<T> {
    /// Pushes to as many recipients at once as the lane has slots for; each fares by itself.
    ///
    /// What has no slot is not even looked at, so that large events take little memory and nobody
    /// is deferred to the broker who would only have waited for his own event. One of every message
    /// goes on without a slot: messages never wait for each other.
    pub(super) async fn push_all<'a>(
        &self,
        settlement: &mut Settlement<'a>,
        event: &Event<'a>,
        app: &App,
        terms: &Terms,
        history: &RetryHistory,
    ) {
        let lane = settlement.lane();
        let slots = self.gates.slots(lane);
        let mut seen = Seen::default();
        let mut recipients = event.recipients();
        let mut turns = FuturesUnordered::new();
        let mut fates = Vec::with_capacity(event.recipient_count());
        loop {
            let slot = slots.take();
            if (slot.is_some() || turns.is_empty())
                && let Some(raw) = recipients.next()
            {
                let (about, planned) = self.plan_one(raw, event, app, terms, history, &mut seen);
                match planned {
                    Ok(push) => {
                        if let Some(push) = self.unburied(push, settlement, &about, app, terms) {
                            turns.push(async move {
                                let _slot = slot;
                                let attempt = self.attempt_safely(app, push, lane, terms, history);
                                (raw.index, about, attempt.await)
                            });
                        }
                    }
                    Err(fate) => fates.push((raw.index, about, fate)),
                }
                continue;
            }
            drop(slot);
            let Some(fate) = turns.next().await else {
                break;
            };
            fates.push(fate);
        }
        fates.sort_unstable_by_key(|(index, ..)| *index);
        self.take_all(settlement, event, app, fates);
    }

    /// Returns who is to be pushed to; a recipient whose subscription was called gone is ended.
    fn unburied(
        &self,
        mut push: Push,
        settlement: &mut Settlement<'_>,
        about: &RecipientRef<'_>,
        app: &App,
        terms: &Terms,
    ) -> Option<Push> {
        if let Some(stone) = self.tombstone_of(&push, settlement, app, terms) {
            self.end_buried(settlement, about, &stone);
            return None;
        }
        if self.settings.replace_duplicates {
            push.replace_duplicates(settlement.event_id());
        }
        Some(push)
    }

    /// Takes what one pass brought every recipient, in their order.
    fn take_all<'a>(
        &self,
        settlement: &mut Settlement<'a>,
        event: &Event<'a>,
        app: &App,
        fates: Vec<(usize, RecipientRef<'a>, Fate)>,
    ) {
        for (index, about, fate) in fates {
            if let (Fate::Settled(record), Some(subscription)) = (&fate, about.fingerprint) {
                self.tombstones.note(&app.name, subscription, record);
            }
            self.take(settlement, index, &about, fate);
        }
        settlement.send_waiting_off(event);
    }

    /// Finds out a subscription that was called gone since the event was created.
    ///
    /// A redelivery is pushed all the same: it may be the very event by which the subscription was
    /// found gone, whose subscription event nobody has confirmed.
    fn tombstone_of(
        &self,
        push: &Push,
        settlement: &Settlement<'_>,
        app: &App,
        terms: &Terms,
    ) -> Option<Tombstone> {
        if settlement.redelivered() {
            return None;
        }
        let subscription = push.message.subscription.endpoint.fingerprint();
        self.tombstones
            .find(&app.name, subscription, terms.created_at)
    }

    /// Takes what one pass brought a recipient.
    fn take(
        &self,
        settlement: &mut Settlement<'_>,
        index: usize,
        about: &RecipientRef<'_>,
        fate: Fate,
    ) {
        match fate {
            Fate::Settled(record) => self.end(settlement, about, *record),
            Fate::Broken => {
                settlement.quarantine(&internal_error());
                let record = Refusal::from(internal_error()).into_record(self.now().wall);
                self.end(settlement, about, record);
            }
            Fate::Waits(wait) => {
                record::waits(&self.metrics, settlement, about, &wait);
                settlement.wait(index, wait);
            }
        }
    }

    /// Decodes and plans one recipient; what cannot be pushed to has its fate already.
    fn plan_one<'a>(
        &self,
        raw: RawRecipient<'a>,
        event: &Event<'a>,
        app: &App,
        terms: &Terms,
        history: &RetryHistory,
        seen: &mut Seen,
    ) -> (RecipientRef<'a>, Result<Push, Fate>) {
        let now = self.now().wall;
        let planned = catch_unwind(AssertUnwindSafe(|| {
            match Recipient::decode(raw, event, history.place(raw.index)) {
                Ok(recipient) => {
                    let guard = &self.settings.guard;
                    let recipient = recipient.known_to(&guard.services);
                    let push =
                        plan::plan_recipient(&recipient, event, app, terms, guard, seen, now);
                    (recipient.about, push)
                }
                Err(error) => (error.about, Err(error.fault.into())),
            }
        }));
        match planned {
            // It may have waited for its seat since the event was found in time.
            Ok((about, Ok(_))) if terms.deadline.left(now).is_none() => {
                let detail = "its time ran out while it waited for room to send";
                let record = Record::unsent(terms.deadline.reason, now, detail);
                (about, Err(Fate::settled(record)))
            }
            Ok((about, Ok(push))) => (about, Ok(push)),
            Ok((about, Err(refusal))) => (about, Err(Fate::settled(refusal.into_record(now)))),
            Err(_panic) => {
                self.metrics.panicked();
                (RecipientRef::default(), Err(Fate::Broken))
            }
        }
    }

    /// Ends every recipient in the same way.
    pub(super) fn end_all<'a>(
        &self,
        settlement: &mut Settlement<'a>,
        event: &Event<'a>,
        refusal: &Refusal,
    ) {
        let now = self.now().wall;
        for raw in event.recipients() {
            let about = match Recipient::decode(raw, event, None) {
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
        self.watch_gone(about, &record);
        settlement.end(about, &record);
    }

    /// Ends one recipient whose subscription was called gone before.
    fn end_buried(
        &self,
        settlement: &mut Settlement<'_>,
        about: &RecipientRef<'_>,
        stone: &Tombstone,
    ) {
        self.metrics.tombstone_hit();
        let record = counted(stone.record(self.now().wall), settlement.history());
        record::settled(&self.metrics, settlement, about, &record);
        settlement.end_buried(about, &record);
    }
}

/// Counts what earlier passes tried, whatever this one ends a recipient for.
fn counted(record: Record, history: &RetryHistory) -> Record {
    Record {
        attempts: record.attempts.max(history.attempts),
        requests: record.requests.max(history.requests),
        status: record.status.or(history.last_status),
        ..record
    }
}
