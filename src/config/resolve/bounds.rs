//! Values that must not exceed each other.

use std::fmt::Display;
use std::time::Duration;

use crate::config::resolve::scope::Scope;
use crate::config::units::duration_text;

/// Reports that the value of the first key is above that of the second.
pub(super) fn at_most(
    scope: &mut Scope<'_>,
    keys: [&str; 2],
    limit: impl Display,
    got: impl Display,
) {
    let [key, other] = keys;
    scope.problem(key, format!("must be at most {other} ({limit}), got {got}"));
}

/// Writes a duration as a configuration file does.
pub(super) fn quoted(duration: Duration) -> String {
    format!("\"{}\"", duration_text(duration))
}
