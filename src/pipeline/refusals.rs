//! What operators hear of recipients that the configuration refuses.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tracing::warn;

use crate::origin::Service;
use crate::outcome::{Reason, Record};

/// How often an operator hears of a kind of refusal while it goes on.
const INTERVAL: Duration = Duration::from_secs(600);

/// When each kind of refusal was reported. There are as many as services and reasons.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<(Service, Reason), SystemTime>>);

impl Refusals {
    /// Reports an end that another configuration would avert: each kind for each service, at most once
    /// in ten minutes. The record's detail names the key to set.
    pub(super) fn report(&self, service: Service, record: &Record) {
        let Some(text) = text(record.reason) else {
            return;
        };
        if self.is_due(service, record.reason, record.settled_at) {
            warn!(
                push_service = service.name(),
                reason = record.reason.name(),
                detail = record.detail.as_deref(),
                "{text}"
            );
        }
    }

    /// A clock that was set back makes the next report due.
    fn is_due(&self, service: Service, reason: Reason, now: SystemTime) -> bool {
        let mut reported = self.0.lock();
        let last = reported.get(&(service, reason));
        let is_recent = |at: &SystemTime| now.duration_since(*at).is_ok_and(|it| it < INTERVAL);
        let is_due = !last.is_some_and(is_recent);
        if is_due {
            reported.insert((service, reason), now);
        }
        is_due
    }
}

/// Returns what to say of a reason that is a matter of the configuration.
fn text(reason: Reason) -> Option<&'static str> {
    const FORBIDDEN: &str = "the section [guard] of the configuration forbids an endpoint; if it \
                             should not, change it and reload";
    const UNKNOWN: &str = "an event is for an application that the configuration does not have: \
                           correct the producer, or add [apps.NAME] and reload";
    if reason == Reason::EndpointForbidden {
        Some(FORBIDDEN)
    } else {
        (reason == Reason::UnknownApp).then_some(UNKNOWN)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn what_a_configuration_refuses_is_told_and_a_mistake_of_one_event_is_not() {
        for &reason in Reason::ALL {
            let told = matches!(reason, Reason::EndpointForbidden | Reason::UnknownApp);
            assert_eq!(text(reason).is_some(), told, "{}", reason.name());
        }
    }

    #[test]
    fn each_kind_is_reported_at_most_once_in_ten_minutes_for_each_service() {
        let (refusals, start) = (Refusals::default(), UNIX_EPOCH + INTERVAL);
        for (service, reason, seconds, reported) in [
            (Service::Other, Reason::EndpointForbidden, 0, true),
            (Service::Other, Reason::EndpointForbidden, 599, false),
            (Service::Ntfy, Reason::EndpointForbidden, 599, true),
            (Service::Other, Reason::UnknownApp, 599, true),
            (Service::Other, Reason::EndpointForbidden, 600, true),
        ] {
            let now = start + Duration::from_secs(seconds);
            let due = refusals.is_due(service, reason, now);
            assert_eq!(due, reported, "{service:?} {reason:?} {seconds}");
        }
        assert!(refusals.is_due(Service::Other, Reason::UnknownApp, UNIX_EPOCH));
    }
}
