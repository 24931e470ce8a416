//! The configuration that a command line names.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::broker;
use crate::config;
use crate::config::{Config, DEFAULT_FILE, Environment, FILE_VARIABLE, Problems, Request};

use super::failure::tell;

/// The name that a configuration file has in an operator's working directory.
const LOCAL_FILE: &str = "pushrider.toml";

/// Which configuration is meant.
#[derive(Debug, Args)]
pub(super) struct Configured {
    /// The configuration file [default: $PUSHRIDER_CONFIG, else /etc/pushrider/pushrider.toml if
    /// it exists]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key of the configuration, as in --set push.timeout=10s; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
}

impl Configured {
    /// Reads and judges the configuration.
    pub(super) fn load(&self, environment: &Environment) -> Result<Config, Problems> {
        self.tell_of_overlooked(environment);
        config::load(&self.request(environment))
    }

    /// Reads and judges what concerns the broker, for a command that needs no application.
    pub(super) fn load_broker(
        &self,
        environment: &Environment,
    ) -> Result<broker::Settings, Problems> {
        self.tell_of_overlooked(environment);
        config::load_broker(&self.request(environment))
    }

    fn tell_of_overlooked(&self, environment: &Environment) {
        let is_named = self.config.is_some() || environment.get(FILE_VARIABLE).is_some();
        if let Some(note) = overlooked(is_named, |path| Path::new(path).exists()) {
            tell(&format!("note: {note}"));
        }
    }

    /// Returns where the configuration is.
    pub(super) fn request(&self, environment: &Environment) -> Request {
        Request {
            file: self.config.clone(),
            set: self.set.clone(),
            environment: environment.clone(),
        }
    }
}

/// Returns what to say if a configuration file is at hand that is not read.
fn overlooked(is_named: bool, exists: impl Fn(&str) -> bool) -> Option<String> {
    if is_named || exists(DEFAULT_FILE) || !exists(LOCAL_FILE) {
        return None;
    }
    Some(format!(
        "{DEFAULT_FILE} does not exist; ./{LOCAL_FILE} is read only with --config {LOCAL_FILE}"
    ))
}

fn assignment(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, as in push.timeout=10s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_working_directory_that_is_not_read_is_named() {
        let local = |path: &str| path == LOCAL_FILE;
        let note = overlooked(false, local).unwrap();
        assert!(
            note.ends_with("only with --config pushrider.toml"),
            "{note}"
        );
        assert_eq!(overlooked(true, local), None);
        assert_eq!(overlooked(false, |_| true), None);
        assert_eq!(overlooked(false, |_| false), None);
    }

    #[test]
    fn an_assignment_has_a_key_of_two_levels_and_a_value() {
        let parsed = assignment("log.filter=info,pushrider=debug").unwrap();
        assert_eq!(parsed, ("log.filter".into(), "info,pushrider=debug".into()));
        assert_eq!(assignment("push.timeout=").unwrap().1, "");
        for wrong in ["push.timeout", "timeout=1s", "=1", ""] {
            assert!(assignment(wrong).is_err(), "{wrong}");
        }
    }
}
