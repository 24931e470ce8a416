//! What to do with an event: which recipients to push to now, which wait, which end unsent.

use std::sync::Arc;
use std::time::SystemTime;

use crate::message::Name;
use crate::outcome::{Reason, Record};
use crate::vapid::{KeyRing, Subject};
pub use crate::wire::result::{EndpointForm, Results};

pub mod deadline;
pub mod event;
pub mod recipient;

pub use event::{Plan, Settings, Step, Terms, event_id, plan};
pub use recipient::{Push, Seen, plan_recipient};

/// One application: its keys, and what its events mean where they are silent.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name in events, results and routing keys.
    pub name: Name,
    /// Whom push services contact about its messages.
    pub subject: Subject,
    /// The keys that sign.
    pub ring: KeyRing,
    /// TTL in seconds where the event has none.
    pub ttl: u32,
    /// Which results it wants where the event does not say.
    pub results: Results,
    /// Whether requests are sent at all.
    pub mode: Mode,
    /// The largest plaintext in bytes, at most 3993.
    pub payload_limit: usize,
    /// How results name endpoints.
    pub endpoint: EndpointForm,
}

/// Whether requests are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are.
    #[default]
    Send,
    /// Everything but the POST.
    DryRun,
}

/// The configured applications.
#[derive(Clone, Debug)]
pub struct Apps(Vec<Arc<App>>);

impl Apps {
    /// Takes the configured applications.
    #[must_use]
    pub fn new(apps: Vec<Arc<App>>) -> Self {
        Self(apps)
    }

    /// Walks through them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<App>> {
        self.0.iter()
    }

    /// Finds the application an event is for: the one it names, else the only one there is, else
    /// the one named `default`.
    ///
    /// # Errors
    /// If there is none, with a sentence that names those there are (`unknown_app`).
    pub fn find(&self, _asked: Option<&Name>) -> Result<&Arc<App>, Refusal> {
        Err(Refusal {
            reason: Reason::UnknownApp,
            detail: "".into(),
        })
    }
}

/// An end without a request, of an event or of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// A sentence for people.
    pub detail: Box<str>,
}

impl Refusal {
    /// Records the end.
    #[must_use]
    pub fn into_record(self, settled_at: SystemTime) -> Record {
        Record::unsent(self.reason, settled_at, self.detail)
    }
}
