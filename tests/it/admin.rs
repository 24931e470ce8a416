//! The admin listener of a real daemon among clients that mean it no good.

use std::time::Duration;

use pushrider::sandbox;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::node::free_ports;

/// How long a probe may wait; Kubernetes waits for a second.
const PROBE: Duration = Duration::from_secs(1);

/// Starts a daemon that has no broker, and waits until its listener answers.
async fn daemon() -> Daemon {
    let sandbox = sandbox::start(sandbox::Settings::default()).await.unwrap();
    let url = format!("amqp://127.0.0.1:{}", free_ports::<1>()[0]);
    let mut daemon = Daemon::new(&url, &sandbox, "");
    daemon.launch().await;
    eventually(Duration::from_secs(20), async || daemon.get("/livez").await).await;
    daemon
}

async fn is_alive(daemon: &Daemon) {
    let answer = timeout(PROBE, daemon.get("/livez")).await;
    let (status, body) = answer.expect("a probe is answered in time").unwrap();
    assert_eq!((status, body.as_str()), (200, "ok\n"));
}

#[tokio::test]
async fn idle_connections_kept_a_probe_waiting() {
    let daemon = daemon().await;
    let mut idle = Vec::new();
    for beginning in ["", "GET /livez HTTP/1.1\r\nHost: "] {
        for _ in 0..300 {
            let mut stream = TcpStream::connect(daemon.admin()).await.unwrap();
            // It may have been dropped for those that came after it.
            let _ = stream.write_all(beginning.as_bytes()).await;
            idle.push(stream);
        }
        is_alive(&daemon).await;
    }
    // The oldest were dropped for the others.
    let mut rest = Vec::new();
    let read = timeout(PROBE, idle[0].read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "the oldest connection is still open");
    // So is the last one, after a few seconds without a request.
    let last = idle.last_mut().unwrap();
    let read = timeout(Duration::from_secs(10), last.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "an idle connection is still open");
    is_alive(&daemon).await;
}

#[tokio::test]
async fn a_header_of_200_kb_was_read() {
    let daemon = daemon().await;
    let mut stream = TcpStream::connect(daemon.admin()).await.unwrap();
    let padding = "a".repeat(200_000);
    let head = format!("GET /livez HTTP/1.1\r\nHost: x\r\nPadding: {padding}\r\n\r\n");
    // The listener closes before it has read everything, so both may fail.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    is_alive(&daemon).await;
}

#[tokio::test]
async fn the_metrics_of_a_daemon_name_its_version_its_applications_and_its_process() {
    let daemon = daemon().await;
    let (_, text) = daemon.get("/metrics").await.unwrap();
    for series in [
        format!(
            "pushrider_build_info{{version=\"{}\"}} 1",
            env!("CARGO_PKG_VERSION")
        ),
        r#"pushrider_messages_total{app="shop",outcome="accepted","#.to_owned(),
        r#"pushrider_messages_total{app="(unknown)",outcome="accepted","#.to_owned(),
    ] {
        assert!(text.contains(&series), "{series}");
    }
    let proc = format!("/proc/{}/fd", daemon.pid());
    let open = std::fs::read_dir(proc).unwrap().count();
    let counted = daemon.metric("process_open_fds", "").await;
    assert!((counted - open as f64).abs() < 10.0, "{counted} of {open}");
    let resident = daemon.metric("process_resident_memory_bytes", "").await;
    assert!(resident > 1e6, "{resident}");
}
