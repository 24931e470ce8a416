//! No spans.

use lapin::BasicProperties;
use lapin::types::ShortString;

use crate::origin::Origin;
use crate::outcome::Attempt;

/// Exports nothing.
#[derive(Debug)]
pub struct Exporter;

/// Starts no exporter.
#[must_use]
pub fn start() -> Exporter {
    Exporter
}

impl Exporter {
    /// Does nothing.
    pub async fn finish(self) {}
}

/// No span.
#[derive(Debug, Default)]
pub struct Span;

impl Span {
    /// Does nothing.
    #[must_use]
    pub fn consume(_queue: &ShortString, _properties: &BasicProperties) -> Self {
        Self
    }

    /// Does nothing.
    #[must_use]
    pub fn push(_origin: &Origin) -> Self {
        Self
    }

    /// Does nothing.
    #[must_use]
    pub fn settle(&self) -> Self {
        Self
    }

    /// Does nothing.
    pub fn answered(self, _attempt: &Attempt) {}

    /// Runs a future.
    pub async fn around<F: Future>(&self, future: F) -> F::Output {
        future.await
    }
}
