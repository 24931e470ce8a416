//! `pushrider check`: everything that would fail at the start, found before it.

use std::io;
use std::io::Write;

use clap::Args;

use super::configured::Configured;
use super::failure::{Failure, tell};
use super::runtime::start_runtime;
use crate::app::App;
use crate::broker;
use crate::config::{self, Config, Environment};

/// Check the configuration and every file it names, and report all problems at once
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    configured: Configured,
    /// Print the effective configuration, with the source of what is not a default
    #[arg(long)]
    print: bool,
    /// Also connect to the broker and look, changing nothing
    #[arg(long)]
    connect: bool,
}

impl Check {
    pub(super) fn execute(
        self,
        environment: &Environment,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let config = self.configured.load(environment)?;
        for warning in &config.warnings {
            tell(&format!("warning: {warning}"));
        }
        if self.connect {
            connect(&config.daemon.broker)?;
        }
        if self.print {
            write!(out, "{}", config.effective)?;
        } else {
            summarise(&config, out)?;
        }
        Ok(())
    }
}

fn connect(settings: &broker::Settings) -> Result<(), Failure> {
    let found = start_runtime(None)?.block_on(broker::check(settings))?;
    if found.is_empty() {
        return Ok(());
    }
    let place = config::place(&settings.url);
    let findings = found.join("\n  ");
    Err(Failure::operator(format!(
        "the broker at {place} is not ready\n  {findings}"
    )))
}

fn summarise(config: &Config, out: &mut impl Write) -> io::Result<()> {
    let broker = &config.daemon.broker;
    let place = config::place(&broker.url);
    let lanes: Vec<&str> = broker.lanes.iter().map(|lane| lane.name.as_str()).collect();
    writeln!(out, "ok")?;
    writeln!(out, "  broker  {place}, names begin with {}", broker.prefix)?;
    writeln!(out, "  lanes   {}", lanes.join(", "))?;
    for app in config.daemon.apps.iter() {
        writeln!(out, "  app     {}", describe(app))?;
    }
    match config.daemon.admin.listen {
        Some(address) => writeln!(out, "  admin   {address}"),
        None => writeln!(out, "  admin   off"),
    }
}

fn describe(app: &App) -> String {
    let older: Vec<&str> = app
        .ring
        .older
        .iter()
        .map(|key| key.name().as_str())
        .collect();
    let primary = app.ring.primary.name();
    let mut line = format!("{}, signs with {primary}", app.name);
    if !older.is_empty() {
        line += &format!(", also has {}", older.join(", "));
    }
    line
}
