//! `pushrider completions`: print what a shell needs to complete the command line.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::Cli;
use super::failure::Failure;

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(
    after_help = "Bash:  pushrider completions bash > /etc/bash_completion.d/pushrider\n\
                        Fish:  pushrider completions fish > ~/.config/fish/completions/pushrider.fish"
)]
pub struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn execute(self, out: &mut impl Write) -> Result<(), Failure> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "pushrider", &mut script);
        out.write_all(&script)?;
        out.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_completes_every_command() {
        for &shell in Shell::value_variants() {
            let mut printed = Vec::new();
            Completions { shell }.execute(&mut printed).unwrap();
            let script = String::from_utf8(printed).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {command}");
            }
        }
    }
}
