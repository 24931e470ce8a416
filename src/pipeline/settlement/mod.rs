//! What is owed to the broker for one message, gathered while it is processed.

mod copies;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lapin::types::FieldTable;

use crate::app::{App, EndpointForm, Results};
use crate::broker::{Inbound, Publication, Route, Settled};
use crate::message::{CopyIds, EventId, Name};
use crate::outcome::Record;
use crate::plan;
use crate::plan::Terms;
use crate::wire::Kind;
use crate::wire::event::{Event, EventRef};
use crate::wire::fault::Fault;
use crate::wire::headers::RetryHistory;
use crate::wire::quarantine;
use crate::wire::recipient::RecipientRef;
use crate::wire::result;
use crate::wire::subscription;
use crate::wire::subscription::Change;
use crate::wire::summary;
use crate::wire::summary::Tally;

use super::waiting::Groups;

/// The publications of one message, and what they all repeat of it.
pub(super) struct Settlement<'a> {
    inbound: &'a Inbound,
    ids: &'a CopyIds,
    history: RetryHistory,
    now: SystemTime,
    event_id: EventId,
    /// Whether the producer gave the event an id.
    is_named: bool,
    about: EventRef<'a>,
    app: Option<Name>,
    form: EndpointForm,
    results: Results,
    created_at: SystemTime,
    fan_out: bool,
    tally: Tally,
    ended: usize,
    waiting: Groups,
    quarantined: bool,
    publications: Vec<Publication>,
}

impl<'a> Settlement<'a> {
    /// Opens the settlement of a message of which only its properties are known.
    pub(super) fn new(
        inbound: &'a Inbound,
        ids: &'a CopyIds,
        history: &RetryHistory,
        app: Option<&Arc<App>>,
        now: SystemTime,
    ) -> Self {
        let mut settlement = Self {
            inbound,
            ids,
            is_named: false,
            history: history.clone(),
            now,
            event_id: name_of(inbound, history, None),
            about: EventRef::default(),
            app: None,
            form: EndpointForm::default(),
            results: Results::default(),
            created_at: history.created_at.unwrap_or(now),
            fan_out: false,
            tally: Tally::default(),
            ended: 0,
            waiting: Groups::default(),
            quarantined: false,
            publications: Vec::with_capacity(1),
        };
        let message_id = inbound.properties.message_id().as_ref();
        let id = message_id.and_then(|id| EventId::parse(id.as_str()));
        settlement.about(
            &EventRef {
                id,
                ..EventRef::default()
            },
            app,
        );
        settlement
    }

    /// Notes what could be read of the event, and the application it is for.
    pub(super) fn about(&mut self, about: &EventRef<'a>, app: Option<&Arc<App>>) {
        let named = about.id.clone().or_else(|| self.about.id.clone());
        self.event_id = name_of(self.inbound, &self.history, named.as_ref());
        self.is_named = named.is_some();
        self.about = EventRef {
            id: named,
            ..about.clone()
        };
        self.app = app.map(|app| app.name.clone());
        self.about.app = self.app.clone().or_else(|| about.app.clone());
        self.form = app.map(|app| app.endpoint).unwrap_or_default();
    }

    /// Notes an event that was understood.
    pub(super) fn event(&mut self, event: &Event<'a>, app: Option<&Arc<App>>) {
        self.about(&event.about, app);
        self.about.id = Some(self.event_id.clone());
        self.fan_out = event.is_fan_out();
        let of_app = app.map(|app| app.results).unwrap_or_default();
        self.results = event.results.unwrap_or(of_app);
    }

    /// Notes what holds for every recipient.
    pub(super) fn terms(&mut self, terms: &Terms) {
        self.created_at = terms.created_at;
        self.results = terms.results;
    }

    pub(super) fn event_id(&self) -> &EventId {
        &self.event_id
    }

    /// Returns what happened to the message on its earlier passes.
    pub(super) fn history(&self) -> &RetryHistory {
        &self.history
    }

    /// Returns the lane that the message travels in.
    pub(super) fn lane(&self) -> &'a Name {
        &self.inbound.lane
    }

    pub(super) fn redelivered(&self) -> bool {
        self.inbound.redelivered
    }

    /// Returns how old the event is; a clock that was set back makes it new.
    pub(super) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.created_at).unwrap_or_default()
    }

    /// Ends one recipient: its result, and the subscription event where there is one.
    pub(super) fn end(&mut self, about: &RecipientRef<'_>, record: &Record) {
        self.tell_result(about, record);
        self.tell_change(about, record);
    }

    /// Ends one recipient of whose subscription everything was told before: its result alone.
    pub(super) fn end_buried(&mut self, about: &RecipientRef<'_>, record: &Record) {
        self.tell_result(about, record);
    }

    fn tell_result(&mut self, about: &RecipientRef<'_>, record: &Record) {
        self.tally.settled(record.reason);
        self.ended += 1;
        if self.results.wants(record.outcome()) {
            let key = result::routing_key(
                self.app.as_ref(),
                record.outcome(),
                self.about.label.as_ref(),
            );
            let body = result::body(&self.about, Some(self.created_at), about, record, self.form);
            let message_id = result::message_id(&self.event_id, self.history.chunk, about, record);
            self.publish(Route::Results(key), Kind::Result, message_id, body);
        }
    }

    fn tell_change(&mut self, about: &RecipientRef<'_>, record: &Record) {
        let change = Change::of(record.reason);
        if let (Some(change), Some(app)) = (change, self.app.as_ref()) {
            let key = subscription::routing_key(app, change);
            let body = subscription::body(change, &self.about, about, record, self.form);
            let message_id = subscription::message_id(&self.event_id, about, change);
            self.publish(Route::Results(key), Kind::Subscription, message_id, body);
        }
    }

    /// Parks the original, once, for people to look at.
    pub(super) fn quarantine(&mut self, fault: &Fault) {
        if std::mem::replace(&mut self.quarantined, true) {
            return;
        }
        let source = format!("{}.{}", self.inbound.source.name(), self.inbound.lane);
        let headers = quarantine::headers(fault, &source, &self.inbound.properties);
        let message_id = self.event_id.to_string();
        let body = self.inbound.body.clone();
        self.publish(Route::Quarantine, Kind::Quarantine, message_id, body);
        if let Some(publication) = self.publications.last_mut() {
            publication.headers = headers;
        }
    }

    /// Closes the settlement.
    pub(super) fn finish(mut self, now: SystemTime) -> Settled {
        if self.fan_out && self.ended > 0 {
            let part = summary::Part {
                chunk: self.history.chunk,
                pass: self.history.pass,
            };
            let key = summary::routing_key(self.app.as_ref(), self.about.label.as_ref());
            let message_id = summary::message_id(&self.event_id, part, &self.inbound.body);
            let body = summary::body(&self.about, part, &self.tally, self.created_at, now);
            self.publish(Route::Results(key), Kind::Summary, message_id, body);
        }
        Settled {
            weight: self.publications.iter().map(Publication::weight).sum(),
            publications: self.publications.into(),
            is_named: self.is_named,
        }
    }

    fn publish(&mut self, to: Route, kind: Kind, message_id: String, body: Bytes) {
        let since_epoch = self.now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.publications.push(Publication {
            to,
            kind,
            message_id,
            correlation_id: Some(self.event_id.clone()),
            timestamp: since_epoch.as_secs(),
            headers: FieldTable::default(),
            body,
        });
    }
}

fn name_of(inbound: &Inbound, history: &RetryHistory, named: Option<&EventId>) -> EventId {
    let properties = &inbound.properties;
    let message_id = properties.message_id().as_ref().map(|id| id.as_str());
    plan::event_id(
        named,
        history,
        message_id,
        *properties.timestamp(),
        &inbound.body,
    )
}
