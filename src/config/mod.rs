//! The configuration: read from its layers, judged as a whole, handed over as settings.
//!
//! Defaults, file, environment and command line are merged ([`layers`]), read into what an operator
//! may write ([`mod@file`]), and resolved into what the daemon needs ([`resolve`]). Nothing stops at
//! the first mistake: every problem of shape and meaning is reported in one go, with its key, where
//! the value came from and what was expected, because the next mistake found by the next restart
//! costs an operator more than it costs us.

mod file;
mod hosts;
mod layers;
mod print;
mod problem;
mod reload;
mod request;
mod resolve;
pub mod sample;
mod secrets;
mod shape;
mod text;
mod units;

use crate::broker;

pub use self::file::File;
pub use self::print::Effective;
pub use self::problem::{Finding, Problems, Source};
pub use self::reload::Reloads;
pub use self::request::{DEFAULT_FILE, Environment, FILE_VARIABLE, Request};
pub use self::resolve::{Config, places};

/// Reads the configuration, and every file it names.
///
/// # Errors
/// With every problem there is.
pub fn load(request: &Request) -> Result<Config, Problems> {
    let mut problems = Problems::default();
    let (values, mut sources) = layers::merge(request, &mut problems);
    let file = shape::read(values, &sources, &mut problems);
    resolve::resolve(file, &mut sources, &request.environment, problems)
}

/// Reads what concerns the broker alone, for commands that need no application and no key.
///
/// # Errors
/// With every problem there is, those of files that other sections name apart.
pub fn load_broker(request: &Request) -> Result<broker::Settings, Problems> {
    let mut problems = Problems::default();
    let (values, mut sources) = layers::merge(request, &mut problems);
    let file = shape::read(values, &sources, &mut problems);
    resolve::resolve_broker(&file, &mut sources, &request.environment, problems)
}

#[cfg(test)]
mod tests;
