//! The daemon under a service manager: a real notify socket, the real binary.

use std::time::Duration;

use pushrider::sandbox;
use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::support::broker::Broker;
use crate::support::daemon::Daemon;

/// How long the service manager may wait for a sign of life.
const WATCHDOG: Duration = Duration::from_secs(2);

/// The service manager's end of the notify socket.
struct Manager {
    directory: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        Self { directory, socket }
    }

    fn address(&self) -> String {
        let path = self.directory.path().join("notify");
        path.to_str().unwrap().to_owned()
    }

    /// Waits for a message with a line, and returns all of it.
    async fn hears(&self, line: &str) -> String {
        let mut bytes = [0; 1024];
        let mut heard = Vec::new();
        let listening = async {
            loop {
                let length = self.socket.recv(&mut bytes).await.unwrap();
                let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
                if message.lines().any(|it| it == line) {
                    return message;
                }
                heard.push(message);
            }
        };
        match timeout(Duration::from_secs(30), listening).await {
            Ok(message) => message,
            Err(_elapsed) => panic!("{line:?} never came, but {heard:?}"),
        }
    }
}

#[tokio::test]
async fn the_service_manager_hears_of_the_start_the_lanes_life_and_the_stop() {
    let manager = Manager::new();
    let vhost = Broker::shared().vhost();
    let sandbox = sandbox::start(sandbox::Settings::default()).await.unwrap();
    let mut daemon = Daemon::new(&vhost.url(), &sandbox, "");
    daemon.launch_under(&manager.address(), WATCHDOG).await;
    manager.hears("READY=1").await;
    manager.hears("STATUS=consuming 1 lane, 0 in flight").await;
    manager.hears("WATCHDOG=1").await;
    daemon.hang_up();
    let message = manager.hears("RELOADING=1").await;
    assert!(message.contains("\nMONOTONIC_USEC="), "{message}");
    manager.hears("READY=1").await;
    daemon.terminate();
    let message = manager.hears("STOPPING=1").await;
    assert!(message.contains("EXTEND_TIMEOUT_USEC="), "{message}");
    assert_eq!(daemon.ended().await.code(), Some(0), "{}", daemon.log());
}

#[tokio::test]
async fn a_broker_that_is_away_is_a_status_and_not_a_failed_start() {
    let manager = Manager::new();
    let sandbox = sandbox::start(sandbox::Settings::default()).await.unwrap();
    // Nobody listens on this port.
    let mut daemon = Daemon::new("amqp://guest:guest@127.0.0.1:1", &sandbox, "");
    daemon.launch_under(&manager.address(), WATCHDOG).await;
    let message = manager.hears("READY=1").await;
    assert!(message.contains("STATUS=waiting for broker"), "{message}");
    let problem = "nothing listens at 127.0.0.1:1: start RabbitMQ there, or check host and port in the \
                   AMQP URL";
    let status = format!("STATUS=waiting for broker: {problem}");
    manager.hears(&status).await;
    manager.hears("WATCHDOG=1").await;
    let (live, _) = daemon.get("/livez").await.unwrap();
    let (ready, body) = daemon.get("/readyz").await.unwrap();
    assert_eq!((live, ready), (200, 503), "{body}");
    let told = format!("broker: not connected: {problem}\n");
    assert!(body.contains(&told), "{body}");
    daemon.terminate();
    manager.hears("STOPPING=1").await;
    assert_eq!(daemon.ended().await.code(), Some(0), "{}", daemon.log());
}
