//! A table of faults and the sentences for them.

use std::time::Duration;

use lapin::protocol::AMQPError;
use rustls::{InvalidMessage, OtherError};

use super::*;
use crate::broker::amqp_url;

fn closed_with(code: u16) -> lapin::Error {
    let error = AMQPError::from_id(code, "because".into()).unwrap();
    ErrorKind::ProtocolError(error).into()
}

fn error(url: &str, cause: Cause) -> ConnectError {
    let target = Target::new(&amqp_url::read(url).unwrap(), url.contains("external"));
    ConnectError { target, cause }
}

fn tls(error: rustls::Error) -> Cause {
    Cause::of_tls(&io::Error::new(io::ErrorKind::InvalidData, error))
}

fn certificate(error: CertificateError) -> Cause {
    tls(rustls::Error::InvalidCertificate(error))
}

fn io_error(kind: io::ErrorKind) -> Cause {
    Cause::new(io::Error::from(kind).into(), None)
}

#[test]
fn every_fault_of_a_connection_is_one_line_that_names_the_mend() {
    let not_tls = || {
        tls(rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType,
        ))
    };
    let alert = AlertDescription::CertificateRequired;
    let silent = |is_connected| Cause::Silent {
        is_connected,
        within: Duration::from_secs(10),
    };
    let names = CertificateError::NotValidForNameContext {
        expected: "h".try_into().unwrap(),
        presented: vec!["DnsName(\"rabbit\")".to_owned()],
    };
    let other = CertificateError::Other(OtherError(std::sync::Arc::new(io::Error::other("x"))));
    let refused = io::ErrorKind::ConnectionRefused;
    for (url, cause, beginning, mend) in [
        (
            "amqp://h:5671",
            Cause::Foreign(Protocol::Tls),
            "h:5671 speaks TLS",
            "write amqps://",
        ),
        (
            "amqp://h:15672",
            Cause::Foreign(Protocol::Http),
            "h:15672 speaks HTTP",
            "usually 5672",
        ),
        (
            "amqp://h",
            Cause::Foreign(Protocol::Other),
            "h:5672 does not speak AMQP 0-9-1",
            "usually 5672",
        ),
        (
            "amqp://h",
            io_error(io::ErrorKind::ConnectionAborted),
            "h:5672 closes the connection before",
            "write amqps://",
        ),
        (
            "amqps://h:5672",
            not_tls(),
            "nothing speaks TLS at h:5672;",
            "usually port 5671, or write amqp://",
        ),
        (
            "amqps://h:1",
            io_error(io::ErrorKind::UnexpectedEof),
            "h:1 closes the connection in",
            "usually port 5671",
        ),
        (
            "amqps://h?auth_mechanism=external",
            io_error(io::ErrorKind::ConnectionReset),
            "h:5671 closes the connection in the handshake",
            "rabbitmq_auth_mechanism_ssl",
        ),
        (
            "amqps://h",
            certificate(CertificateError::UnknownIssuer),
            "the certificate of h:5671 is from a CA",
            "broker.ca_file",
        ),
        (
            "amqps://h",
            certificate(CertificateError::BadSignature),
            "the certificate of h:5671 is from a CA",
            "broker.ca_file",
        ),
        (
            "amqps://h",
            certificate(CertificateError::Expired),
            "the certificate of h:5671 has expired",
            "renew it",
        ),
        (
            "amqps://h",
            certificate(CertificateError::NotValidYet),
            "the certificate of h:5671 is not valid yet",
            "clock",
        ),
        (
            "amqps://h",
            certificate(names),
            "the certificate of h:5671 is not for the name h",
            "it has DnsName(\"rabbit\")",
        ),
        (
            "amqps://h",
            certificate(other),
            "the certificate of h:5671 cannot be accepted",
            "give the broker",
        ),
        (
            "amqps://h",
            tls(rustls::Error::AlertReceived(alert)),
            "h:5671 wants a client certificate",
            "set broker.client_certificate_file",
        ),
        (
            "amqps://h?auth_mechanism=external",
            tls(rustls::Error::AlertReceived(AlertDescription::UnknownCA)),
            "h:5671 ends the TLS handshake (UnknownCA)",
            "ssl_options.cacertfile",
        ),
        (
            "amqps://h?auth_mechanism=external",
            Cause::ClientCertificate("cannot read".to_owned()),
            "no client certificate for h:5671",
            "cannot read",
        ),
        (
            "amqps://h?auth_mechanism=external",
            Cause::Amqp(closed_with(403)),
            "the broker refuses the user that the client certificate names",
            "add_user",
        ),
        (
            "amqps://h",
            tls(rustls::Error::HandshakeNotComplete),
            "the TLS handshake with h:5671 fails",
            "TLS 1.2",
        ),
        (
            "amqps://h",
            Cause::NoCertificates("none".to_owned()),
            "this machine trusts no CA",
            "broker.ca_file",
        ),
        (
            "amqp://h",
            Cause::Unresolved("none".to_owned()),
            "the host name h does not resolve",
            "check the host",
        ),
        (
            "amqp://h",
            Cause::NotConnected(refused, String::new()),
            "nothing listens at h:5672",
            "start RabbitMQ",
        ),
        (
            "amqp://[::1]",
            Cause::NotConnected(io::ErrorKind::Other, "x".to_owned()),
            "cannot connect to [::1]:5672",
            "check host and port",
        ),
        (
            "amqp://h",
            silent(false),
            "h:5672 does not take a connection within 10s",
            "firewalls",
        ),
        (
            "amqp://h",
            silent(true),
            "no AMQP handshake from h:5672 within 10s",
            "usually 5672",
        ),
        (
            "amqp://h/v",
            Cause::Amqp(closed_with(530)),
            "the broker does not let the user into the virtual host \"v\"",
            "add_vhost",
        ),
        (
            "amqp://u:p@h",
            Cause::Amqp(closed_with(403)),
            "the broker refuses the user name",
            "authenticate_user",
        ),
        (
            "amqp://h",
            Cause::Amqp(closed_with(320)),
            "no AMQP connection to h:5672",
            "because",
        ),
    ] {
        let said = error(url, cause).to_string();
        assert!(said.starts_with(beginning) && said.contains(mend), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn guest_from_elsewhere_is_not_told_to_check_its_password_first() {
    for url in ["amqp://h", "amqp://guest:wrong@h"] {
        let act = error(url, Cause::Amqp(closed_with(403))).needs_operator();
        assert_eq!(act, Some(NeedsOperator::GuestRefused));
        let said = act.unwrap().to_string();
        assert!(said.contains("guest may only connect from the broker's own machine; make a user"));
    }
    let act = error("amqp://u:p@h", Cause::Amqp(closed_with(403))).needs_operator();
    assert_eq!(act, Some(NeedsOperator::LoginRefused));
}

#[test]
fn only_a_refused_login_needs_an_operator_at_once() {
    let act = |cause| error("amqp://u:p@h/web", cause).needs_operator();
    let vhost = "web".to_owned();
    assert_eq!(
        act(Cause::Amqp(closed_with(530))),
        Some(NeedsOperator::VhostRefused { vhost })
    );
    for code in [320, 405, 406, 501, 506, 541] {
        assert_eq!(act(Cause::Amqp(closed_with(code))), None, "{code}");
    }
    assert_eq!(act(Cause::Foreign(Protocol::Http)), None);
    assert_eq!(act(Cause::Closed), None);
}

#[test]
fn an_unreadable_frame_of_a_connection_that_never_was_is_not_blamed_on_a_message() {
    let protocol = Some(Protocol::Tls);
    let aborted = || io::Error::from(io::ErrorKind::ConnectionAborted).into();
    assert!(matches!(
        Cause::new(aborted(), protocol),
        Cause::Foreign(Protocol::Tls)
    ));
    assert!(matches!(Cause::new(aborted(), None), Cause::Closed));
}

#[test]
fn the_step_that_failed_passes_through_lapin() {
    let lapin = lapin::Error::from(Cause::Unresolved("none".to_owned()));
    assert!(matches!(Cause::new(lapin, None), Cause::Unresolved(_)));
}
