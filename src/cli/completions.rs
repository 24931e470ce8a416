//! `pushrider completions`: print what a shell needs to complete the command line.

use std::io::Write;

use clap::{Args, Command};
use clap_complete::{Shell, generate};

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
    pub(super) fn execute(
        self,
        program: &mut Command,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let mut script = Vec::new();
        generate(self.shell, program, "pushrider", &mut script);
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
    fn every_shell_completes_the_commands() {
        for &shell in Shell::value_variants() {
            let mut program = Command::new("pushrider").subcommand(Command::new("topology"));
            let mut printed = Vec::new();
            let completions = Completions { shell };
            completions.execute(&mut program, &mut printed).unwrap();
            let script = String::from_utf8(printed).unwrap();
            assert!(script.contains("topology"), "{shell}");
        }
    }
}
