//! The first of each kind of answer that no room of [`classify`] recognises.
//!
//! Push services change what they say without telling anybody. Such an answer is judged by its
//! status alone; one line in the log says what it was, so that the next version can know better.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tracing::{info, warn};

use crate::classify;
use crate::classify::Context;
use crate::origin::Service;
use crate::outcome::{Answer, Attempt, Verdict};

/// The kinds of answers that have been told of: bounded, for there are so many services and so
/// many statuses.
#[derive(Debug, Default)]
pub(super) struct Unfamiliar(Mutex<BTreeSet<(Service, bool, u16)>>);

impl Unfamiliar {
    /// Tells of an answer that nothing foretold, once per service and status.
    ///
    /// A stranger's answer does not stand for one of the large services', and what it says is
    /// not repeated.
    pub(super) fn notice(&self, attempt: &Attempt, context: &Context, verdict: &Verdict) {
        let Attempt::Answered(answer) = attempt else {
            return;
        };
        if !verdict.unfamiliar || !self.is_first(answer, context) {
            return;
        }
        let push_service = context.service.name();
        let status = answer.status.as_u16();
        let reason = verdict.reason.name();
        if context.listing.is_listed() {
            let said = classify::evidence(answer);
            warn!(push_service, status, reason, %said, "unfamiliar answer");
        } else {
            info!(
                push_service,
                status, reason, "unfamiliar answer of an unlisted host"
            );
        }
    }

    fn is_first(&self, answer: &Answer, context: &Context) -> bool {
        let kind = (
            context.service,
            context.listing.is_listed(),
            answer.status.as_u16(),
        );
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(kind)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::origin::Listing;

    fn answer(status: u16) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            excerpt: Bytes::new(),
        }
    }

    fn context(service: Service, listed: bool) -> Context {
        Context {
            service,
            listing: Listing::of(listed),
            attempt: 1,
            last_status: None,
            first_word: None,
            tried: None,
            token_age: Duration::ZERO,
            token_untimely: false,
            body_len: 0,
            retry_after_cap: Duration::ZERO,
        }
    }

    #[test]
    fn each_kind_is_told_of_once_and_strangers_speak_for_themselves() {
        let unfamiliar = Unfamiliar::default();
        for (service, listed, status, first) in [
            (Service::Mozilla, false, 418, true),
            (Service::Mozilla, true, 418, true),
            (Service::Mozilla, true, 418, false),
            (Service::Mozilla, true, 400, true),
            (Service::Fcm, true, 418, true),
            (Service::Mozilla, false, 418, false),
        ] {
            let context = context(service, listed);
            let told = unfamiliar.is_first(&answer(status), &context);
            assert_eq!(told, first, "{service:?} {listed} {status}");
        }
    }

    #[test]
    fn only_what_is_unfamiliar_is_remembered() {
        let unfamiliar = Unfamiliar::default();
        for status in 100..=999 {
            let attempt = Attempt::Answered(answer(status));
            let context = context(Service::Fcm, true);
            let verdict = classify::classify(&attempt, context, UNIX_EPOCH);
            unfamiliar.notice(&attempt, &context, &verdict);
            let was_told = !unfamiliar.is_first(&answer(status), &context);
            assert_eq!(was_told, verdict.unfamiliar, "{status}");
        }
    }
}
