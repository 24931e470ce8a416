//! `pushrider man`: the manual pages, made from the command line's own help and the annotated sample
//! configuration.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Command, ValueEnum};
use clap_mangen::Man as Page;
use clap_mangen::roff::{Roff, bold, roman};

use super::failure::Failure;
use crate::config::sample::{self, SAMPLE, Section};

/// Print a manual page, or write pushrider(1) and one page for each command
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    pushrider man pushrider.toml | man --local-file -\n  \
    pushrider man --dir /usr/share/man/man1")]
pub struct Man {
    /// The page to print
    #[arg(value_enum, default_value = "pushrider", conflicts_with = "dir")]
    page: PageName,
    /// Write one file for each command into this directory, which must exist
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The pages that are printed one at a time.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PageName {
    /// pushrider(1), the command line
    Pushrider,
    /// pushrider.toml(5), the configuration file
    #[value(name = "pushrider.toml")]
    Configuration,
}

impl Man {
    pub(super) fn execute(self, program: Command, out: &mut impl Write) -> Result<(), Failure> {
        let Some(dir) = self.dir else {
            let page = match self.page {
                PageName::Pushrider => {
                    let mut page = Vec::new();
                    Page::new(program).render(&mut page)?;
                    page
                }
                PageName::Configuration => configuration().render().into_bytes(),
            };
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

/// Returns the page of the configuration file.
fn configuration() -> Roff {
    let version = concat!("pushrider ", env!("CARGO_PKG_VERSION"));
    let mut page = Roff::new();
    page.control("TH", ["pushrider.toml", "5", "", version, ""]);
    page.control("SH", ["NAME"]);
    page.text([roman("pushrider.toml - the configuration of pushrider")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "The file is TOML. Each key below has the value that holds without it, or an example. One \
         application and one key must be there.",
    )]);
    // The first two paragraphs say how the sample itself is written.
    for paragraph in sample::introduction(SAMPLE).into_iter().skip(2) {
        page.control("PP", []);
        page.text([roman(paragraph)]);
    }
    page.control("SH", ["SECTIONS"]);
    for section in sample::sections(SAMPLE) {
        write_section(&mut page, section);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([
        bold("pushrider"),
        roman("(1), "),
        bold("systemd.exec"),
        roman("(5)"),
    ]);
    page
}

/// Writes a section with its keys. Keys that share a comment stand above it together.
fn write_section(page: &mut Roff, section: Section) {
    page.control("SS", [&*format!("[{}]", section.name)]);
    page.text([roman(section.text)]);
    for keys in section
        .keys
        .chunk_by(|before, after| before.text == after.text)
    {
        for (index, key) in keys.iter().enumerate() {
            page.control(if index == 0 { "TP" } else { "TQ" }, []);
            let note = if key.is_example { " (example)" } else { "" };
            let value = format!(" = {}{note}", key.value);
            page.text([bold(&key.name), roman(value)]);
        }
        page.text([roman(&keys[0].text)]);
    }
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
        let page = PageName::Pushrider;
        Man { page, dir }
            .execute(program(), &mut Vec::new())
            .unwrap();
        let read = |page: &str| fs::read_to_string(directory.path().join(page)).unwrap();
        assert!(read("pushrider.1").contains("Exit status: 0"));
        assert!(read("pushrider-quarantine.1").contains(".SH NAME"));
        assert!(read("pushrider-quarantine-replay.1").contains("Publish again"));
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let dir = Some(PathBuf::from("/nonexistent"));
        let page = PageName::Pushrider;
        let failure = Man { page, dir }.execute(program(), &mut Vec::new());
        let message = failure.unwrap_err().message;
        assert!(message.contains("/nonexistent/pushrider.1"), "{message}");
    }

    #[test]
    fn the_page_of_the_configuration_has_every_section_and_key() {
        let (page, dir) = (PageName::Configuration, None);
        let mut printed = Vec::new();
        Man { page, dir }.execute(program(), &mut printed).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        for section in sample::sections(SAMPLE) {
            assert!(
                printed.contains(&section.name.replace('-', "\\-")),
                "{section:?}"
            );
            for key in section.keys {
                assert!(
                    printed.contains(&format!("\\fB{}\\fR = ", key.name)),
                    "{key:?}"
                );
            }
        }
        assert!(printed.contains("PUSHRIDER_PUSH__TIMEOUT"), "{printed}");
    }
}
