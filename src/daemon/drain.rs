//! Until a signal comes, and what happens then.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::broker::{NeedsOperator, Triggers};
use crate::clock::SystemClock;
use crate::health::Health;
use crate::systemd::Notifier;

use super::dispatch::Dispatch;
use super::failure::Failure;
use super::reload::Reloader;

/// How long the broker may take to confirm and acknowledge what the drain left to it.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A daemon at work.
pub(super) struct Running {
    pub(super) broker: JoinHandle<Result<(), NeedsOperator>>,
    pub(super) dispatch: Dispatch,
    pub(super) reloader: Reloader,
    pub(super) notifier: Arc<Notifier>,
    pub(super) health: Arc<Health>,
    pub(super) triggers: Triggers,
    pub(super) grace: Duration,
}

impl Running {
    /// Watches over the tasks that must not end, and reloads the configuration as often as a signal
    /// asks, until one asks to stop.
    pub(super) async fn supervise(mut self, mut signals: Signals) -> Result<(), Failure> {
        loop {
            tokio::select! {
                ended = &mut self.broker => return Err(broker_ended(ended)),
                () = self.dispatch.finished() => return Err(self.dispatch_ended().await),
                asked = signals.next() => match asked {
                    Asked::Reload => self.reload(),
                    Asked::Stop(signal) => {
                        info!(signal, "stopping");
                        break;
                    }
                },
            }
        }
        self.health.drain();
        self.triggers.stop_consuming.cancel();
        tokio::select! {
            () = self.drain() => {}
            signal = signals.stop() => {
                warn!(signal, "stopping at once");
                self.dispatch.give_up().await;
            }
        }
        // With the last delivery, the last sender of settlements is gone: the broker's tasks
        // publish, confirm and acknowledge what they have, and end.
        match timeout(SETTLE_TIMEOUT, &mut self.broker).await {
            Ok(Ok(Ok(()))) => {}
            Ok(ended) => return Err(broker_ended(ended)),
            Err(_elapsed) => warn!("the broker did not confirm everything; the rest comes again"),
        }
        info!("stopped");
        Ok(())
    }

    /// Reloads the configuration. The files are small, and no delivery waits for this task.
    fn reload(&mut self) {
        self.notifier.reloading(SystemClock.uptime());
        if let Some(grace) = self.reloader.reload() {
            self.grace = grace;
            self.triggers.read_urls.notify_one();
        }
        self.notifier.ready(&self.health.status_line());
    }

    /// Returns why no more delivery comes: mostly because the broker's tasks are about to end.
    async fn dispatch_ended(&mut self) -> Failure {
        match timeout(SETTLE_TIMEOUT, &mut self.broker).await {
            Ok(ended) => broker_ended(ended),
            Err(_elapsed) => Failure::Task("dispatch"),
        }
    }

    /// Finishes what is under way within the grace; what is not is returned to the broker.
    async fn drain(&mut self) {
        if timeout(self.grace, self.dispatch.finished()).await.is_err() {
            let unfinished = self.dispatch.give_up().await;
            warn!(
                unfinished,
                "the grace is over; the broker delivers the rest again"
            );
        }
    }
}

fn broker_ended(ended: Result<Result<(), NeedsOperator>, JoinError>) -> Failure {
    match ended {
        Ok(Err(operator)) => Failure::Operator(operator),
        Ok(Ok(())) | Err(_) => Failure::Task("broker connection"),
    }
}

/// What a signal asks for.
enum Asked {
    /// The end, by the signal of this name.
    Stop(&'static str),
    /// Another configuration.
    Reload,
}

/// SIGTERM and SIGINT, which stop the daemon, and SIGHUP, which reloads its configuration.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Replaces the default action of the signals, which ends the process.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }

    /// Waits for the next one that stops the daemon, and returns its name.
    async fn stop(&mut self) -> &'static str {
        loop {
            if let Asked::Stop(signal) = self.next().await {
                return signal;
            }
        }
    }
}
