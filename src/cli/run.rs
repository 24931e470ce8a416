//! `pushrider run`: the daemon.

use std::error::Error;
use std::iter;
use std::num::NonZeroUsize;

use clap::Args;
use tracing::{error, warn};

use super::configured::Configured;
use super::failure::Failure;
use super::runtime::{Threads, start_runtime};
use crate::config::{Environment, Reloads};
use crate::daemon;
use crate::logging;

/// Run the daemon until SIGTERM or SIGINT; SIGHUP reloads the configuration
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    configured: Configured,
    /// How many threads run, at least two; half of them encrypt [default: one for each processor, at most 8]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

impl Run {
    pub(super) fn execute(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.configured.load(environment)?;
        let log_filter =
            logging::init(&config.logging).map_err(|error| Failure::operator(error.to_string()))?;
        logging::log_panics();
        for warning in &config.warnings {
            warn!(key = warning.key, source = %warning.source, "{}", warning.what);
        }
        let threads = Threads::of(self.threads);
        let runtime = start_runtime(threads.runtime)?;
        let reloads = Reloads::new(self.configured.request(environment), config.effective);
        let running = daemon::run(
            config.daemon,
            Box::new(reloads),
            log_filter,
            threads.encryption,
        );
        let ended = runtime.block_on(running);
        // A name that hangs in the system's resolver must not hold up the end.
        runtime.shutdown_background();
        ended.map_err(|failure| {
            error!("{}", with_causes(&failure));
            // The log has the reason already.
            Failure {
                status: status(&failure),
                message: String::new(),
            }
        })
    }
}

/// Describes a failure and its causes, once each.
fn with_causes(failure: &dyn Error) -> String {
    let mut text = failure.to_string();
    for cause in iter::successors(failure.source(), |&cause| cause.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Returns 78 where a restart would only fail again.
fn status(failure: &daemon::Failure) -> u8 {
    match failure {
        daemon::Failure::Operator(_) | daemon::Failure::Client(_) => super::failure::OPERATOR,
        daemon::Failure::Admin(_)
        | daemon::Failure::ServiceManager(_)
        | daemon::Failure::Metrics(_)
        | daemon::Failure::Signals(_)
        | daemon::Failure::Threads(_)
        | daemon::Failure::Task(_) => 1,
    }
}
