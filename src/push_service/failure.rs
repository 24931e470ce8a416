//! What an error of the HTTP client means, by the types along its source chain.
//!
//! What can go wrong here is telling "not seen" from "may have been taken": the first is sent
//! again at once, the second costs a duplicate. [`Failure::NotProcessed`] is said only where the
//! protocol promises it (RFC 9113 §8.7) or nothing was sent at all.

use std::error::Error;
use std::sync::Arc;
use std::{io, iter};

use crate::outcome::{Failure, ProxyFailure};

use super::handshake;
use super::proxy::{self, TunnelError};
use super::resolver::ResolveError;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectError {
    /// It could not be made.
    #[error("no connection could be made: {0:?}")]
    Failed(Failure),
    /// It was made, and the origin chose HTTP/1.1.
    #[error("the origin does not speak HTTP/2")]
    NotHttp2,
}

/// Why an exchange had no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// It failed.
    Failed(Failure),
    /// The origin wants HTTP/1.1; nothing was processed.
    WantsHttp1,
    /// Another request was making the connection, and did not get it; nothing was sent.
    Unconnected,
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Failed(failure) => failure,
            Unanswered::WantsHttp1 | Unanswered::Unconnected => Self::NotProcessed,
        }
    }
}

/// Returns why a connection could not be made; `proxy` is the place of the proxy, if there is one.
pub(super) fn of_connecting(error: &(dyn Error + 'static), proxy: Option<&Arc<str>>) -> Failure {
    chain(error)
        .find_map(|cause| {
            if let (Some(error), Some(place)) = (cause.downcast_ref::<TunnelError>(), proxy) {
                return Some(Failure::Proxy(ProxyFailure {
                    place: Arc::clone(place),
                    fault: proxy::fault(error),
                }));
            }
            if let Some(error) = cause.downcast_ref::<ResolveError>() {
                return Some(match error {
                    ResolveError::Forbidden => Failure::ForbiddenAddress,
                    ResolveError::NoAddress => Failure::Dns,
                });
            }
            if let Some(error) = cause.downcast_ref::<rustls::Error>() {
                return Some(Failure::Tls(handshake::failure(error)));
            }
            let error = cause.downcast_ref::<io::Error>()?;
            is_closed(error).then(|| Failure::Tls(handshake::closed(error)))
        })
        .unwrap_or(Failure::Connect)
}

/// Returns whether a connection that was made has ended.
fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Returns why a request had no answer.
pub(super) fn of_exchange(error: &reqwest::Error) -> Unanswered {
    if error.is_builder() {
        // The endpoint has a byte that HTTP cannot carry.
        return Unanswered::Failed(Failure::Protocol);
    }
    if let Some(error) = find::<ConnectError>(error) {
        return match error {
            ConnectError::Failed(failure) => Unanswered::Failed(failure.clone()),
            ConnectError::NotHttp2 => Unanswered::WantsHttp1,
        };
    }
    if error.is_connect() {
        // Every connection we make ourselves fails with an error of ours.
        return Unanswered::Unconnected;
    }
    if let Some(error) = find::<h2::Error>(error) {
        return of_http2(error);
    }
    let failure = find::<hyper::Error>(error).map_or(Failure::Interrupted, of_hyper);
    Unanswered::Failed(failure)
}

/// Returns why an answer broke off.
pub(super) fn of_body(error: &reqwest::Error) -> Failure {
    match of_exchange(error) {
        Unanswered::Failed(Failure::Protocol) => Failure::Protocol,
        // An answer had begun, so the request was seen.
        Unanswered::Failed(_) | Unanswered::WantsHttp1 | Unanswered::Unconnected => {
            Failure::Interrupted
        }
    }
}

fn of_http2(error: &h2::Error) -> Unanswered {
    let reason = error.reason();
    if error.is_remote() && reason == Some(h2::Reason::HTTP_1_1_REQUIRED) {
        return Unanswered::WantsHttp1;
    }
    let refused = error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM);
    // A stream fails with the peer's GOAWAY only if its number is above the last one named.
    let never_taken_up = error.is_go_away();
    Unanswered::Failed(if error.is_remote() && (refused || never_taken_up) {
        Failure::NotProcessed
    } else if error.is_library() {
        Failure::Protocol
    } else {
        Failure::Interrupted
    })
}

fn of_hyper(error: &hyper::Error) -> Failure {
    if error.is_canceled() {
        // The connection closed before the request was written.
        Failure::NotProcessed
    } else if error.is_parse() {
        Failure::Protocol
    } else {
        Failure::Interrupted
    }
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// Walks an error and its causes, and into what an `io::Error` wraps, which is not its source.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&cause| {
        let wrapped = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => cause.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connecting_fails_for_the_reason_at_the_bottom() {
        let nested = |inner: io::Error| io::Error::other(inner);
        let tls = rustls::Error::HandshakeNotComplete;
        for (error, failure) in [
            (
                nested(io::Error::other(tls.clone())),
                Failure::Tls(handshake::failure(&tls)),
            ),
            (
                io::Error::other(ResolveError::Forbidden),
                Failure::ForbiddenAddress,
            ),
            (io::Error::other(ResolveError::NoAddress), Failure::Dns),
            (
                nested(io::ErrorKind::ConnectionRefused.into()),
                Failure::Connect,
            ),
            (io::ErrorKind::TimedOut.into(), Failure::Connect),
            (
                nested(io::ErrorKind::UnexpectedEof.into()),
                Failure::Tls(handshake::closed(&io::ErrorKind::UnexpectedEof.into())),
            ),
        ] {
            assert_eq!(of_connecting(&error, None), failure, "{error:?}");
        }
    }

    #[test]
    fn a_reason_of_our_own_making_promises_nothing() {
        for reason in [h2::Reason::REFUSED_STREAM, h2::Reason::HTTP_1_1_REQUIRED] {
            assert_eq!(
                of_http2(&h2::Error::from(reason)),
                Unanswered::Failed(Failure::Interrupted)
            );
        }
    }
}
