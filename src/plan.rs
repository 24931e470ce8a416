//! What to do with an event: which recipients to push to now, which wait, which end unsent.

use std::sync::Arc;

use crate::message::Name;
use crate::vapid::{KeyRing, Subject};

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

/// Which delivery results are published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Results {
    /// One per recipient.
    #[default]
    All,
    /// All but `accepted`.
    Failures,
    /// None.
    None,
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

/// How results name endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointForm {
    /// In full.
    #[default]
    Full,
    /// By fingerprint alone.
    Fingerprint,
}

/// The configured applications.
#[derive(Clone, Debug)]
pub struct Apps(Vec<Arc<App>>);
