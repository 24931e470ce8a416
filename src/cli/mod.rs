//! The command line: one file for each command.
//!
//! Standard output has what was asked for, standard error what a person should know. Exit status:
//! 0 all went well, 1 it failed while running, 2 the command line is wrong (clap's), 78 an operator
//! must act (`EX_CONFIG` of `sysexits.h`), on which systemd does not restart.

use std::io;
use std::io::{ErrorKind, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use clap::{Args, Parser, Subcommand};
use tokio::runtime::{self, Runtime};

use crate::broker::NeedsOperator;
use crate::config;
use crate::config::{Config, Environment, Problems, Request};

pub mod check;
pub mod keys;
pub mod run;
pub mod sandbox;
pub mod topology;

/// The exit status that says an operator must act.
const OPERATOR: u8 = 78;

/// The exit status of a command line that is wrong, as clap has it.
const USAGE: u8 = 2;

/// Web Push for RabbitMQ: publish notification events, consume their results
#[derive(Debug, Parser)]
#[command(name = "pushrider", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    #[command(subcommand)]
    Keys(keys::Keys),
    #[command(subcommand)]
    Topology(topology::Topology),
    Sandbox(sandbox::Sandbox),
}

impl Cli {
    /// Does what was asked and returns the exit status.
    #[must_use]
    pub fn execute(self, environment: &Environment) -> ExitCode {
        let out = &mut io::stdout();
        let done = match self.command {
            Command::Run(run) => run.execute(environment),
            Command::Check(check) => check.execute(environment, out),
            Command::Keys(keys) => keys.execute(environment, out),
            Command::Topology(topology) => topology.execute(environment, out),
            Command::Sandbox(sandbox) => sandbox.execute(),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failure { status, message }) => {
                if !message.is_empty() {
                    tell(&format!("error: {message}"));
                }
                ExitCode::from(status)
            }
        }
    }
}

/// Which configuration is meant.
#[derive(Debug, Args)]
struct Configured {
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
    fn load(&self, environment: &Environment) -> Result<Config, Problems> {
        config::load(&Request {
            file: self.config.clone(),
            set: self.set.clone(),
            environment: environment.clone(),
        })
    }
}

fn assignment(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, as in push.timeout=10s"),
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
struct Failure {
    status: u8,
    /// For a person; empty if standard output is closed.
    message: String,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self {
            status: 1,
            message: message.into(),
        }
    }

    /// The command line asks for what cannot be.
    fn usage(message: impl Into<String>) -> Self {
        Self {
            status: USAGE,
            message: message.into(),
        }
    }

    fn operator(message: impl Into<String>) -> Self {
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
fn tell(line: &str) {
    let _unheard = writeln!(io::stderr(), "{line}");
}

/// The most workers that are started unasked. A push costs about a tenth of a millisecond, so eight
/// of them outrun what one broker connection carries.
const WORKER_LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);

/// Starts the runtime with as many workers as asked for, else one for each processor this process
/// may use.
fn start_runtime(threads: Option<NonZeroUsize>) -> io::Result<Runtime> {
    let processors = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let threads = threads.unwrap_or(processors.min(WORKER_LIMIT));
    runtime::Builder::new_multi_thread()
        .worker_threads(threads.get())
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
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
