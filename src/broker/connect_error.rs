//! Why there is no connection to the broker, in one sentence that says what to do.
//!
//! Types decide, never texts: the step that failed ([`Cause`]), rustls's error, AMQP's reply code, and
//! the first bytes of a peer that speaks another protocol ([`Protocol`]).

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use lapin::ErrorKind;
use lapin::uri::{AMQPScheme, AMQPUri, SASLMechanism};
use rustls::{AlertDescription, CertificateError};

use crate::broker::frames::Protocol;
use crate::broker::needs_operator::NeedsOperator;
use crate::broker::reply::{ACCESS_REFUSED, NOT_ALLOWED, Plain, reply_code};

/// The user that RabbitMQ lets in from its own machine alone.
const GUEST: &str = "guest";

/// The mend of a wrong port.
const LISTENER: &str = "write the port of RabbitMQ's AMQP listener, usually 5672, or 5671 with \
                        amqps:// (15672 is the management interface's)";

/// A connection that could not be made.
#[derive(Debug)]
pub(super) struct ConnectError {
    pub(super) target: Target,
    pub(super) cause: Cause,
}

/// What of an AMQP URL may be shown.
#[derive(Clone, Debug)]
pub(super) struct Target {
    host: String,
    port: u16,
    user: String,
    vhost: String,
    has_tls: bool,
    has_client_certificate: bool,
    /// Whether it logs in by its certificate.
    is_external: bool,
}

/// What failed.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    /// The host name has no address.
    Unresolved(String),
    /// No address takes the connection.
    NotConnected(io::ErrorKind, String),
    /// This machine has no certificates to trust.
    NoCertificates(String),
    /// The client's own certificate cannot be used.
    ClientCertificate(String),
    /// The TLS handshake failed.
    Tls(rustls::Error),
    /// The peer closed the connection before the handshakes were over.
    Closed,
    /// The peer speaks another protocol.
    Foreign(Protocol),
    /// The time was over: after the connection was taken, or before.
    Silent {
        is_connected: bool,
        within: Duration,
    },
    /// The AMQP handshake failed.
    Amqp(lapin::Error),
}

impl ConnectError {
    /// Returns whether an operator must act before another attempt can succeed.
    pub(super) fn needs_operator(&self) -> Option<NeedsOperator> {
        let Cause::Amqp(error) = &self.cause else {
            return None;
        };
        match reply_code(error)? {
            ACCESS_REFUSED if self.target.is_external => Some(NeedsOperator::CertificateRefused),
            ACCESS_REFUSED if self.target.user == GUEST => Some(NeedsOperator::GuestRefused),
            ACCESS_REFUSED => Some(NeedsOperator::LoginRefused),
            NOT_ALLOWED => Some(NeedsOperator::VhostRefused {
                vhost: self.target.vhost.clone(),
            }),
            _ => None,
        }
    }
}

impl Target {
    pub(super) fn new(uri: &AMQPUri, has_client_certificate: bool) -> Self {
        let authority = &uri.authority;
        Self {
            host: authority.host.clone(),
            port: authority.port,
            user: authority.userinfo.username.clone(),
            vhost: uri.vhost.clone(),
            has_tls: uri.scheme == AMQPScheme::AMQPS,
            has_client_certificate,
            is_external: uri.query.auth_mechanism == Some(SASLMechanism::External),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

impl Cause {
    /// Returns what failed, by lapin's error and by what the peer spoke in place of AMQP.
    pub(super) fn new(error: lapin::Error, foreign: Option<Protocol>) -> Self {
        if let Some(protocol) = foreign {
            return Self::Foreign(protocol);
        }
        let ErrorKind::IOError(io) = error.kind() else {
            return Self::Amqp(error);
        };
        if let Some(cause) = source::<Self>(io) {
            return cause.clone();
        }
        Self::of_stream(io).unwrap_or(Self::Amqp(error))
    }

    /// Returns what failed in the TLS handshake.
    pub(super) fn of_tls(error: &io::Error) -> Self {
        let other = || Self::Tls(rustls::Error::General(error.to_string()));
        Self::of_stream(error).unwrap_or_else(other)
    }

    fn of_stream(error: &io::Error) -> Option<Self> {
        if let Some(tls) = source::<rustls::Error>(error) {
            return Some(Self::Tls(tls.clone()));
        }
        let is_closed = matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
        );
        is_closed.then_some(Self::Closed)
    }
}

/// Finds an error of one type within an error.
fn source<E: Error + 'static>(error: &io::Error) -> Option<&E> {
    let inner = error.get_ref()?;
    let next = || source(inner.downcast_ref::<io::Error>()?);
    inner.downcast_ref::<E>().or_else(next)
}

impl Error for Cause {}

/// For logs of lapin's alone; [`ConnectError`] has the sentences.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a step before the AMQP handshake failed")
    }
}

impl From<Cause> for lapin::Error {
    fn from(cause: Cause) -> Self {
        io::Error::other(cause).into()
    }
}

impl Error for ConnectError {}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, cause } = self;
        let host = &target.host;
        match cause {
            Cause::Unresolved(why) => write!(
                f,
                "the host name {host} does not resolve: check the host in the AMQP URL, and this \
                 machine's name service ({why})"
            ),
            Cause::NotConnected(io::ErrorKind::ConnectionRefused, _) => write!(
                f,
                "nothing listens at {target}: start RabbitMQ there, or check host and port in the \
                 AMQP URL"
            ),
            Cause::NotConnected(_, why) => write!(
                f,
                "cannot connect to {target}: check host and port in the AMQP URL, and the network \
                 ({why})"
            ),
            Cause::NoCertificates(why) => write!(
                f,
                "this machine trusts no CA: install its CA certificates (Debian: ca-certificates), or \
                 name the broker's CA in broker.ca_file ({why})"
            ),
            Cause::ClientCertificate(what) => {
                write!(f, "no client certificate for {target}: {what}")
            }
            Cause::Tls(error) => self.write_tls(f, error),
            Cause::Closed if target.has_tls => self.write_closed(f),
            Cause::Closed => write!(
                f,
                "{target} closes the connection before the AMQP handshake: where it speaks TLS write \
                 amqps://, else {LISTENER}"
            ),
            Cause::Foreign(protocol) => self.write_foreign(f, *protocol),
            Cause::Silent {
                is_connected: false,
                within,
            } => write!(
                f,
                "{target} does not take a connection within {within:?}: check host and port in the \
                 AMQP URL, and the firewalls on the way"
            ),
            Cause::Silent { within, .. } => write!(
                f,
                "no AMQP handshake from {target} within {within:?}: {LISTENER}"
            ),
            Cause::Amqp(error) => self.write_amqp(f, error),
        }
    }
}

impl ConnectError {
    /// Without the alert, which is lost where the broker has not read all when it closes.
    fn write_closed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = &self.target;
        write!(
            f,
            "{target} closes the connection in the handshake: amqps:// wants the TLS listener, usually \
             port 5671, or write amqp://"
        )?;
        f.write_str(match (target.is_external, target.has_client_certificate) {
            (true, _) => {
                "; for auth_mechanism=external its plug-in rabbitmq_auth_mechanism_ssl must be enabled, \
                 auth_mechanisms list EXTERNAL, and the client certificate be from a CA of its \
                 ssl_options.cacertfile"
            }
            (false, true) => {
                "; the client certificate must be valid and from a CA of its ssl_options.cacertfile"
            }
            (false, false) => {
                "; where the broker wants a client certificate, set broker.client_certificate_file \
                 and broker.client_key_file"
            }
        })
    }

    fn write_foreign(&self, f: &mut fmt::Formatter<'_>, protocol: Protocol) -> fmt::Result {
        let target = &self.target;
        match protocol {
            Protocol::Tls => write!(
                f,
                "{target} speaks TLS: write amqps://, or the port without TLS, usually 5672"
            ),
            Protocol::Http => write!(f, "{target} speaks HTTP: {LISTENER}"),
            Protocol::Other => write!(f, "{target} does not speak AMQP 0-9-1: {LISTENER}"),
        }
    }

    fn write_amqp(&self, f: &mut fmt::Formatter<'_>, error: &lapin::Error) -> fmt::Result {
        if let Some(act) = self.needs_operator() {
            return write!(f, "{act}");
        }
        let target = &self.target;
        if matches!(
            error.kind(),
            ErrorKind::ParsingError(_) | ErrorKind::InvalidProtocolVersion(_)
        ) {
            return self.write_foreign(f, Protocol::Other);
        }
        write!(f, "no AMQP connection to {target}: {}", Plain(error))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "most of rustls's errors have no mend of their own"
    )]
    fn write_tls(&self, f: &mut fmt::Formatter<'_>, error: &rustls::Error) -> fmt::Result {
        let target = &self.target;
        match error {
            rustls::Error::InvalidMessage(_) => write!(
                f,
                "nothing speaks TLS at {target}; amqps:// wants the TLS listener, usually port 5671, \
                 or write amqp://"
            ),
            rustls::Error::InvalidCertificate(error) => self.write_certificate(f, error),
            rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => write!(
                f,
                "{target} wants a client certificate: set broker.client_certificate_file and \
                 broker.client_key_file"
            ),
            rustls::Error::AlertReceived(alert) if target.has_client_certificate => write!(
                f,
                "{target} ends the TLS handshake ({alert:?}): if it refuses the client certificate, \
                 this must be valid and from a CA of the broker's ssl_options.cacertfile"
            ),
            other => write!(
                f,
                "the TLS handshake with {target} fails: the broker must offer TLS 1.2 or 1.3; where \
                 it wants a client certificate, set broker.client_certificate_file and \
                 broker.client_key_file ({other})"
            ),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "most faults of certificates have the same mend"
    )]
    fn write_certificate(&self, f: &mut fmt::Formatter<'_>, why: &CertificateError) -> fmt::Result {
        let Self { target, .. } = self;
        let host = &target.host;
        match why {
            // A CA that was made anew under its old name gives a bad signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => write!(
                f,
                "the certificate of {target} is from a CA that is not trusted: name that CA's \
                 certificate in broker.ca_file"
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => write!(
                f,
                "the certificate of {target} has expired: renew it at the broker, or set this \
                 machine's clock"
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => write!(
                f,
                "the certificate of {target} is not valid yet: set this machine's clock"
            ),
            CertificateError::NotValidForName => self.write_wrong_name(f, "other names"),
            CertificateError::NotValidForNameContext { presented, .. } => {
                self.write_wrong_name(f, &presented.join(", "))
            }
            other => write!(
                f,
                "the certificate of {target} cannot be accepted: give the broker a certificate for \
                 {host} that is not itself a CA's ({other})"
            ),
        }
    }

    fn write_wrong_name(&self, f: &mut fmt::Formatter<'_>, names: &str) -> fmt::Result {
        let Self { target, .. } = self;
        let host = &target.host;
        // The certificate is the peer's to choose.
        let names: String = names.chars().take(200).collect();
        write!(
            f,
            "the certificate of {target} is not for the name {host}: write one of its names in the \
             AMQP URL, or give the broker a certificate with this name (it has {names})"
        )
    }
}

#[cfg(test)]
mod tests;
