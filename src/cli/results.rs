//! `pushrider results`: follows what the daemon publishes.

use std::io;
use std::io::{IsTerminal as _, Write};

use clap::Args;
use serde_json::Value;
use tokio::select;
use tokio::time::Instant;

use super::campaign::Campaign;
use super::configured::Configured;
use super::failure::Failure;
use super::outputs::{is_failure, write_output};
use super::runtime::{processors, start_runtime};
use crate::broker::CommandClient;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Environment;

/// Follow delivery results and subscription events until Ctrl-C, without taking them from others
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  pushrider results --failures --json

The queue belongs to this connection alone; the broker deletes it with the connection.")]
pub struct Results {
    #[command(flatten)]
    configured: Configured,
    /// Show only the results of events with this group, and on a terminal how far it is; subscription
    /// events have no group
    #[arg(long)]
    group: Option<String>,
    /// Leave out what was accepted
    #[arg(long)]
    failures: bool,
    /// End after so many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Write one line of JSON for each, for programs
    #[arg(long)]
    json: bool,
}

impl Results {
    pub(super) fn execute(
        self,
        environment: &Environment,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let settings = self.configured.load_broker(environment)?;
        start_runtime(processors())?.block_on(async {
            let client = CommandClient::connect(&settings).await?;
            let followed = select! {
                followed = self.follow(&client, out) => followed,
                interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Failure::from),
            };
            client.close().await;
            followed
        })
    }

    async fn follow(&self, client: &CommandClient, out: &mut impl Write) -> Result<(), Failure> {
        let mut bar = self.bar();
        let mut keys = vec!["delivery.#", "subscription.#"];
        keys.extend(bar.as_ref().map(|_| "progress.#"));
        let mut followed = client.follow(&keys).await?;
        let mut shown = 0;
        while self.count.is_none_or(|count| shown < count) {
            let Some(body) = followed.next().await else {
                return Err(Failure::new("the connection to the broker is lost"));
            };
            // Others may publish to the exchange, too.
            let Ok(body) = serde_json::from_slice::<Value>(&body) else {
                continue;
            };
            if !self.wants(&body) {
                continue;
            }
            if let Some(bar) = &mut bar {
                if body.get("sequence").is_some() {
                    bar.add(&body)?;
                    continue;
                }
                bar.clear()?;
            }
            write_output(out, &body, self.json)?;
            out.flush()?;
            shown += 1;
        }
        Ok(())
    }

    /// Returns the progress bar of the group, if somebody can see it.
    fn bar(&self) -> Option<Bar<'_>> {
        let group = self.group.as_deref()?;
        io::stderr().is_terminal().then(|| Bar {
            group,
            campaign: Campaign::default(),
            since: None,
        })
    }

    fn wants(&self, body: &Value) -> bool {
        let group = self.group.as_deref();
        let in_group = group.is_none_or(|group| body["group"].as_str() == Some(group));
        let is_result = body.get("sequence").is_none();
        in_group && (!self.failures || !is_result || is_failure(body))
    }
}

/// The progress bar of a group, on the last line of the terminal.
struct Bar<'a> {
    group: &'a str,
    campaign: Campaign,
    /// When the first message came.
    since: Option<Instant>,
}

impl Bar<'_> {
    fn add(&mut self, message: &Value) -> io::Result<()> {
        let now = SystemClock.now().mono;
        let since = *self.since.get_or_insert(now);
        self.campaign.add(message);
        let line = self.campaign.line(self.group, now.duration_since(since));
        self.clear()?;
        write!(io::stderr(), "{line}")?;
        io::stderr().flush()
    }

    /// Clears the line for a result; the next message draws the bar again.
    fn clear(&self) -> io::Result<()> {
        write!(io::stderr(), "\r\x1b[K")
    }
}
