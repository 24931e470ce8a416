//! By what an event and its recipients are recognized where they were taken back.

use crate::app::App;
use crate::control::{EventKeys, Keys, RecipientKeys};
use crate::message::EventId;
use crate::plan::Terms;
use crate::subscription::Endpoint;
use crate::wire::event::Event;

/// Returns the keys of an event.
pub(super) fn of_event<'a>(
    event: &'a Event<'_>,
    app: &'a App,
    id: &'a EventId,
    terms: &Terms,
) -> EventKeys<'a> {
    EventKeys {
        app: &app.name,
        id,
        group: event.about.group.as_deref(),
        label: event.about.label.as_ref(),
        created_at: terms.created_at,
    }
}

/// Returns the keys of a recipient of an event.
pub(super) fn of_recipient<'a>(
    event: EventKeys<'a>,
    endpoint: Option<&Endpoint>,
    id: Option<&'a str>,
) -> Keys<'a> {
    let unlocated = RecipientKeys {
        id,
        ..RecipientKeys::default()
    };
    let recipient = endpoint.map_or(unlocated, |endpoint| RecipientKeys::of(endpoint, id));
    Keys { event, recipient }
}
