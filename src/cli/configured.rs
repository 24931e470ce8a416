//! The configuration that a command line names.

use std::path::PathBuf;

use clap::Args;

use crate::config;
use crate::config::{Config, Environment, Problems, Request};

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
        config::load(&self.request(environment))
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
    fn an_assignment_has_a_key_of_two_levels_and_a_value() {
        let parsed = assignment("log.filter=info,pushrider=debug").unwrap();
        assert_eq!(parsed, ("log.filter".into(), "info,pushrider=debug".into()));
        assert_eq!(assignment("push.timeout=").unwrap().1, "");
        for wrong in ["push.timeout", "timeout=1s", "=1", ""] {
            assert!(assignment(wrong).is_err(), "{wrong}");
        }
    }
}
