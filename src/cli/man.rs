//! `pushrider man`: the manual pages, made from the command line's own help.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man as Page;

use super::failure::Failure;

/// Print the manual page pushrider(1), or write it and one for each command
#[derive(Debug, Args)]
#[command(after_help = "Example:  pushrider man --dir /usr/share/man/man1")]
pub struct Man {
    /// Write one file for each command into this directory, which must exist
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn execute(self, program: Command, out: &mut impl Write) -> Result<(), Failure> {
        let Some(dir) = self.dir else {
            let mut page = Vec::new();
            Page::new(program).render(&mut page)?;
            out.write_all(&page)?;
            out.flush()?;
            return Ok(());
        };
        let mut program = program.disable_help_subcommand(true);
        program.build();
        write_pages(&program, "pushrider", &dir)
    }
}

/// Writes the page of a command, and those of the commands below it.
fn write_pages(command: &Command, name: &str, dir: &Path) -> Result<(), Failure> {
    let mut page = Vec::new();
    let titled = command.clone().display_name(name.to_owned());
    Page::new(titled).render(&mut page)?;
    let path = dir.join(format!("{name}.1"));
    fs::write(&path, page)
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
    for below in command.get_subcommands() {
        write_pages(below, &format!("{name}-{}", below.get_name()), dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Command {
        let replay = Command::new("replay").about("Publish again");
        let quarantine = Command::new("quarantine").subcommand(replay);
        let program = Command::new("pushrider").subcommand(quarantine);
        program.after_help("Exit status: 0")
    }

    #[test]
    fn every_command_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        let dir = Some(directory.path().to_owned());
        Man { dir }.execute(program(), &mut Vec::new()).unwrap();
        let read = |page: &str| fs::read_to_string(directory.path().join(page)).unwrap();
        assert!(read("pushrider.1").contains("Exit status: 0"));
        assert!(read("pushrider-quarantine.1").contains(".SH NAME"));
        assert!(read("pushrider-quarantine-replay.1").contains("Publish again"));
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let dir = Some(PathBuf::from("/nonexistent"));
        let failure = Man { dir }.execute(program(), &mut Vec::new());
        let message = failure.unwrap_err().message;
        assert!(message.contains("/nonexistent/pushrider.1"), "{message}");
    }
}
