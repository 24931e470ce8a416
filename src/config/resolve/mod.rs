//! From what an operator wrote to what the daemon needs.
//!
//! Here meaning is judged: values that fit each other, files that can be read, keys that are keys.
//! A value that is already known to be wrong is not judged again.

mod apps;
mod bounds;
mod broker;
mod guard;
mod keys;
mod retry;
mod secret;
mod sending;

use std::fs;
use std::io;

use crate::admin;
use crate::app::Apps;
use crate::config::file::File;
use crate::config::layers::Sources;
use crate::config::problem::{Finding, Problems, Source};
use crate::config::request::Environment;
use crate::config::secrets::exposure;
use crate::config::shape::show_text;
use crate::config::{Config, Effective};
use crate::daemon;
use crate::logging;
use crate::logging::Sink;
use crate::message::Name;

pub use self::broker::place;

/// What every section's resolving needs: where values came from, and where to report.
struct Scope<'a> {
    sources: &'a mut Sources,
    environment: &'a Environment,
    problems: Problems,
    warnings: Vec<Finding>,
}

/// The value is wrong, and the problem is already in the list.
struct Reported;

impl Scope<'_> {
    /// Reports a wrong value.
    fn problem(&mut self, key: &str, what: impl Into<String>) -> Reported {
        self.problems.push(key, what, self.sources.of(key));
        Reported
    }

    /// Reports a value that is not there.
    fn missing(&mut self, key: &str, what: impl Into<String>) -> Reported {
        self.problems.push(key, what, self.sources.around(key));
        Reported
    }

    fn warn(&mut self, key: &str, what: impl Into<String>) {
        self.warnings.push(Finding {
            key: key.to_owned(),
            what: what.into(),
            source: self.sources.of(key),
        });
    }

    /// Returns whether none of the keys is known to be wrong.
    fn sound(&self, keys: &[&str]) -> bool {
        !keys.iter().any(|key| self.problems.concern(key))
    }

    /// Returns whether an operator set the key.
    fn is_set(&self, key: &str) -> bool {
        self.sources.of(key).rank() > 0
    }

    /// Reads the last word of a key's path as a name.
    fn name(&mut self, key: &str, text: &str) -> Result<Name, Reported> {
        Name::parse(text).ok_or_else(|| {
            self.missing(
                key,
                "a name has 1 to 64 of the characters a to z, 0 to 9, - and _",
            )
        })
    }
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
    let mut scope = Scope {
        sources,
        environment,
        problems,
        warnings: Vec::new(),
    };
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
    let effective = Effective::new(file, sources.clone());
    Ok(Config {
        daemon,
        logging,
        warnings,
        effective,
    })
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
    for key in keys.chain(["broker.url".to_owned()]) {
        let Source::File(path) = scope.sources.of(&key) else {
            continue;
        };
        if let Some(to) = fs::metadata(&path).ok().as_ref().and_then(exposure) {
            let what = format!("{to} can read this secret; chmod 600 the file, or use {key}_file");
            scope.warn(&key, what);
        }
    }
}
