//! What operators hear of push services that no request reaches.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

use crate::origin::{Listing, Service};
use crate::outcome::{Attempt, Failure};
use crate::subscription::Endpoint;

/// How often an operator hears of a kind of failure while it goes on.
const INTERVAL: Duration = Duration::from_secs(600);

/// No connection to the push service was made, for a reason that an operator can mend.
#[derive(Debug, PartialEq, Eq)]
struct Fault<'a> {
    /// The word of the log.
    name: &'static str,
    /// What is wrong, and what mends it.
    text: Cow<'static, str>,
    /// The TLS library's words.
    said: Option<&'a str>,
}

/// When each kind of failure was reported. There are as many as services and words.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<BTreeMap<(Service, &'static str), Instant>>);

impl Failures {
    /// Reports an attempt that made no connection: each kind for each service, at most once in ten
    /// minutes.
    pub(super) fn report(&self, attempt: &Attempt, endpoint: &Endpoint, now: Instant) {
        let Attempt::Failed(failure) = attempt else {
            return;
        };
        let Some(fault) = fault(failure, endpoint.listing()) else {
            return;
        };
        let service = endpoint.service();
        if self.is_due(service, fault.name, now) {
            warn!(
                origin = %endpoint.origin(),
                push_service = service.name(),
                fault = fault.name,
                said = fault.said,
                "a push service cannot be reached, so its messages wait: {}",
                fault.text
            );
        }
    }

    fn is_due(&self, service: Service, fault: &'static str, now: Instant) -> bool {
        let mut reported = self.0.lock();
        let last = reported.get(&(service, fault));
        let is_due = last.is_none_or(|at| now.saturating_duration_since(*at) >= INTERVAL);
        if is_due {
            reported.insert((service, fault), now);
        }
        is_due
    }
}

/// Returns what an operator should hear of a failure. What comes of the way of a single request, and the
/// end of a recipient whose host has a private address, are told elsewhere.
fn fault(failure: &Failure, listing: Listing) -> Option<Fault<'_>> {
    let (name, text): (_, Cow<'static, str>) = match failure {
        Failure::Dns => (
            "dns",
            "its name has no address here: check this machine's resolver; where only a proxy \
             resolves such names, set push.proxy"
                .into(),
        ),
        // A captive portal, a filtering resolver or a broken one gives such answers.
        Failure::ForbiddenAddress if listing.is_listed() => (
            "private_dns",
            "DNS gives only private or special addresses for it: check this machine's resolver; \
             for a service of your own, add its network to guard.allow"
                .into(),
        ),
        Failure::Connect => (
            "connect",
            "no connection can be made: let this machine connect to it, or set push.proxy where \
             only a proxy may"
                .into(),
        ),
        Failure::Proxy(failure) => ("proxy", failure.to_string().into()),
        Failure::Tls(failure) => {
            return Some(Fault {
                name: failure.fault.name(),
                text: failure.fault.to_string().into(),
                said: Some(&failure.words),
            });
        }
        Failure::ForbiddenAddress
        | Failure::Timeout
        | Failure::Interrupted
        | Failure::NotProcessed
        | Failure::Protocol => return None,
    };
    Some(Fault {
        name,
        text,
        said: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::outcome::{ProxyFailure, ProxyFault, TlsFailure, TlsFault};

    fn tls(fault: TlsFault) -> Failure {
        let words = "invalid peer certificate: UnknownIssuer".into();
        Failure::Tls(TlsFailure { fault, words })
    }

    #[test]
    fn each_kind_of_failure_names_what_to_set() {
        let proxy = Failure::Proxy(ProxyFailure {
            place: "proxy:3128".into(),
            fault: ProxyFault::Unreachable,
        });
        for (failure, name, mend) in [
            (&Failure::Dns, "dns", "push.proxy"),
            (&Failure::ForbiddenAddress, "private_dns", "guard.allow"),
            (&Failure::Connect, "connect", "push.proxy"),
            (&proxy, "proxy", "push.proxy"),
            (
                &tls(TlsFault::UnknownIssuer),
                "unknown_issuer",
                "push.ca_file",
            ),
            (&tls(TlsFault::SelfSigned), "self_signed", "push.ca_file"),
            (&tls(TlsFault::Expired(None)), "expired", "renew it"),
        ] {
            let fault = fault(failure, Listing::of(true)).unwrap();
            assert_eq!(fault.name, name);
            assert!(fault.text.contains(mend), "{name}: {}", fault.text);
            assert_eq!(fault.said.is_some(), matches!(failure, Failure::Tls(_)));
        }
    }

    #[test]
    fn a_failure_of_one_request_is_not_a_fault() {
        for failure in [
            Failure::Timeout,
            Failure::Interrupted,
            Failure::NotProcessed,
            Failure::Protocol,
            Failure::ForbiddenAddress,
        ] {
            assert_eq!(fault(&failure, Listing::of(false)), None, "{failure:?}");
        }
    }

    #[test]
    fn each_kind_is_reported_at_most_once_in_ten_minutes_for_each_service() {
        let (failures, start) = (Failures::default(), SystemClock.now().mono);
        for (service, fault, seconds, reported) in [
            (Service::Other, "expired", 0, true),
            (Service::Other, "expired", 599, false),
            (Service::Other, "self_signed", 599, true),
            (Service::Ntfy, "expired", 599, true),
            (Service::Other, "expired", 600, true),
            (Service::Other, "expired", 601, false),
        ] {
            let now = start + Duration::from_secs(seconds);
            let due = failures.is_due(service, fault, now);
            assert_eq!(due, reported, "{service:?} {fault} {seconds}");
        }
    }
}
