//! What an error of the TLS library says of a push service.
//!
//! A certificate is whatever the server's owner wrote into it, so of its names only a few characters
//! are kept.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible,
};

use crate::outcome::{TlsFailure, TlsFault};

use super::verifier::SelfSigned;

/// How many names of a certificate are shown, and the longest of them.
const NAMES: usize = 3;
const NAME_LIMIT: usize = 80;

/// The longest text of the TLS library that is kept, in bytes.
const WORDS_LIMIT: usize = 200;

/// Returns what is wrong with the TLS of a server.
pub(super) fn failure(error: &Error) -> TlsFailure {
    let words = words(error);
    TlsFailure {
        fault: fault(error, &words),
        words,
    }
}

/// Returns what is wrong with a server that ends the connection in the handshake.
pub(super) fn closed(error: &io::Error) -> TlsFailure {
    TlsFailure {
        fault: TlsFault::Closed,
        words: error.kind().to_string().into(),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enums of the library grow, and its words tell the rest"
)]
fn fault(error: &Error, words: &str) -> TlsFault {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error, words),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon,
        )
        | Error::AlertReceived(
            AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity,
        ) => TlsFault::NothingInCommon,
        // What begins no record of TLS (RFC 8446 §5.1).
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => TlsFault::NotTls,
        _ => TlsFault::Other(words.into()),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enums of the library grow, and its words tell the rest"
)]
fn of_certificate(error: &CertificateError, words: &str) -> TlsFault {
    match error {
        // A CA of the name is trusted, and this one has another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::UnknownIssuer,
        CertificateError::Expired => TlsFault::Expired(None),
        CertificateError::ExpiredContext { not_after, .. } => TlsFault::Expired(time(*not_after)),
        CertificateError::NotValidYet => TlsFault::NotYetValid(None),
        CertificateError::NotValidYetContext { not_before, .. } => {
            TlsFault::NotYetValid(time(*not_before))
        }
        CertificateError::NotValidForName => TlsFault::OtherName("unknown".into()),
        CertificateError::NotValidForNameContext { presented, .. } => {
            TlsFault::OtherName(names(presented))
        }
        CertificateError::Other(OtherError(error)) => match error.downcast_ref() {
            Some(SelfSigned::Server) => TlsFault::SelfSigned,
            Some(SelfSigned::Authority) => TlsFault::SelfSignedAuthority,
            None => TlsFault::Other(words.into()),
        },
        _ => TlsFault::Other(words.into()),
    }
}

fn time(time: UnixTime) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()))
}

/// Returns the first names of a certificate, which the library gives as in `DnsName("a.example")`.
fn names(presented: &[String]) -> Box<str> {
    if presented.is_empty() {
        return "it has none".into();
    }
    let mut names: Vec<String> = presented.iter().take(NAMES).map(|it| name(it)).collect();
    if presented.len() > NAMES {
        names.push(format!("{} more", presented.len() - NAMES));
    }
    names.join(", ").into()
}

fn name(presented: &str) -> String {
    let inner = presented.split_once('(').map_or(presented, |(_, it)| it);
    let plain = |c: &char| c.is_ascii_alphanumeric() || ".-_*:".contains(*c);
    inner.chars().filter(plain).take(NAME_LIMIT).collect()
}

/// Returns the library's words without what would break a line, and without the names of a
/// certificate, which [`TlsFault::OtherName`] tells.
fn words(error: &Error) -> Box<str> {
    let words = if is_other_name(error) {
        Error::from(CertificateError::NotValidForName).to_string()
    } else {
        error.to_string()
    };
    let words: String = words.chars().filter(|c| !c.is_control()).collect();
    words[..words.floor_char_boundary(WORDS_LIMIT)].into()
}

fn is_other_name(error: &Error) -> bool {
    let Error::InvalidCertificate(error) = error else {
        return false;
    };
    matches!(error, CertificateError::NotValidForNameContext { .. })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::OtherError;
    use rustls::pki_types::ServerName;

    use super::*;

    const NOON: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_795_262_400));

    fn noon() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOON.as_secs())
    }

    fn other_name(presented: &[&str]) -> Error {
        let presented = presented.iter().map(|name| (*name).to_owned()).collect();
        let expected = ServerName::try_from("push.example.net").unwrap();
        let error = CertificateError::NotValidForNameContext {
            expected,
            presented,
        };
        error.into()
    }

    fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
        CertificateError::Other(OtherError(Arc::new(error))).into()
    }

    fn at_noon() -> [Error; 2] {
        let (time, not_after, not_before) = (NOON, NOON, NOON);
        [
            CertificateError::ExpiredContext { time, not_after }.into(),
            CertificateError::NotValidYetContext { time, not_before }.into(),
        ]
    }

    #[test]
    fn each_error_of_the_library_has_its_fault_and_a_text_that_mends_it() {
        let [expired, early] = at_noon();
        for (error, kind, text) in [
            (
                CertificateError::UnknownIssuer.into(),
                "unknown_issuer",
                "push.ca_file",
            ),
            (
                CertificateError::BadSignature.into(),
                "unknown_issuer",
                "push.ca_file",
            ),
            (other(SelfSigned::Server), "self_signed", "push.ca_file"),
            (
                other(SelfSigned::Authority),
                "self_signed_authority",
                "CA:TRUE",
            ),
            (expired, "expired", "expired at 2026-11-21T12:00:00Z"),
            (
                CertificateError::Expired.into(),
                "expired",
                "certificate expired: ",
            ),
            (early, "not_yet_valid", "but from 2026-11-21T12:00:00Z"),
            (
                CertificateError::NotValidYet.into(),
                "not_yet_valid",
                "not valid yet: ",
            ),
            (
                other_name(&["DnsName(\"a.example\")"]),
                "other_name",
                "name (a.example)",
            ),
            (
                other_name(&["IpAddress(127.0.0.1)"]),
                "other_name",
                "name (127.0.0.1)",
            ),
            (other_name(&[]), "other_name", "name (it has none)"),
            (
                CertificateError::NotValidForName.into(),
                "other_name",
                "(unknown)",
            ),
            (CertificateError::Revoked.into(), "other", "Revoked"),
            (
                other(webpki::Error::CaUsedAsEndEntity),
                "other",
                "CaUsedAsEndEntity",
            ),
            (
                PeerIncompatible::ServerDoesNotSupportTls12Or13.into(),
                "nothing_in_common",
                "TLS 1.2 or 1.3",
            ),
            (
                PeerIncompatible::NoCipherSuitesInCommon.into(),
                "nothing_in_common",
                "cipher suite",
            ),
            (
                Error::AlertReceived(AlertDescription::ProtocolVersion),
                "nothing_in_common",
                "TLS version",
            ),
            (
                Error::AlertReceived(AlertDescription::HandshakeFailure),
                "nothing_in_common",
                "TLS version",
            ),
            (
                Error::AlertReceived(AlertDescription::UnrecognisedName),
                "other",
                "UnrecognisedName",
            ),
            (
                InvalidMessage::InvalidContentType.into(),
                "not_tls",
                "does not speak TLS",
            ),
            (
                InvalidMessage::UnknownProtocolVersion.into(),
                "not_tls",
                "does not speak TLS",
            ),
        ] {
            let failure = failure(&error);
            assert_eq!(failure.fault.name(), kind, "{error:?}");
            let said = failure.fault.to_string();
            assert!(said.contains(text), "{said}");
        }
        let TlsFault::Expired(since) = failure(&at_noon()[0]).fault else {
            panic!("it has expired");
        };
        assert_eq!(since, Some(noon()));
    }

    #[test]
    fn nothing_that_a_certificate_holds_makes_a_long_or_a_broken_line() {
        let endless = "x/\n\u{7}\u{fc}".repeat(10_000);
        let presented = [&*endless; 100];
        let named = failure(&other_name(&presented));
        let general = failure(&Error::General(endless.clone()));
        for failure in [named, general] {
            for text in [&*failure.words, &failure.fault.to_string()] {
                assert!(text.len() < 512, "{text}");
                assert!(!text.chars().any(char::is_control), "{text}");
            }
        }
    }
}
