//! `pushrider check`: everything that would fail at the start, found before it.

use std::io;
use std::io::Write;

use clap::Args;

use super::configured::Configured;
use super::failure::{Failure, tell};
use super::runtime::{processors, start_runtime};
use crate::app::App;
use crate::broker::{self, Inspected, Product, Settings};
use crate::config::{self, Config, Environment};

/// Above so many unacknowledged messages some managed brokers close a connection.
const UNACKNOWLEDGED: u32 = 1000;

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
        let inspected = self.connect.then(|| connect(&config.daemon.broker));
        let inspected = inspected.transpose()?;
        if self.print {
            write!(out, "{}", config.effective)?;
        } else {
            summarise(&config, out)?;
            if let Some(inspected) = inspected {
                found(&inspected, out)?;
            }
        }
        Ok(())
    }
}

fn connect(settings: &Settings) -> Result<Inspected, Failure> {
    let inspected = start_runtime(processors())?.block_on(broker::check(settings))?;
    if let Some(warning) = inspected.product.as_ref().and_then(Product::warning) {
        tell(&format!("warning: {warning}"));
    }
    for warning in inspected.away.iter().chain(&inspected.different) {
        tell(&format!("warning: {warning}"));
    }
    if let Some(warning) = unacknowledged(settings) {
        tell(&format!("warning: {warning}"));
    }
    if inspected.problems.is_empty() {
        return Ok(inspected);
    }
    let place = config::places(&settings.urls);
    let problems = inspected.problems.join("\n  ");
    Err(Failure::operator(format!(
        "the broker at {place} is not ready\n  {problems}"
    )))
}

/// Says how many messages can be unacknowledged, where a managed broker may object.
fn unacknowledged(settings: &Settings) -> Option<String> {
    let lanes = settings.lanes.iter();
    let prefetches = lanes.flat_map(|lane| [lane.prefetch, lane.due_prefetch]);
    // Each queue is consumed on a connection of its own.
    let largest = prefetches.map(u32::from).max().unwrap_or_default();
    (largest > UNACKNOWLEDGED).then(|| {
        format!(
            "up to {largest} messages are unacknowledged on one connection; some managed brokers close \
             connections above {UNACKNOWLEDGED}: set prefetch and due_prefetch of the lanes lower there"
        )
    })
}

fn found(inspected: &Inspected, out: &mut impl Write) -> io::Result<()> {
    if let Some(product) = &inspected.product {
        writeln!(out, "  runs    {product}")?;
    }
    write!(
        out,
        "  found   {} exchanges and queues as configured",
        inspected.there
    )?;
    if !inspected.different.is_empty() {
        write!(out, ", {} with other arguments", inspected.different.len())?;
    }
    match &inspected.undeclared[..] {
        [] => writeln!(out),
        names => writeln!(out, "; the daemon declares {}", names.join(", ")),
    }
}

fn summarise(config: &Config, out: &mut impl Write) -> io::Result<()> {
    let broker = &config.daemon.broker;
    let place = config::places(&broker.urls);
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
