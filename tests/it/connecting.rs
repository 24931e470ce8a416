//! What `check --connect` and the daemon say of a broker that they cannot connect to.

use std::time::Duration;

use pushrider::broker::{NeedsOperator, Settings, check};
use pushrider::sandbox;
use rcgen::{CertificateParams, date_time_ymd};

use crate::cli_check::{configured, pushrider, text};
use crate::support::broker::Broker;
use crate::support::daemon::Daemon;
use crate::support::echo::{Echo, result, settings};
use crate::support::listeners::Listener;
use crate::support::node::free_ports;
use crate::support::{eventually, wanted};

/// Expects one line that begins and goes on like this, from `check --connect` and from the daemon.
async fn both_say(settings: Settings, beginning: &str, mend: &str) {
    let checked = check(&settings).await.unwrap_err().to_string();
    assert!(checked.starts_with(beginning), "{checked}");
    assert!(checked.contains(mend), "{checked}");
    assert_eq!(checked.lines().count(), 1, "{checked}");
    let echo = Echo::start(settings, result);
    echo.is(|state| state.problem.as_deref() == Some(&checked))
        .await;
    echo.stop().await;
}

fn trusting(url: String, ca: String) -> Settings {
    Settings {
        ca: Some(ca),
        ..settings(url)
    }
}

fn certificate(name: &str) -> CertificateParams {
    CertificateParams::new([name.to_owned()]).unwrap()
}

#[tokio::test]
async fn amqp_to_a_tls_port_was_an_aborted_connection() {
    let url = Broker::shared().vhost().tls_url();
    let url = url.replace("amqps://", "amqp://");
    both_say(settings(url), "localhost:", "write amqps://").await;
}

#[tokio::test]
async fn amqp_to_another_tls_server_was_an_aborted_connection() {
    let (server, _) = Listener::tls(certificate("localhost")).await;
    let url = format!("amqp://localhost:{}", server.port);
    let beginning = format!("localhost:{} speaks TLS", server.port);
    both_say(settings(url), &beginning, "write amqps://").await;
}

#[tokio::test]
async fn amqp_to_an_http_server_named_no_port() {
    let server = Listener::http().await;
    let url = format!("amqp://127.0.0.1:{}", server.port);
    let beginning = format!("127.0.0.1:{} speaks HTTP", server.port);
    both_say(settings(url), &beginning, "usually 5672").await;
}

#[tokio::test]
async fn amqps_to_a_port_without_tls_was_a_corrupt_message() {
    let vhost = Broker::shared().vhost();
    let http = Listener::http().await;
    for port in [vhost.port(), http.port] {
        let url = format!("amqps://localhost:{port}");
        let beginning = format!(
            "nothing speaks TLS at localhost:{port}; amqps:// wants the TLS listener, usually port \
             5671, or write amqp://"
        );
        let ca = Broker::shared().ca.clone();
        both_say(trusting(url, ca), &beginning, "").await;
    }
}

#[tokio::test]
async fn the_fault_of_a_certificate_had_only_the_name_of_its_type() {
    let broker = Broker::shared();
    let url = broker.vhost().tls_url();
    let (_, foreign_ca) = Listener::tls(certificate("localhost")).await;
    both_say(
        trusting(url, foreign_ca),
        "the certificate of localhost:",
        "broker.ca_file",
    )
    .await;

    let mut expired = certificate("localhost");
    expired.not_before = date_time_ymd(2001, 1, 1);
    expired.not_after = date_time_ymd(2002, 1, 1);
    let mut early = certificate("localhost");
    early.not_before = date_time_ymd(2101, 1, 1);
    early.not_after = date_time_ymd(2102, 1, 1);
    for (certificate, said, mend) in [
        (expired, "has expired", "renew it"),
        (early, "is not valid yet", "clock"),
        (
            certificate("other.example"),
            "is not for the name localhost",
            "other.example",
        ),
    ] {
        let (server, ca) = Listener::tls(certificate).await;
        let url = format!("amqps://localhost:{}", server.port);
        let beginning = format!("the certificate of localhost:{} {said}", server.port);
        both_say(trusting(url, ca), &beginning, mend).await;
    }
}

#[tokio::test]
async fn a_broker_that_wants_client_certificates_was_a_lost_connection() {
    let (server, ca) = Listener::mutual_tls(certificate("localhost")).await;
    let url = format!("amqps://localhost:{}", server.port);
    let beginning = format!("localhost:{} wants a client certificate", server.port);
    both_say(
        trusting(url, ca),
        &beginning,
        "set broker.client_certificate_file",
    )
    .await;
}

#[tokio::test]
async fn a_host_or_port_that_is_not_there_was_an_error_of_the_system() {
    let [port] = free_ports();
    let beginning = format!("nothing listens at 127.0.0.1:{port}: start RabbitMQ there");
    let url = format!("amqp://127.0.0.1:{port}");
    both_say(settings(url), &beginning, "host and port in the AMQP URL").await;
    let beginning = "the host name rabbit.invalid does not resolve";
    let url = "amqp://rabbit.invalid".to_owned();
    both_say(settings(url), beginning, "check the host in the AMQP URL").await;
}

#[tokio::test]
async fn a_refused_guest_was_told_to_check_a_password_that_is_right() {
    let port = Broker::shared().vhost().port();
    let refused = settings(format!("amqp://guest:wrong@127.0.0.1:{port}"));
    assert_eq!(check(&refused).await, Err(NeedsOperator::GuestRefused));
    let ended = Echo::start(refused, result).ended().await;
    assert_eq!(ended, Err(NeedsOperator::GuestRefused));
}

#[tokio::test]
async fn connections_of_two_machines_had_the_same_name_in_the_list_of_the_broker() {
    let broker = Broker::shared();
    let echo = Echo::start(settings(broker.vhost().url()), result);
    echo.consumes().await;
    let connections = broker.control(&["list_connections", "client_properties"]);
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let version = env!("CARGO_PKG_VERSION");
    for part in [
        format!("pushrider {version} at {host} (publish)"),
        format!("pushrider {version} at {host} (consume)"),
        r#"{"product","pushrider"}"#.to_owned(),
    ] {
        assert!(connections.contains(&part), "{part}: {connections}");
    }
    echo.stop().await;
}

#[tokio::test]
async fn a_broker_that_stays_away_filled_the_log() {
    let sandbox = sandbox::start(sandbox::Settings::default()).await.unwrap();
    let [port] = free_ports();
    let mut daemon = Daemon::new(&format!("amqp://127.0.0.1:{port}"), &sandbox, "");
    daemon.launch().await;
    eventually(Duration::from_secs(20), async || {
        daemon.get("/livez").await?;
        let attempts = daemon.metric("pushrider_broker_reconnects_total", "").await;
        wanted(attempts, |&attempts| attempts >= 3.0).map_err(|seen| seen.to_string())
    })
    .await;
    let log = daemon.log();
    let told = log
        .lines()
        .filter(|line| line.contains("no broker; trying again"));
    let warnings: Vec<_> = told.filter(|line| !line.contains("\"DEBUG\"")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    let problem = format!("nothing listens at 127.0.0.1:{port}: start RabbitMQ there");
    assert!(warnings[0].contains(&problem), "{log}");
    daemon.stop().await;
}

#[test]
fn a_parameter_of_the_url_was_swallowed() {
    let (_folder, file) = configured("");
    let url = "amqp://guest:secret@127.0.0.1:1/%2f?heartbeat=5&cacertfile=/etc/ca.pem";
    for command in [&["check", "--connect"][..], &["run"]] {
        let arguments = [command, &["--config", &file]].concat();
        let output = pushrider(&arguments, &[("AMQP_URL", url)]);
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        let said = text(&output.stderr);
        let expected = "broker.url: has the parameter cacertfile, which is not read: set \
                        broker.ca_file in its place";
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}
