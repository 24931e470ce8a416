//! What resolving a section needs, and how it reports.

use aws_lc_rs::digest::{SHA256, digest};

use crate::config::layers::Sources;
use crate::config::print::Contents;
use crate::config::problem::{Finding, Problems};
use crate::config::request::Environment;
use crate::message::Name;

/// What resolving a section needs: where values came from, and where to report.
pub(super) struct Scope<'a> {
    pub(super) sources: &'a mut Sources,
    pub(super) environment: &'a Environment,
    pub(super) problems: Problems,
    pub(super) warnings: Vec<Finding>,
    /// What was read from files and credentials, or is hidden where the configuration is shown.
    pub(super) contents: Contents,
}

/// The value is wrong, and the problem is already in the list.
pub(super) struct Reported;

impl<'a> Scope<'a> {
    /// Creates the scope of one resolution, with the `problems` that are known already.
    pub(super) fn new(
        sources: &'a mut Sources,
        environment: &'a Environment,
        problems: Problems,
    ) -> Self {
        Self {
            sources,
            environment,
            problems,
            warnings: Vec::new(),
            contents: Contents::new(),
        }
    }

    /// Notes what a key led to, so that a change of it is found.
    pub(super) fn note_contents(&mut self, key: &str, bytes: &[u8]) {
        let mut contents = [0; 32];
        contents.copy_from_slice(digest(&SHA256, bytes).as_ref());
        self.contents.insert(key.to_owned(), contents);
    }

    /// Reports a wrong value.
    pub(super) fn problem(&mut self, key: &str, what: impl Into<String>) -> Reported {
        self.problems.push(key, what, self.sources.of(key));
        Reported
    }

    /// Reports a value that is not there.
    pub(super) fn missing(&mut self, key: &str, what: impl Into<String>) -> Reported {
        self.problems.push(key, what, self.sources.around(key));
        Reported
    }

    pub(super) fn warn(&mut self, key: &str, what: impl Into<String>) {
        self.warnings.push(Finding {
            key: key.to_owned(),
            what: what.into(),
            source: self.sources.of(key),
        });
    }

    /// Returns whether none of the keys is known to be wrong.
    pub(super) fn sound(&self, keys: &[&str]) -> bool {
        !keys.iter().any(|key| self.problems.concern(key))
    }

    /// Returns whether an operator set the key.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.sources.of(key).rank() > 0
    }

    /// Reads the last word of a key's path as a name.
    pub(super) fn name(&mut self, key: &str, text: &str) -> Result<Name, Reported> {
        Name::parse(text).ok_or_else(|| {
            self.missing(
                key,
                "a name has 1 to 64 of the characters a to z, 0 to 9, - and _",
            )
        })
    }
}
