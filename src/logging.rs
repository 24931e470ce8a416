//! Log lines: text for people, JSON for machines, never a secret.

/// What an operator decides about logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How lines are written.
    pub format: Format,
    /// What is logged, as a `tracing` filter: `info`, or `info,pushrider=debug`.
    pub filter: String,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal or in the journal, JSON otherwise.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}
