//! A connection as the requests on it see it.

use std::future::pending;

use tokio::sync::{mpsc, oneshot};

use super::stats::{Counters, Entered, Gauge};

/// What a script does to its connection.
#[derive(Debug)]
pub(super) enum Command {
    /// Finish what is in flight, take nothing more; acknowledged once the client will be told.
    Drain(oneshot::Sender<()>),
    /// Say that nothing was processed, and end.
    Refuse,
    /// End.
    Cut,
}

/// A connection as its requests see it.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Which origin was connected to.
    pub(crate) origin: usize,
    pub(super) streams: Gauge,
    pub(super) commands: mpsc::UnboundedSender<Command>,
}

impl Connection {
    /// Counts one stream until the guard is dropped.
    pub(crate) fn enter(&self, counters: &Counters) -> Entered<'_> {
        let entered = self.streams.enter();
        counters.streams(self.streams.most());
        entered
    }

    /// Shuts the connection down gracefully; what is answered after this comes behind `GOAWAY`.
    pub(crate) async fn drain(&self) {
        let (done, acknowledged) = oneshot::channel();
        // A connection that has ended already needs no command.
        if self.commands.send(Command::Drain(done)).is_ok() {
            let _ended = acknowledged.await;
        }
    }

    /// Ends the connection, with the word that nothing was processed where HTTP has one.
    pub(crate) async fn refuse<T>(&self) -> T {
        let _ended = self.commands.send(Command::Refuse);
        pending().await
    }

    /// Ends the connection without a word.
    pub(crate) async fn cut<T>(&self) -> T {
        let _ended = self.commands.send(Command::Cut);
        pending().await
    }
}
