//! The daemon: built from its settings, run, and stopped.

use std::time::Duration;

use crate::admin;
use crate::broker;
use crate::gate;
use crate::plan::Apps;
use crate::push_service;
use crate::retry;

/// Everything an operator decides about the daemon.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The broker.
    pub broker: broker::Settings,
    /// Sending.
    pub push_service: push_service::Settings,
    /// One deadline over a whole exchange with a push service.
    pub push_timeout: Duration,
    /// Permits.
    pub gate: gate::Settings,
    /// Retries.
    pub retry: retry::Policy,
    /// The applications and their keys.
    pub apps: Apps,
    /// The largest event, in bytes.
    pub event_limit: usize,
    /// How far ahead an event may be scheduled.
    pub schedule_limit: Duration,
    /// How many recipients of one event are processed together.
    pub chunk: usize,
    /// The admin listener.
    pub admin: admin::Settings,
    /// How long in-flight work may take to finish after a signal.
    pub grace: Duration,
}
