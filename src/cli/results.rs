//! `pushrider results`: follows what the daemon publishes.

use std::io::Write;

use clap::Args;
use serde_json::Value;
use tokio::select;

use super::configured::Configured;
use super::failure::Failure;
use super::outputs::{is_failure, write_output};
use super::runtime::start_runtime;
use crate::broker::CommandClient;
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
    /// Show only the results of events with this group; subscription events have none
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
        start_runtime(None)?.block_on(async {
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
        let mut followed = client.follow(&["delivery.#", "subscription.#"]).await?;
        let mut shown = 0;
        while self.count.is_none_or(|count| shown < count) {
            let Some(body) = followed.next().await else {
                return Err(Failure::new("the connection to the broker is lost"));
            };
            // Others may publish to the exchange, too.
            let Ok(body) = serde_json::from_slice::<Value>(&body) else {
                continue;
            };
            if self.wants(&body) {
                write_output(out, &body, self.json)?;
                out.flush()?;
                shown += 1;
            }
        }
        Ok(())
    }

    fn wants(&self, body: &Value) -> bool {
        let group = self.group.as_deref();
        let in_group = group.is_none_or(|group| body["group"].as_str() == Some(group));
        in_group && (!self.failures || is_failure(body))
    }
}
