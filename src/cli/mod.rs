//! The command line: one file for each command.
//!
//! Standard output has what was asked for, standard error what a person should know. Exit status:
//! 0 all went well, 1 it failed while running, 2 the command line is wrong (clap's), 78 an operator
//! must act (`EX_CONFIG` of `sysexits.h`), on which systemd does not restart.

use std::io;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::Environment;

use self::failure::{Failure, tell};

pub mod audit;
mod campaign;
pub mod check;
pub mod completions;
mod configured;
pub mod control;
mod failure;
mod input;
pub mod keys;
mod lines;
pub mod man;
mod management;
mod outputs;
mod policy;
pub mod publish;
pub mod quarantine;
pub mod results;
pub mod run;
mod runtime;
pub mod sandbox;
pub mod schema;
pub mod send;
pub mod topology;

/// The version, and the commit if the build names one in `PUSHRIDER_COMMIT`.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("PUSHRIDER_COMMIT") {
        Some(commit) if !commit.is_empty() => format!("{version} ({commit})"),
        _ => version.to_owned(),
    }
});

const AFTER_HELP: &str = "\
Examples:
  pushrider keys generate --out vapid.pem
  pushrider check --config pushrider.toml --connect
  pushrider topology declare
  pushrider run --config pushrider.toml
  pushrider results --failures

Environment:
  PUSHRIDER_CONFIG           the configuration file
  PUSHRIDER_SECTION__KEY     one key of it, as in PUSHRIDER_PUSH__TIMEOUT=10s
  AMQP_URL                   the key broker.url
  CREDENTIALS_DIRECTORY      secrets that systemd passes

Exit status:
  0   all went well
  1   it failed while it ran
  2   the command line is wrong
  78  an operator must act, for example on the configuration";

/// Web Push for RabbitMQ: publish notification events, consume their results
#[derive(Debug, Parser)]
#[command(
    name = "pushrider",
    version = VERSION.as_str(),
    after_help = AFTER_HELP,
    arg_required_else_help = true
)]
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
    Send(send::Send),
    Publish(publish::Publish),
    Results(results::Results),
    Cancel(control::Cancel),
    Forget(control::Forget),
    #[command(subcommand)]
    Quarantine(quarantine::Quarantine),
    Sandbox(sandbox::Sandbox),
    Schema(schema::Schema),
    Completions(completions::Completions),
    Man(man::Man),
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
            Command::Send(send) => send.execute(environment, out),
            Command::Publish(publish) => publish.execute(environment, out),
            Command::Results(results) => results.execute(environment, out),
            Command::Cancel(cancel) => cancel.execute(environment, out),
            Command::Forget(forget) => forget.execute(environment, out),
            Command::Quarantine(quarantine) => quarantine.execute(environment, out),
            Command::Sandbox(sandbox) => sandbox.execute(),
            Command::Schema(schema) => schema.execute(out),
            Command::Completions(completions) => completions.execute(&mut Self::command(), out),
            Command::Man(man) => man.execute(Self::command(), out),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
