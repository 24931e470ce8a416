//! The command line: one file for each command.
//!
//! Standard output has what was asked for, standard error what a person should know. Exit status:
//! 0 all went well, 1 it failed while running, 2 the command line is wrong (clap's), 78 an operator
//! must act (`EX_CONFIG` of `sysexits.h`), on which systemd does not restart.

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Environment;

use self::failure::{Failure, tell};

pub mod audit;
pub mod check;
mod configured;
mod failure;
mod input;
pub mod keys;
mod lines;
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
    Send(send::Send),
    Publish(publish::Publish),
    Results(results::Results),
    #[command(subcommand)]
    Quarantine(quarantine::Quarantine),
    Sandbox(sandbox::Sandbox),
    Schema(schema::Schema),
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
            Command::Quarantine(quarantine) => quarantine.execute(environment, out),
            Command::Sandbox(sandbox) => sandbox.execute(),
            Command::Schema(schema) => schema.execute(out),
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
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
