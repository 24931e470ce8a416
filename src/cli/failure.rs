//! Why a command fails, and what it tells a person.

use std::io;
use std::io::{ErrorKind, Write};

use crate::broker::NeedsOperator;
use crate::config::Problems;

/// The exit status that says an operator must act.
pub(super) const OPERATOR: u8 = 78;

/// The exit status of a command line that is wrong, as clap has it.
const USAGE: u8 = 2;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: u8,
    /// For a person; empty if standard output is closed.
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            status: 1,
            message: message.into(),
        }
    }

    /// The command line asks for what cannot be.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self {
            status: USAGE,
            message: message.into(),
        }
    }

    pub(super) fn operator(message: impl Into<String>) -> Self {
        Self {
            status: OPERATOR,
            message: message.into(),
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::operator(problems.to_string())
    }
}

impl From<NeedsOperator> for Failure {
    fn from(act: NeedsOperator) -> Self {
        // A broker that is away may come back by itself.
        if matches!(act, NeedsOperator::Unreachable { .. }) {
            return Self::new(act.to_string());
        }
        Self::operator(act.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            return Self::new("");
        }
        Self::new(error.to_string())
    }
}

/// Writes a line to standard error; an error of that is ignored.
pub(super) fn tell(line: &str) {
    let _unheard = writeln!(io::stderr(), "{line}");
}
