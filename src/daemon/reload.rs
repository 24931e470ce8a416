//! Another configuration for a daemon that runs: all of it that can change, or nothing.
//!
//! What can fail comes first: reading the configuration and building a client. Deliveries under way end in
//! the pipeline in which they began; what was learned of origins, keys and subscriptions is kept.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::admin::ApplicationServerKey;
use crate::clock::{Clock, SystemClock};
use crate::logging::ActiveFilter;
use crate::metrics::{Metrics, Reload};
use crate::pipeline::Pipeline;
use crate::push_service::Client;

use super::settings::{Settings, application_server_keys, pipeline_settings, sender_settings};

/// A configuration that was read again.
#[derive(Debug)]
pub(crate) struct Reread {
    /// What the daemon needs; what is read once is not looked at.
    pub(crate) settings: Settings,
    /// What is logged.
    pub(crate) log_filter: String,
    /// Whether something has changed that connections to push services depend on.
    pub(crate) reconnects: bool,
    /// The sections in which something has changed that applies now.
    pub(crate) sections: Vec<String>,
    /// The keys that differ from those of the start, and apply after a restart.
    pub(crate) needs_restart: Vec<String>,
    /// What works, but should be looked at.
    pub(crate) warnings: Vec<String>,
}

/// Reads the configuration again.
pub(crate) trait Rereading: Send {
    /// Reads it, and finds what differs from what was applied last.
    ///
    /// # Errors
    /// With every problem there is, in one line.
    fn reread(&mut self) -> Result<Reread, String>;

    /// Notes that what was read last applies.
    fn applied(&mut self);
}

/// What a reload changes.
pub(super) struct Reloader {
    pub(super) configuration: Box<dyn Rereading>,
    pub(super) log_filter: ActiveFilter,
    pub(super) pipeline: watch::Sender<Arc<Pipeline<Client>>>,
    pub(super) keys: watch::Sender<Vec<ApplicationServerKey>>,
    pub(super) metrics: Arc<Metrics>,
}

impl Reloader {
    /// Applies the configuration as it is now. Returns the new grace, or `None` if nothing changes.
    pub(super) fn reload(&mut self) -> Option<Duration> {
        match self.apply() {
            Ok(grace) => {
                self.metrics.config_reloaded(Reload::Applied);
                self.metrics.config_applied(SystemClock.now().wall);
                Some(grace)
            }
            Err(problem) => {
                self.metrics.config_reloaded(Reload::Refused);
                error!(
                    problem,
                    "the configuration is not reloaded; the former one still applies"
                );
                None
            }
        }
    }

    fn apply(&mut self) -> Result<Duration, String> {
        let reread = self.configuration.reread()?;
        let settings = reread.settings;
        // A client keeps connections, which must not outlive the rules by which they were made.
        let client = reread
            .reconnects
            .then(|| Client::new(&settings.push_service));
        let client = client.transpose().map_err(|error| error.to_string())?;
        let replaced = self.log_filter.replace(&reread.log_filter);
        replaced.map_err(|error| error.to_string())?;
        for app in settings.apps.iter() {
            self.metrics.start_app(&app.name);
        }
        let (processing, sending) = (pipeline_settings(&settings), sender_settings(&settings));
        self.pipeline.send_modify(|pipeline| {
            let next = pipeline.with_settings(processing, sending, settings.gate, client);
            *pipeline = Arc::new(next);
        });
        self.keys
            .send_replace(application_server_keys(&settings.apps));
        self.configuration.applied();
        for warning in reread.warnings {
            warn!("{warning}");
        }
        if !reread.needs_restart.is_empty() {
            let keys = reread.needs_restart.join(", ");
            warn!(keys, "these keys have changed and apply after a restart");
        }
        let sections = reread.sections.join(", ");
        info!(sections, "configuration reloaded");
        Ok(settings.grace)
    }
}
