//! What is wrong with the TLS of a push service.

use std::fmt;
use std::time::SystemTime;

use jiff::Timestamp;
use strum::IntoStaticStr;

/// A TLS handshake that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFailure {
    /// What is wrong.
    pub fault: TlsFault,
    /// The TLS library's words, bounded.
    pub words: Box<str>,
}

/// What is wrong with the TLS of a push service; its text says it and what mends it.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum TlsFault {
    /// No authority that is trusted here has issued the certificate, as far as what the server sends
    /// shows.
    UnknownIssuer,
    /// The certificate has issued itself, and is not trusted.
    SelfSigned,
    /// The certificate has issued itself and is an authority's, so it is no server's (RFC 5280
    /// §4.2.1.9).
    SelfSignedAuthority,
    /// The certificate has expired, at this time if it is known.
    Expired(Option<SystemTime>),
    /// The certificate is not valid yet, but from this time on if it is known.
    NotYetValid(Option<SystemTime>),
    /// The certificate is for other names, of which these are the first.
    OtherName(Box<str>),
    /// There is no version of TLS, cipher suite or the like that both sides have.
    NothingInCommon,
    /// What the server sends is not TLS.
    NotTls,
    /// The server closed the connection during the handshake.
    Closed,
    /// The server refuses the handshake, or breaks its rules, as the TLS library's words say.
    Other(Box<str>),
}

impl TlsFault {
    /// Returns the word of the logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownIssuer => f.write_str(
                "the issuer of the server's certificate is unknown here: if it is a CA of your own, \
                 set push.ca_file to a PEM file with the CA's certificate; else the server must \
                 send its intermediate certificates too",
            ),
            Self::SelfSigned => f.write_str(
                "the server's certificate is self-signed: set push.ca_file to a PEM file with it, \
                 or give the server a certificate of a CA",
            ),
            Self::SelfSignedAuthority => f.write_str(
                "the server's certificate is self-signed and a CA's (CA:TRUE), which no server may \
                 use: sign another one for the server with it, and set push.ca_file to a PEM file \
                 with the CA's",
            ),
            Self::Expired(at) => write!(
                f,
                "the server's certificate expired{}: renew it at the server",
                Since(" at ", *at)
            ),
            Self::NotYetValid(at) => write!(
                f,
                "the server's certificate is not valid yet{}: check the clock of this machine, or \
                 replace it at the server",
                Since(", but from ", *at)
            ),
            Self::OtherName(names) => write!(
                f,
                "the server's certificate is for another name ({names}): the server needs one for \
                 the host of the endpoint"
            ),
            Self::NothingInCommon => f.write_str(
                "the server has no TLS version or cipher suite in common with this daemon: it must \
                 offer TLS 1.2 or 1.3 with usual cipher suites",
            ),
            Self::NotTls => f.write_str("the server does not speak TLS on this port"),
            Self::Closed => f.write_str(
                "the server closed the connection during the TLS handshake: it may not speak TLS \
                 on this port, or only versions before 1.2",
            ),
            Self::Other(words) => write!(f, "the TLS handshake failed: {words}"),
        }
    }
}

/// A time after a word, or nothing if it is not known.
struct Since(&'static str, Option<SystemTime>);

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1.and_then(|at| Timestamp::try_from(at).ok()) {
            Some(at) => write!(f, "{}{at:.0}", self.0),
            None => Ok(()),
        }
    }
}
