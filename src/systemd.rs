//! Reports the state of the daemon to the service manager (`sd_notify(3)`).
//!
//! What can go wrong here: there is no service manager, and then nothing is sent; it does not read,
//! and then a message takes up to [`WRITE_LIMIT`] and is lost, and the next one replaces it. A
//! watchdog that pings from a timer alone proves nothing, so it pings only while the pipeline's
//! heartbeat is fresh.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::clock::{Clock, SystemClock};
use crate::health::Health;

/// How long a service manager that does not read may hold us up.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// The longest pause between two messages while something has to be said.
const PERIOD: Duration = Duration::from_secs(1);

/// How far ahead each message moves the service manager's stop time-out during the drain, which
/// ends by itself: `shutdown.grace` bounds it.
const EXTENSION: Duration = Duration::from_secs(10);

/// The line to the service manager; without one, nothing is said.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Connects to the socket that `NOTIFY_SOCKET` names, if any.
    ///
    /// # Errors
    /// If the variable is set and the socket cannot be reached.
    pub(crate) fn from_env() -> Result<Self, NotifyError> {
        let Some(address) = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())
        else {
            return Ok(Self {
                socket: None,
                watchdog: None,
            });
        };
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        // Absent means us; another pid means that the variables were meant for our parent.
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0);
        Self::to(&address, watchdog.map(Duration::from_micros))
    }

    /// Connects to a notify socket: a path, or `@` and a name in the abstract namespace.
    ///
    /// `watchdog` is how long the service manager waits for a sign of life.
    ///
    /// # Errors
    /// If the socket cannot be reached.
    pub(crate) fn to(address: &OsStr, watchdog: Option<Duration>) -> Result<Self, NotifyError> {
        let connect = || -> io::Result<UnixDatagram> {
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&socket_address(address)?)?;
            socket.set_write_timeout(Some(WRITE_LIMIT))?;
            Ok(socket)
        };
        match connect() {
            Ok(socket) => Ok(Self {
                socket: Some(socket),
                watchdog,
            }),
            Err(source) => Err(NotifyError {
                address: address.to_string_lossy().into_owned(),
                source,
            }),
        }
    }

    /// Reports that the start or a reload is over.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// Reports that a reload begins, `uptime` after the machine started. [`Notifier::ready`] ends it.
    pub(crate) fn reloading(&self, uptime: Duration) {
        let microseconds = uptime.as_micros();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\n"));
    }

    fn send(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            debug!(%error, "the service manager did not take a message");
        }
    }

    /// At least twice within the watchdog's patience, as `sd_watchdog_enabled(3)` asks.
    fn period(&self) -> Duration {
        self.watchdog
            .map_or(PERIOD, |patience| PERIOD.min(patience / 2))
    }
}

fn socket_address(address: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::ffi::OsStrExt as _;
        if let [b'@', name @ ..] = address.as_bytes() {
            return SocketAddr::from_abstract_name(name);
        }
    }
    SocketAddr::from_pathname(address)
}

/// Why the service manager cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the service manager at {address:?} (NOTIFY_SOCKET): {source}")]
pub(crate) struct NotifyError {
    address: String,
    source: io::Error,
}

/// Reports status, watchdog and drain until `stop`, and then what is still to be said.
///
/// A change of the broker's state or the start of the drain is sent at once, the rest within a
/// second.
pub(crate) async fn report(notifier: Arc<Notifier>, health: Arc<Health>, stop: CancellationToken) {
    if notifier.socket.is_none() {
        return;
    }
    let mut ticks = interval(notifier.period());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = LastNotified::default();
    loop {
        let is_last = stop.is_cancelled();
        let message = last.next(&health, SystemClock.now().mono, notifier.watchdog.is_some());
        if !message.is_empty() {
            notifier.send(&message);
        }
        if is_last {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = health.changed() => {}
            _ = ticks.tick() => {}
        }
    }
}

/// What the service manager knows already.
#[derive(Default)]
struct LastNotified {
    status: String,
    stopping: bool,
}

impl LastNotified {
    /// Returns what is left to say at `now`.
    fn next(&mut self, health: &Health, now: Instant, watchdog: bool) -> String {
        let mut message = String::new();
        let draining = health.is_draining();
        if draining && !self.stopping {
            self.stopping = true;
            message.push_str("STOPPING=1\n");
        }
        let alive = health.is_alive(now);
        if draining && alive {
            // Writing to a String cannot fail.
            let _ = writeln!(message, "EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros());
        }
        let status = health.status_line();
        if status != self.status {
            let _ = writeln!(message, "STATUS={status}");
            self.status = status;
        }
        if watchdog && alive {
            message.push_str("WATCHDOG=1\n");
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{BrokerState, HEARTBEAT_LIMIT};

    fn health() -> (Arc<Health>, Instant) {
        let now = SystemClock.now().mono;
        (Arc::new(Health::new(now)), now)
    }

    #[test]
    fn the_watchdog_is_fed_only_while_the_pipeline_turns() {
        let (health, start) = health();
        let mut last = LastNotified::default();
        assert_eq!(
            last.next(&health, start, true),
            "STATUS=waiting for broker\nWATCHDOG=1\n"
        );
        assert_eq!(last.next(&health, start, true), "WATCHDOG=1\n");
        assert_eq!(last.next(&health, start, false), "");
        let stuck = start + HEARTBEAT_LIMIT * 2;
        assert_eq!(last.next(&health, stuck, true), "");
        health.beat(stuck);
        assert_eq!(last.next(&health, stuck, true), "WATCHDOG=1\n");
    }

    #[test]
    fn stopping_is_said_once_and_the_stop_time_out_moves_while_messages_finish() {
        let (health, start) = health();
        health.set_in_flight(2);
        health.drain();
        let mut last = LastNotified::default();
        assert_eq!(
            last.next(&health, start, false),
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=10000000\nSTATUS=draining, 2 in flight\n"
        );
        assert_eq!(
            last.next(&health, start, false),
            "EXTEND_TIMEOUT_USEC=10000000\n"
        );
        let stuck = start + HEARTBEAT_LIMIT * 2;
        assert_eq!(last.next(&health, stuck, false), "");
    }

    #[test]
    fn messages_come_at_least_twice_within_the_watchdogs_patience() {
        let notifier = |watchdog| Notifier {
            socket: None,
            watchdog,
        };
        for (watchdog, period) in [
            (None, 1000),
            (Some(Duration::from_secs(30)), 1000),
            (Some(Duration::from_millis(100)), 50),
        ] {
            assert_eq!(
                notifier(watchdog).period(),
                Duration::from_millis(period),
                "{watchdog:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_real_notify_socket_hears_the_whole_life() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = tokio::net::UnixDatagram::bind(&path).unwrap();
        let hears = async |expected: &str| {
            let mut bytes = [0; 512];
            let wait = tokio::time::timeout(Duration::from_secs(10), async {
                loop {
                    let length = manager.recv(&mut bytes).await.unwrap();
                    let text = str::from_utf8(&bytes[..length]).unwrap();
                    if text.lines().any(|line| line == expected) {
                        return;
                    }
                }
            });
            assert!(wait.await.is_ok(), "{expected} never came");
        };

        let (health, _) = health();
        let notifier = Notifier::to(path.as_os_str(), Some(Duration::from_millis(40))).unwrap();
        let notifier = Arc::new(notifier);
        notifier.ready(&health.status_line());
        hears("READY=1").await;
        let stop = CancellationToken::new();
        let reporter = tokio::spawn(report(notifier, Arc::clone(&health), stop.clone()));
        hears("WATCHDOG=1").await;
        health.set_broker(BrokerState {
            connected: true,
            lanes: 2,
            blocked: false,
            problem: None,
        });
        hears("STATUS=consuming 2 lanes, 0 in flight").await;
        health.drain();
        hears("STOPPING=1").await;
        hears("EXTEND_TIMEOUT_USEC=10000000").await;
        stop.cancel();
        reporter.await.unwrap();
    }

    #[tokio::test]
    async fn a_drain_that_is_over_at_once_is_still_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let (health, _) = health();
        let stop = CancellationToken::new();
        health.drain();
        stop.cancel();
        let notifier = Notifier::to(path.as_os_str(), None).unwrap();
        report(Arc::new(notifier), health, stop).await;
        let mut bytes = [0; 128];
        let length = manager.recv(&mut bytes).unwrap();
        assert!(bytes[..length].starts_with(b"STOPPING=1\n"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_socket_in_the_abstract_namespace_is_found() {
        let name = format!("@pushrider-test-{}", process::id());
        let address = socket_address(OsStr::new(&name)).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::to(OsStr::new(&name), None).unwrap();
        notifier.ready("waiting for broker");
        let mut bytes = [0; 64];
        let length = manager.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"READY=1\nSTATUS=waiting for broker\n");
    }

    #[test]
    fn a_socket_that_is_not_there_is_named() {
        let error = Notifier::to(OsStr::new("/nowhere/notify"), None).unwrap_err();
        let sentence = r#"cannot reach the service manager at "/nowhere/notify" (NOTIFY_SOCKET): "#;
        assert!(error.to_string().starts_with(sentence), "{error}");
    }
}
