//! What a delivery asks for: its history, the event in its body, and the plan for it.

use std::sync::Arc;

use lapin::BasicProperties;
use lapin::types::FieldTable;

use crate::app::{App, Apps};
use crate::broker::{Inbound, Source};
use crate::message::{EventId, Name};
use crate::outcome::Warning;
use crate::plan;
use crate::plan::{Moment, Plan, Refusal};
use crate::wire::body::EventBody;
use crate::wire::event;
use crate::wire::event::{Event, EventError, EventRef};
use crate::wire::fault::Fault;
use crate::wire::foreign;
use crate::wire::headers::{Death, DeathCause, RetryHistory, copy_id};
use crate::wire::recipient::RecipientRef;

use super::fault::{MessageType, other_type, refused};

/// What was read of a delivery.
pub(super) enum Reading<'a> {
    /// An event, and what to do with it.
    Planned {
        event: Event<'a>,
        app: &'a Arc<App>,
        plan: Plan,
    },
    /// An event whose recipients all end without a request.
    Refused(Refused<'a>),
    /// The body is not an event; a part of it could be read.
    NotAnEvent {
        about: Box<EventRef<'a>>,
        recipient: Box<RecipientRef<'a>>,
        fault: Fault,
    },
    /// The body was not read.
    Unread(Fault),
}

/// An event whose recipients all end without a request.
pub(super) struct Refused<'a> {
    pub(super) event: Event<'a>,
    pub(super) app: Option<&'a Arc<App>>,
    pub(super) refusal: Refusal,
    /// Why the original goes to the quarantine, if it does.
    pub(super) quarantine: Option<Fault>,
}

/// Reads a delivery, in whose body `found` is the event, at a moment.
pub(super) fn read<'a>(
    inbound: &'a Inbound,
    found: &'a Result<EventBody, Fault>,
    history: &RetryHistory,
    apps: &'a Apps,
    event_limit: usize,
    settings: &plan::Settings,
    moment: Moment,
) -> Reading<'a> {
    if inbound.body.len() > event_limit {
        return Reading::Unread(event::too_large(inbound.body.len(), event_limit));
    }
    let message_type = MessageType::of(inbound);
    if message_type == MessageType::Other {
        return Reading::Unread(other_type());
    }
    let event = match decode(&inbound.properties, found) {
        Ok(event) => event,
        Err(error) => {
            return Reading::NotAnEvent {
                about: Box::new(error.about),
                recipient: Box::new(error.recipient),
                fault: refused(inbound).unwrap_or(error.fault),
            };
        }
    };
    let app = match find_app(apps, event.about.app.as_ref(), history) {
        Ok(app) => app,
        Err(refusal) => return refusing(event, None, refusal, None),
    };
    if let Some(fault) = refused(inbound) {
        return refusing(event, Some(app), fault.clone().into(), Some(fault));
    }
    let timestamp = *inbound.properties.timestamp();
    match plan::plan(&event, app, history, timestamp, settings, moment) {
        Ok(mut plan) => {
            let foreign = message_type == MessageType::Foreign;
            let warning = foreign.then_some(Warning::ForeignType);
            plan.terms.warnings.extend(warning);
            Reading::Planned { event, app, plan }
        }
        Err(refusal) => refusing(event, Some(app), refusal, None),
    }
}

/// Decodes the event that was found in a message; an error describes what the message looks like.
fn decode<'a>(
    properties: &BasicProperties,
    found: &'a Result<EventBody, Fault>,
) -> Result<Event<'a>, Box<EventError<'a>>> {
    let found = found.as_ref().map_err(|fault| EventError {
        fault: fault.clone(),
        about: EventRef::default(),
        recipient: RecipientRef::default(),
    })?;
    let named = |id: Option<EventId>| id.or_else(|| found.id.clone());
    match event::decode(&found.text) {
        Ok(mut event) => {
            event.about.id = named(event.about.id);
            Ok(event)
        }
        Err(mut error) => {
            error.about.id = named(error.about.id);
            if let Some(fault) = foreign::describe(properties, &found.text) {
                error.fault = fault;
            }
            Err(error)
        }
    }
}

fn refusing<'a>(
    event: Event<'a>,
    app: Option<&'a Arc<App>>,
    refusal: Refusal,
    quarantine: Option<Fault>,
) -> Reading<'a> {
    Reading::Refused(Refused {
        event,
        app,
        refusal,
        quarantine,
    })
}

/// Finds the application of a message whose event names `asked`.
pub(super) fn find_app<'a>(
    apps: &'a Apps,
    asked: Option<&Name>,
    history: &RetryHistory,
) -> Result<&'a Arc<App>, Refusal> {
    let asked = asked.or(history.app.as_ref());
    apps.find(asked, history.routing_key.as_deref())
}

/// Reads what happened to a message before. Only the due queues, and copies that the broker gave up on,
/// carry this daemon's own headers.
pub(super) fn history_of(inbound: &Inbound) -> RetryHistory {
    let headers = inbound.properties.headers().as_ref();
    match inbound.source {
        Source::Due => headers.map(RetryHistory::read).unwrap_or_default(),
        Source::Lane => RetryHistory {
            routing_key: Some(inbound.routing_key.as_str().into()),
            ..headers.map(RetryHistory::fresh).unwrap_or_default()
        },
        Source::Undeliverable => headers.map(history_of_given_up).unwrap_or_default(),
    }
}

/// Reads what happened to a message before the broker gave up on it and gave it another routing key.
fn history_of_given_up(headers: &FieldTable) -> RetryHistory {
    let death = Death::read(headers);
    if death.cause == DeathCause::DeliveryLimit && copy_id(headers).is_some() {
        return RetryHistory::given_up(headers);
    }
    RetryHistory {
        routing_key: death.routing_key,
        ..RetryHistory::fresh(headers)
    }
}
