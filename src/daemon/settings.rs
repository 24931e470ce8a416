//! What an operator decides, and what each part of the daemon needs of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::admin;
use crate::admin::ApplicationServerKey;
use crate::app::{App, Apps};
use crate::broker;
use crate::gate;
use crate::pipeline;
use crate::plan;
use crate::push_service;
use crate::retry;
use crate::sender;

/// Everything an operator decides about the daemon.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The broker.
    pub broker: broker::Settings,
    /// Sending.
    pub push_service: push_service::Settings,
    /// One deadline over a whole exchange with a push service.
    pub push_timeout: Duration,
    /// Whether messages without a topic get one of their own.
    pub replace_duplicates: bool,
    /// Permits.
    pub gate: gate::Settings,
    /// Retries, by the family of the push service.
    pub retry: retry::Policies,
    /// The applications and their keys.
    pub apps: Apps,
    /// The largest event, in bytes.
    pub event_limit: usize,
    /// How far ahead an event may be scheduled.
    pub schedule_limit: Duration,
    /// How many recipients of one event are processed together.
    pub chunk: usize,
    /// Where to keep what should outlive a restart; nowhere without.
    pub state_dir: Option<PathBuf>,
    /// The admin listener.
    pub admin: admin::Settings,
    /// How long in-flight work may take to finish after a signal.
    pub grace: Duration,
}

/// No wait of the gate's own, spread included, is longer: turns at a rate, keys that are refused or
/// taken for wrong.
const OWN_WAITS: Duration = Duration::from_hours(2);

/// How long a wait that is short enough is held in memory rather than sent to the broker.
const HOLD: Duration = Duration::from_secs(1);

pub(super) fn pipeline_settings(settings: &Settings) -> pipeline::Settings {
    pipeline::Settings {
        apps: settings.apps.clone(),
        event_limit: settings.event_limit,
        plan: plan::Settings {
            chunk: settings.chunk,
            hold: HOLD,
            horizon: settings.schedule_limit,
            longest_wait: longest_wait(settings),
        },
        guard: Arc::clone(&settings.push_service.guard),
        replace_duplicates: settings.replace_duplicates,
    }
}

pub(super) fn sender_settings(settings: &Settings) -> sender::Settings {
    sender::Settings {
        retry: settings.retry.clone(),
        push_timeout: settings.push_timeout,
    }
}

/// Returns the longest wait between two attempts: what the gate asks for of its own is within
/// [`OWN_WAITS`], its breakers apart.
fn longest_wait(settings: &Settings) -> Duration {
    let asked = settings.retry.longest_wait();
    asked.max(settings.gate.breaker.open_cap) + OWN_WAITS
}

/// What the pages of each application subscribe with.
pub(super) fn application_server_keys(apps: &Apps) -> Vec<ApplicationServerKey> {
    let key_of = |app: &Arc<App>| ApplicationServerKey {
        app: app.name.clone(),
        key_id: app.ring.primary.name().clone(),
        point: *app.ring.primary.public_key(),
    };
    apps.iter().map(key_of).collect()
}
