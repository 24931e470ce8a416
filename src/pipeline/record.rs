//! The log line and the metrics of a recipient that ends, or goes on waiting.

use tracing::{debug, info, warn};

use crate::clock::{milliseconds, seconds};
use crate::metrics::Metrics;
use crate::origin::Service;
use crate::outcome::{Outcome, Record};
use crate::sender::Wait;
use crate::wire::recipient::RecipientRef;

use super::gone_ratio::GoneRatios;
use super::settlement::Settlement;

/// Records the end of one recipient: one line at DEBUG, one step of each counter.
pub(super) fn settled(
    metrics: &Metrics,
    settlement: &Settlement<'_>,
    about: &RecipientRef<'_>,
    record: &Record,
) {
    let service = about.service.unwrap_or(Service::Other);
    let age = settlement.age(record.settled_at);
    metrics.message_settled(settlement.app_name(), service, record.reason, age);
    debug!(
        message_id = %settlement.event_id(),
        attempt = record.attempts,
        push_service = service.name(),
        sub = about.fingerprint.map(tracing::field::display),
        outcome = record.outcome().name(),
        reason = record.reason.name(),
        status = record.status,
        elapsed_ms = record.elapsed.map(milliseconds),
        age_s = seconds(age),
        redelivered = settlement.redelivered(),
        "settled"
    );
}

/// Records that one recipient goes on waiting.
pub(super) fn waits(
    metrics: &Metrics,
    settlement: &Settlement<'_>,
    about: &RecipientRef<'_>,
    wait: &Wait,
) {
    metrics.recipient_waits(wait.waiting);
    debug!(
        message_id = %settlement.event_id(),
        attempt = wait.attempts,
        push_service = about.service.unwrap_or(Service::Other).name(),
        sub = about.fingerprint.map(tracing::field::display),
        reason = wait.waiting.name(),
        status = wait.last_status,
        wait_ms = milliseconds(wait.after),
        "waits"
    );
}

/// Records whether a push service called a subscription gone. Operators hear of a ratio that becomes
/// unusual.
pub(super) fn gone_ratio(
    metrics: &Metrics,
    gone_ratios: &GoneRatios,
    about: &RecipientRef<'_>,
    record: &Record,
) {
    let service = about.service.unwrap_or(Service::Other);
    let gone = match record.outcome() {
        Outcome::Gone => true,
        Outcome::Accepted => false,
        Outcome::Rejected | Outcome::Expired | Outcome::Cancelled | Outcome::Failed => return,
    };
    if record.sent_at.is_none() {
        return;
    }
    let Some(is_unusual) = gone_ratios.record(service, gone) else {
        return;
    };
    metrics.gone_unusual(service, is_unusual);
    let push_service = service.name();
    if is_unusual {
        warn!(
            push_service,
            "most subscriptions are called gone; before applications delete them, see whether the \
             push service or something in front of it is wrong"
        );
    } else {
        info!(push_service, "few subscriptions are called gone again");
    }
}
