//! `pushrider quarantine`: what could not be understood or broke the daemon, to look at and to settle.

use std::io::Write;

use clap::{Args, Subcommand};
use tokio::select;

use super::configured::Configured;
use super::failure::{Failure, tell};
use super::runtime::{processors, start_runtime};
use crate::broker::{QuarantineClient, Quarantined};
use crate::config::Environment;
use crate::wire::quarantine;

mod list;
mod redact;

/// List, show, replay or drop the originals in the quarantine queue
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  pushrider quarantine list
  pushrider quarantine show order-1234 --body > event.json
  pushrider quarantine replay --reason unknown_app

The broker counts how often a message was read and given back; that changes nothing else.")]
pub enum Quarantine {
    /// Say for each message why and since when it is there, and leave it there
    List(List),
    /// Show one message, without what is secret in it
    Show(Show),
    /// Publish messages again as their producers did, and remove each when the broker has confirmed it
    Replay(Replay),
    /// Remove messages for good
    Drop(Remove),
}

/// Where to look, and how far.
#[derive(Debug, Args)]
struct Place {
    #[command(flatten)]
    configured: Configured,
    /// Look at so many messages at most, the oldest first
    #[arg(long, value_name = "N", default_value_t = 100)]
    count: u32,
}

/// Which messages to list, and how.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    place: Place,
    /// Only those with this reason
    #[arg(long)]
    reason: Option<String>,
    /// Write one line of JSON for each, for programs
    #[arg(long)]
    json: bool,
}

/// Which message to show, and how much of it.
#[derive(Debug, Args)]
pub struct Show {
    /// The id of the event
    id: String,
    #[command(flatten)]
    place: Place,
    /// Write the body alone, as it is, with its payload and the keys of subscriptions
    #[arg(long)]
    body: bool,
}

/// Which messages are meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Chosen {
    /// The id of the event; of several, the oldest message
    id: Option<String>,
    /// Every message with this reason
    #[arg(long)]
    reason: Option<String>,
    /// Every message
    #[arg(long)]
    all: bool,
}

/// Which messages to publish again.
#[derive(Debug, Args)]
pub struct Replay {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    place: Place,
}

/// Which messages to remove.
#[derive(Debug, Args)]
pub struct Remove {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    place: Place,
    /// Confirm the removal of more than one message
    #[arg(long)]
    yes: bool,
}

impl Quarantine {
    pub(super) fn execute(
        self,
        environment: &Environment,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let place = match &self {
            Self::List(list) => &list.place,
            Self::Show(show) => &show.place,
            Self::Replay(replay) => &replay.place,
            Self::Drop(remove) if remove.yes || remove.chosen.id.is_some() => &remove.place,
            Self::Drop(_) => {
                let problem = "this removes more than one message for good; confirm it with --yes";
                return Err(Failure::usage(problem));
            }
        };
        let settings = place.configured.load_broker(environment)?;
        start_runtime(processors())?.block_on(async {
            let client = QuarantineClient::connect(&settings).await?;
            let mut queue = Queue::new(&client, place.count);
            let done = select! {
                done = self.work(&mut queue, out) => done,
                interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Failure::from).and(Err(
                    Failure::new("interrupted; what was not settled is back in the quarantine"),
                )),
            };
            client.close().await;
            done
        })
    }

    async fn work(&self, queue: &mut Queue<'_>, out: &mut impl Write) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.work(queue, out).await,
            Self::Show(show) => show.work(queue, out).await,
            Self::Replay(replay) => replay.work(queue).await,
            Self::Drop(remove) => remove.work(queue).await,
        }
    }
}

/// The messages that were there when the command began, within its bound.
struct Queue<'a> {
    client: &'a QuarantineClient,
    room: u32,
    /// How many messages were behind the last one that was taken.
    behind: u32,
}

impl<'a> Queue<'a> {
    fn new(client: &'a QuarantineClient, count: u32) -> Self {
        Self {
            client,
            room: count,
            behind: 0,
        }
    }

    /// Takes the next message. One that comes meanwhile, such as one that is replayed in vain, is left.
    async fn next(&mut self) -> Result<Option<Quarantined>, Failure> {
        if self.room == 0 {
            return Ok(None);
        }
        let Some(message) = self.client.take().await? else {
            return Ok(None);
        };
        self.room = (self.room - 1).min(message.behind);
        self.behind = message.behind;
        Ok(Some(message))
    }

    /// Says that there are more messages than were looked at.
    fn tell_of_the_rest(&self) {
        if self.behind > 0 {
            let behind = self.behind;
            tell(&format!(
                "{behind} more messages; see them with a larger --count"
            ));
        }
    }
}

impl Chosen {
    fn has(&self, message: &Quarantined) -> bool {
        match (&self.id, &self.reason) {
            (Some(id), _) => message.id() == id,
            (None, Some(reason)) => quarantine::reason(&message.headers()) == Some(reason.as_str()),
            (None, None) => self.all,
        }
    }

    /// Takes the next message that is meant.
    async fn next(&self, queue: &mut Queue<'_>, done: u32) -> Result<Option<Quarantined>, Failure> {
        if self.id.is_some() && done > 0 {
            return Ok(None);
        }
        while let Some(message) = queue.next().await? {
            if self.has(&message) {
                return Ok(Some(message));
            }
        }
        queue.tell_of_the_rest();
        if done == 0 && !self.all {
            return Err(Failure::new("no such message is in the quarantine"));
        }
        Ok(None)
    }
}

impl List {
    async fn work(&self, queue: &mut Queue<'_>, out: &mut impl Write) -> Result<(), Failure> {
        let mut rows = Vec::new();
        while let Some(message) = queue.next().await? {
            let row = list::Row::new(&message);
            if self.reason.is_none() || self.reason == row.reason {
                rows.push(row);
            }
        }
        list::write(&rows, self.json, out)?;
        out.flush()?;
        queue.tell_of_the_rest();
        Ok(())
    }
}

impl Show {
    async fn work(&self, queue: &mut Queue<'_>, out: &mut impl Write) -> Result<(), Failure> {
        let chosen = Chosen {
            id: Some(self.id.clone()),
            reason: None,
            all: false,
        };
        let Some(message) = chosen.next(queue, 0).await? else {
            return Ok(());
        };
        if self.body {
            out.write_all(&message.body)?;
        } else {
            list::show(&message, out)?;
        }
        out.flush()?;
        Ok(())
    }
}

impl Replay {
    async fn work(&self, queue: &mut Queue<'_>) -> Result<(), Failure> {
        let mut done = 0;
        while let Some(message) = self.chosen.next(queue, done).await? {
            let key = queue.client.replay(&message).await?;
            tell(&format!("published {} to {key}", message.id()));
            done += 1;
        }
        Ok(())
    }
}

impl Remove {
    async fn work(&self, queue: &mut Queue<'_>) -> Result<(), Failure> {
        let mut done = 0;
        while let Some(message) = self.chosen.next(queue, done).await? {
            queue.client.remove(&message).await?;
            tell(&format!("removed {}", message.id()));
            done += 1;
        }
        Ok(())
    }
}
