//! The publications that settle one message, gathered while it is processed.

mod copies;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lapin::types::FieldTable;

use crate::app::{App, EndpointForm, Results};
use crate::broker::{Inbound, Publication, Route, Settled};
use crate::message::{CopyIds, EventId, Name};
use crate::outcome::{Record, Warning};
use crate::plan;
use crate::plan::Terms;
use crate::wire::Kind;
use crate::wire::event::{Event, EventRef};
use crate::wire::fault::Fault;
use crate::wire::headers::RetryHistory;
use crate::wire::progress::{Campaign, News};
use crate::wire::quarantine;
use crate::wire::recipient::RecipientRef;
use crate::wire::result;
use crate::wire::subscription;
use crate::wire::subscription::Change;
use crate::wire::summary;
use crate::wire::summary::Tally;

use super::waiting::Groups;

/// What is known of a message when its settlement is opened.
pub(super) struct Opening<'a> {
    about: EventRef<'a>,
    app: Option<&'a Arc<App>>,
    results: Results,
    created_at: Option<SystemTime>,
    is_event: bool,
    fan_out: bool,
    recipients: usize,
}

impl<'a> Opening<'a> {
    /// Returns the application that the event itself names.
    pub(super) fn asked(&self) -> Option<&Name> {
        self.about.app.as_ref()
    }

    /// Opens with the part that could be read of a body that is no event.
    pub(super) fn of_part(about: EventRef<'a>, app: Option<&'a Arc<App>>) -> Self {
        Self {
            about,
            app,
            results: Results::default(),
            created_at: None,
            is_event: false,
            fan_out: false,
            recipients: 1,
        }
    }

    /// Opens with an event that has no plan.
    pub(super) fn of_event(event: &Event<'a>, app: Option<&'a Arc<App>>) -> Self {
        let of_app = app.map(|app| app.results).unwrap_or_default();
        Self {
            results: event.results.unwrap_or(of_app),
            is_event: true,
            fan_out: event.is_fan_out(),
            recipients: event.recipient_count(),
            ..Self::of_part(event.about.clone(), app)
        }
    }

    /// Opens with an event and its plan.
    pub(super) fn of_plan(event: &Event<'a>, app: &'a Arc<App>, terms: &Terms) -> Self {
        Self {
            results: terms.results,
            created_at: Some(terms.created_at),
            ..Self::of_event(event, Some(app))
        }
    }
}

/// The publications of one message, and the members that they all repeat.
pub(super) struct Settlement<'a> {
    inbound: &'a Inbound,
    ids: &'a CopyIds,
    history: &'a RetryHistory,
    now: SystemTime,
    event_id: EventId,
    /// Whether the producer gave the event an id.
    is_named: bool,
    /// Whether the id was derived, on this pass or an earlier one.
    derived_id: bool,
    about: EventRef<'a>,
    app: Option<&'a Arc<App>>,
    results: Results,
    created_at: SystemTime,
    fan_out: bool,
    /// How many recipients the message has.
    recipients: usize,
    /// Whether all of them go on waiting.
    waits_whole: bool,
    tally: Tally,
    ended: usize,
    waiting: Groups,
    quarantined: bool,
    publications: Vec<Publication>,
}

impl<'a> Settlement<'a> {
    /// Opens the settlement of a message.
    pub(super) fn new(
        inbound: &'a Inbound,
        ids: &'a CopyIds,
        history: &'a RetryHistory,
        opening: Opening<'a>,
        now: SystemTime,
    ) -> Self {
        let Opening { about, app, .. } = opening;
        let properties = &inbound.properties;
        let message_id = properties.message_id().as_ref();
        let message_id = message_id.and_then(|id| EventId::parse(id.as_str()));
        let named = about.id.clone().or(message_id);
        let timestamp = *properties.timestamp();
        let event_id = plan::event_id(named.as_ref(), history, None, timestamp, &inbound.body);
        let is_named = named.is_some();
        let derived_id = match history.event_id {
            Some(_) => history.derived_id,
            None => !is_named,
        };
        let warning = (derived_id && opening.is_event).then_some(Warning::DerivedId);
        let about = EventRef {
            warnings: Vec::from_iter(warning),
            id: named.or_else(|| opening.is_event.then(|| event_id.clone())),
            app: app.map(|app| app.name.clone()).or(about.app),
            ..about
        };
        Self {
            inbound,
            ids,
            history,
            now,
            event_id,
            is_named,
            derived_id,
            about,
            app,
            results: opening.results,
            created_at: opening.created_at.or(history.created_at).unwrap_or(now),
            fan_out: opening.fan_out,
            recipients: opening.recipients,
            waits_whole: false,
            tally: Tally::default(),
            ended: 0,
            waiting: Groups::default(),
            quarantined: false,
            publications: Vec::with_capacity(1),
        }
    }

    /// Adds a warning to every result.
    pub(super) fn warn(&mut self, warning: Option<Warning>) {
        self.about.warnings.extend(warning);
    }

    pub(super) fn event_id(&self) -> &EventId {
        &self.event_id
    }

    /// Returns the history of the message's earlier passes.
    pub(super) fn history(&self) -> &'a RetryHistory {
        self.history
    }

    /// Returns the lane that the message travels in.
    pub(super) fn lane(&self) -> &'a Name {
        &self.inbound.lane
    }

    pub(super) fn redelivered(&self) -> bool {
        self.inbound.redelivered
    }

    /// Returns the age of the event; zero if the clock was set back.
    pub(super) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.created_at).unwrap_or_default()
    }

    /// Ends one recipient: its result, and the subscription event where there is one.
    pub(super) fn end(&mut self, about: &RecipientRef<'_>, record: &Record) {
        self.publish_result(about, record);
        self.publish_change(about, record);
    }

    /// Ends one recipient whose subscription event was published before: its result alone.
    pub(super) fn end_as_gone(&mut self, about: &RecipientRef<'_>, record: &Record) {
        self.publish_result(about, record);
    }

    /// Returns the name of the configured application that the message is for.
    #[must_use]
    pub(super) fn app_name(&self) -> Option<&Name> {
        self.app.map(|app| &app.name)
    }

    fn form(&self) -> EndpointForm {
        self.app.map(|app| app.endpoint).unwrap_or_default()
    }

    fn publish_result(&mut self, about: &RecipientRef<'_>, record: &Record) {
        self.tally.settled(record.reason);
        self.ended += 1;
        if self.results.wants(record.outcome()) {
            let key = result::routing_key(
                self.app.map(|app| &app.name),
                record.outcome(),
                self.about.label.as_ref(),
            );
            let body = result::body(
                &self.about,
                Some(self.created_at),
                about,
                record,
                self.form(),
            );
            let message_id = result::message_id(&self.event_id, self.history.chunk, about, record);
            self.publish(Route::Results(key), Kind::Result, message_id, body);
        }
    }

    fn publish_change(&mut self, about: &RecipientRef<'_>, record: &Record) {
        let change = Change::of(record.reason);
        if let (Some(change), Some(app)) = (change, self.app) {
            let key = subscription::routing_key(&app.name, change);
            let body = subscription::body(change, &self.about, about, record, self.form());
            let message_id = subscription::message_id(&self.event_id, about, change);
            self.publish(Route::Results(key), Kind::Subscription, message_id, body);
        }
    }

    /// Publishes the original to the quarantine, once, for people to look at.
    pub(super) fn quarantine(&mut self, fault: &Fault) {
        if std::mem::replace(&mut self.quarantined, true) {
            return;
        }
        let source = format!("{}.{}", self.inbound.source.name(), self.inbound.lane);
        let original = &self.inbound.properties;
        // The broker gives what comes back, and what it gives up on, routing keys of its own.
        let published = self.history.routing_key.as_deref();
        let key = published.unwrap_or(self.inbound.routing_key.as_str());
        let headers = quarantine::headers(fault, &source, key, original);
        let message_id = self.event_id.to_string();
        let body = self.inbound.body.clone();
        self.publish(Route::Quarantine, Kind::Quarantine, message_id, body);
        if let Some(publication) = self.publications.last_mut() {
            publication.headers = headers;
        }
    }

    /// Returns what is new of the campaign that the event belongs to, if it belongs to one and its
    /// application wants to know.
    pub(super) fn news(&self) -> Option<(Campaign, News)> {
        if self.app.is_some_and(|app| !app.progress) {
            return None;
        }
        let campaign = Campaign {
            app: self.app_name().cloned(),
            label: self.about.label.clone(),
            group: self.about.group.as_deref()?.into(),
        };
        let all = self.recipients.try_into().unwrap_or(u32::MAX);
        let waits = if self.waits_whole {
            all
        } else {
            self.tally.waiting()
        };
        let waited = self.history.waiting.map_or(0, |_| all);
        let news = News {
            recipients: if self.history.is_first() {
                all.into()
            } else {
                0
            },
            waiting: i64::from(waits) - i64::from(waited),
            settled: self.tally.clone(),
        };
        Some((campaign, news))
    }

    /// Closes the settlement.
    pub(super) fn finish(mut self, now: SystemTime) -> Settled {
        if self.fan_out && self.ended > 0 {
            let part = summary::Part {
                chunk: self.history.chunk,
                pass: self.history.pass,
            };
            let key =
                summary::routing_key(self.app.map(|app| &app.name), self.about.label.as_ref());
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
        let mut headers = FieldTable::default();
        self.history.trace.write(&mut headers);
        self.publications.push(Publication {
            to,
            kind,
            message_id,
            correlation_id: Some(self.event_id.clone()),
            timestamp: since_epoch.as_secs(),
            priority: None,
            headers,
            body,
        });
    }
}
