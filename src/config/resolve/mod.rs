//! From what an operator wrote to what the daemon needs.
//!
//! Here meaning is judged: values that fit each other, files that can be read, keys that are keys.
//! A value that is already known to be wrong is not judged again.

mod apps;
mod bounds;
mod broker;
mod guard;
mod keys;
mod proxy;
mod retry;
mod scope;
mod secret;
mod sending;

use std::fs;
use std::io;

use crate::admin;
use crate::app::Apps;
use crate::config::file::File;
use crate::config::layers::Sources;
use crate::config::print::Effective;
use crate::config::problem::{Finding, Problems, Source};
use crate::config::request::Environment;
use crate::config::secrets::exposure;
use crate::config::shape::show_text;
use crate::config::text::file_key;
use crate::daemon;
use crate::logging;
use crate::logging::Sink;

pub use self::broker::places;

use self::scope::{Reported, Scope};

/// A configuration without problems.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the daemon needs.
    pub daemon: daemon::Settings,
    /// What logging needs.
    pub logging: logging::Settings,
    /// What works, but should be looked at.
    pub warnings: Vec<Finding>,
    /// The configuration as it came out of its layers.
    pub effective: Effective,
}

/// Turns the file into settings.
///
/// # Errors
/// With `problems` and every further one.
pub(super) fn resolve(
    file: File,
    sources: &mut Sources,
    environment: &Environment,
    problems: Problems,
) -> Result<Config, Problems> {
    let mut scope = Scope::new(sources, environment, problems);
    let broker = broker::resolve(&file, &mut scope);
    let apps = apps::resolve(&file, &mut scope);
    let sending = sending::resolve(&file, &mut scope);
    let logging = logging(&file, &mut scope);
    let state_dir = sending::state_dir(&file, &mut scope);
    warn_of_exposed_file(&file, &mut scope);
    let (Ok(broker), Ok(apps), Ok(sending), Ok(logging), Ok(state_dir), true) = (
        broker,
        apps,
        sending,
        logging,
        state_dir,
        scope.problems.is_empty(),
    ) else {
        return Err(scope.problems);
    };
    let daemon = daemon::Settings {
        broker,
        push_service: sending.push_service,
        push_timeout: file.push.timeout.get(),
        replace_duplicates: file.push.replace_duplicates,
        gate: sending.gate,
        retry: sending.retry,
        apps: Apps::new(apps),
        event_limit: usize::try_from(file.events.max_size.get()).unwrap_or(usize::MAX),
        schedule_limit: file.events.schedule_limit.get(),
        chunk: file.events.chunk.size(),
        state_dir,
        admin: admin::Settings {
            listen: file.admin.listen.0,
        },
        grace: file.shutdown.grace.get(),
    };
    let warnings = scope.warnings;
    let effective = Effective::new(file, scope.sources.clone(), scope.contents);
    Ok(Config {
        daemon,
        logging,
        warnings,
        effective,
    })
}

/// Turns the sections of the file that concern the broker into settings.
///
/// # Errors
/// With `problems` and every further one of these sections.
pub(super) fn resolve_broker(
    file: &File,
    sources: &mut Sources,
    environment: &Environment,
    problems: Problems,
) -> Result<crate::broker::Settings, Problems> {
    let mut scope = Scope::new(sources, environment, problems);
    match broker::resolve(file, &mut scope) {
        Ok(settings) if scope.problems.is_empty() => Ok(settings),
        Ok(_) | Err(Reported) => Err(scope.problems),
    }
}

fn logging(file: &File, scope: &mut Scope<'_>) -> Result<logging::Settings, Reported> {
    let settings = logging::Settings {
        format: file.log.format,
        filter: file.log.filter.0.clone(),
    };
    match logging::subscriber(&settings, Sink::Stream, io::sink) {
        Ok(_) => Ok(settings),
        Err(_) => Err(scope.problem(
            "log.filter",
            format!(
                "expected a level (off, error, warn, info, debug, trace) or levels of targets as \
                 in \"info,pushrider::broker=debug\", got {}",
                show_text(&settings.filter, false)
            ),
        )),
    }
}

/// Warns of a configuration file that holds secrets and that others can read.
fn warn_of_exposed_file(file: &File, scope: &mut Scope<'_>) {
    let keys = file.keys.keys().map(|id| format!("keys.{id}.private_key"));
    let urls = ["broker.url", "broker.urls", "push.proxy"].map(str::to_owned);
    for key in keys.chain(urls) {
        let Source::File(path) = scope.sources.of(&key) else {
            continue;
        };
        if let Some(to) = fs::metadata(&path).ok().as_ref().and_then(exposure) {
            let file_key = file_key(&key);
            let what = format!("{to} can read this secret; chmod 600 the file, or use {file_key}");
            scope.warn(&key, what);
        }
    }
}
