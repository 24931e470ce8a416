//! What follows a round trip: the recipient ends, or it waits for another attempt.
//!
//! These are pure functions: the time and the jitter are arguments.

use std::time::{Duration, SystemTime};

use crate::classify;
use crate::control;
use crate::gate::Deferral;
use crate::message::{Name, PushMessage};
use crate::origin::Service;
use crate::outcome::{
    Again, DeferralReason, Meaning, Reason, Record, Refusal, Verdict, Waiting, Warning,
};
use crate::plan;
use crate::plan::Terms;
use crate::retry::{Decision, Lifetime, Policy};
use crate::vapid::VapidKey;
use crate::wire::headers::RetryHistory;

use super::keys::SuspensionCause;
use super::request::Unsendable;
use super::round_trip::RoundTrip;

/// What follows an attempt at a recipient.
pub enum Next {
    /// It ends.
    Settled(Box<Record>),
    /// It waits in the broker.
    Wait(Wait),
    /// The attempt panicked.
    Panicked,
}

impl Next {
    /// Ends a recipient.
    #[must_use]
    pub fn settled(record: Record) -> Self {
        Self::Settled(Box::new(record))
    }
}

/// A recipient's wait in the broker.
#[derive(Clone, Debug)]
pub struct Wait {
    /// What it waits for.
    pub waiting: Waiting,
    /// The length of the wait.
    pub after: Duration,
    /// The longest that the wait may become: what is left until the deadline.
    pub within: Duration,
    /// How often in a row there was no permit.
    pub deferrals: u32,
    /// Attempts used up so far.
    pub attempts: u32,
    /// Requests made so far.
    pub requests: u32,
    /// The status of the last answer.
    pub last_status: Option<u16>,
    /// The key that the next attempt begins with, where it is not the default.
    pub vapid_key: Option<Name>,
}

impl Wait {
    /// Waits for something other than an attempt, as far as `history` tells of earlier ones.
    #[must_use]
    pub fn without_attempt(
        waiting: Waiting,
        after: Duration,
        within: Duration,
        history: &RetryHistory,
    ) -> Self {
        Self {
            waiting,
            after,
            within,
            deferrals: 0,
            attempts: history.attempts,
            requests: history.requests,
            last_status: history.last_status,
            vapid_key: history.vapid_key.clone(),
        }
    }
}

/// What is known of a recipient during an attempt: what it asked for, and what was done so far.
pub(super) struct AttemptContext<'a> {
    pub(super) service: Service,
    /// The lane of the message.
    pub(super) lane: &'a Name,
    pub(super) terms: &'a Terms,
    pub(super) history: &'a RetryHistory,
    /// By what it would be cancelled or forgotten.
    pub(super) keys: control::Keys<'a>,
    pub(super) requests: u32,
    pub(super) last_status: Option<u16>,
    /// The key that the next attempt begins with, where it is not the default.
    pub(super) key: Option<Name>,
    /// What the result says of second requests.
    pub(super) warnings: Vec<Warning>,
}

impl<'a> AttemptContext<'a> {
    pub(super) fn new(
        service: Service,
        lane: &'a Name,
        terms: &'a Terms,
        history: &'a RetryHistory,
        keys: control::Keys<'a>,
    ) -> Self {
        Self {
            service,
            lane,
            terms,
            history,
            keys,
            requests: history.requests,
            last_status: history.last_status,
            key: None,
            warnings: Vec::new(),
        }
    }

    /// Remembers the key that the next attempt begins with, if it is not the default.
    pub(super) fn start_next_with(&mut self, key: &Name, default: &Name) {
        self.key = (key != default).then(|| key.clone());
    }

    fn wait(&self, waiting: Waiting, after: Duration, lifetime: Lifetime) -> Wait {
        Wait {
            waiting,
            after,
            within: lifetime.left,
            deferrals: 0,
            attempts: self.history.attempts,
            requests: self.requests,
            last_status: self.last_status,
            vapid_key: self.key.clone(),
        }
    }

    fn lifetime(&self, now: SystemTime) -> Lifetime {
        let deadline = &self.terms.deadline;
        Lifetime {
            left: deadline.left(now).unwrap_or_default(),
            ends_as: deadline.reason,
            now_or_never: deadline.now_or_never(),
        }
    }

    /// Ends the recipient at its deadline, without a further request.
    fn expire(&self, now: SystemTime, detail: &str) -> Next {
        let mut record = Record::unsent(self.terms.deadline.reason, now, detail);
        record.requests = self.requests;
        record.status = self.last_status;
        Next::settled(record)
    }
}

/// The shortest wait for a key.
const SHORTEST_KEY_WAIT: Duration = Duration::from_secs(1);

/// Decides what follows an answer, or the lack of one.
pub(super) fn decide(
    policy: &Policy,
    round_trip: RoundTrip,
    context: &AttemptContext<'_>,
    now: SystemTime,
    jitter: f64,
) -> Next {
    let RoundTrip {
        verdict, status, ..
    } = round_trip;
    let attempts = context.history.attempts + 1;
    let lifetime = context.lifetime(now);
    match policy.decide(&verdict, attempts, lifetime, jitter) {
        Decision::Again(after) => Next::Wait(Wait {
            attempts,
            last_status: status,
            ..context.wait(Waiting::Retry(verdict.reason), after, lifetime)
        }),
        Decision::Final(reason) => Next::settled(Record {
            reason,
            status,
            attempts,
            requests: context.requests,
            message_url: round_trip.message_url,
            vapid_key: None,
            sent_at: Some(round_trip.sent_at),
            settled_at: now,
            elapsed: Some(round_trip.elapsed),
            warnings: Vec::new(),
            detail: detail(reason, verdict, status),
        }),
    }
}

/// Returns what a second request changes, where the verdict asks for one and it would differ.
pub(super) fn second_request(verdict: &Verdict, message: &PushMessage) -> Option<Again> {
    let again = verdict.again?;
    plan::changed(message, again).is_some().then_some(again)
}

/// Returns the warning of a result about a second request, where nothing else in the result shows
/// why it was made.
pub(super) fn warning_of(again: Again) -> Option<Warning> {
    match again {
        Again::AsItWas | Again::NewConnection | Again::AnotherKey => None,
        Again::FreshToken | Again::WithoutTopic | Again::TtlOfOne | Again::OtherCoding => {
            Some(Warning::SecondRequest(again))
        }
    }
}

/// Sends a recipient without a permit to wait, or ends it if its deadline comes first.
pub(super) fn defer(
    deferral: Deferral,
    context: &AttemptContext<'_>,
    now: SystemTime,
    jitter: f64,
) -> Next {
    let detail = deferral.why.outlasts();
    let mut next = wait_or_expire(deferral, Waiting::Busy, detail, context, now, jitter);
    if let Next::Wait(wait) = &mut next {
        wait.deferrals = context.history.deferrals.saturating_add(1);
    }
    next
}

/// Sends a recipient to wait until more is known of its key. The wait uses up no attempt.
///
/// It takes at most half of the lifetime that is left, so that the next attempt is in time.
pub(super) fn wait_for_key(
    cause: SuspensionCause,
    wait: Duration,
    context: &AttemptContext<'_>,
    now: SystemTime,
    jitter: f64,
) -> Next {
    let (reason, detail) = match cause {
        SuspensionCause::Mismatch => (
            Reason::KeyMismatch,
            "its time runs out before it is known whether the subscription belongs to another key \
             or a wrong key is loaded (key_mismatch)",
        ),
        SuspensionCause::Refusal => (
            Reason::VapidRejected,
            "its time runs out before the push service, which refused the VAPID token, is tried \
             again (vapid_rejected)",
        ),
    };
    let left = context.lifetime(now).left;
    let wait = wait.min((left / 2).max(SHORTEST_KEY_WAIT));
    let deferral = Deferral::of(DeferralReason::Paused, wait);
    wait_or_expire(
        deferral,
        Waiting::Retry(reason),
        detail,
        context,
        now,
        jitter,
    )
}

/// Ends a recipient whose deadline came before the request was made.
pub(super) fn too_late(context: &AttemptContext<'_>, now: SystemTime) -> Next {
    context.expire(now, "its time ran out while it waited for room to send")
}

/// Ends a recipient that was taken back while it waited for a permit.
pub(super) fn withdrawn(refusal: Refusal, context: &AttemptContext<'_>, now: SystemTime) -> Next {
    let mut record = refusal.into_record(now);
    record.requests = context.requests;
    record.status = context.last_status;
    Next::settled(record)
}

/// Ends a recipient whose message could not be signed or encrypted.
pub(super) fn unsendable(error: &Unsendable, key: &VapidKey, now: SystemTime) -> Next {
    let mut record = Record::unsent(Reason::InternalError, now, error.to_string());
    record.vapid_key = Some(key.name().clone());
    Next::settled(record)
}

fn wait_or_expire(
    deferral: Deferral,
    waiting: Waiting,
    detail: &str,
    context: &AttemptContext<'_>,
    now: SystemTime,
    jitter: f64,
) -> Next {
    let lifetime = context.lifetime(now);
    let after = deferral.delay(context.history.deferrals, lifetime.left, jitter);
    if after < lifetime.left {
        Next::Wait(context.wait(waiting, after, lifetime))
    } else {
        context.expire(now, detail)
    }
}

/// Returns the detail of a result: the verdict's, or what the status means where it is not a success
/// and has no words; after what an expired recipient was waiting for.
fn detail(reason: Reason, verdict: Verdict, status: Option<u16>) -> Option<Box<str>> {
    let unexplained = status.filter(|_| verdict.meaning != Meaning::Accepted);
    let meaning = || unexplained.map(|status| classify::meaning_of(status).into());
    let last = verdict.detail.or_else(meaning);
    if reason == verdict.reason {
        return last;
    }
    let waited_for = verdict.reason.name();
    let mut detail = format!("its time runs out before it could be tried again ({waited_for})");
    if let Some(last) = last {
        detail.push_str(": ");
        detail.push_str(&last);
    }
    Some(detail.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::app::{App, Results};
    use crate::message::{EventId, Ttl};
    use crate::outcome::{Meaning, TlsFault};
    use crate::plan::deadline::Deadline;
    use crate::vapid::{Token, Validity};

    const POLICY: Policy = Policy {
        max_attempts: 3,
        base: Duration::from_secs(8),
        cap: Duration::from_secs(600),
        retry_after_cap: Duration::from_hours(1),
    };

    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400)
    }

    fn terms(left: u64) -> Terms {
        let ttl = Ttl::remaining(Duration::from_secs(left));
        Terms {
            created_at: noon(),
            deadline: Deadline::of(noon(), ttl, None),
            results: Results::All,
            warnings: Vec::new(),
        }
    }

    fn round_trip(verdict: Verdict, status: u16) -> RoundTrip {
        let app = App::for_tests("shop");
        let endpoint = crate::subscription::Endpoint::parse("https://push.example.net/x").unwrap();
        let key = &app.ring.primary;
        let token = Token::sign(
            key,
            endpoint.origin(),
            &app.subject,
            noon(),
            Validity::default(),
        );
        RoundTrip {
            verdict,
            status: Some(status),
            message_url: None,
            sent_at: noon(),
            elapsed: Duration::ZERO,
            token: Arc::new(token.unwrap()),
        }
    }

    fn retryable(after: Option<u64>) -> Verdict {
        Verdict {
            after: after.map(Duration::from_secs),
            ..Verdict::of(Meaning::Retryable, Reason::Throttled)
        }
    }

    /// Describes what follows: the end, or the wait with the attempts and deferrals it carries.
    fn outline(next: &Next) -> String {
        match next {
            Next::Settled(record) => format!("{} {}", record.reason.name(), record.attempts),
            Next::Wait(wait) => {
                let (seconds, what) = (wait.after.as_secs(), wait.waiting.name());
                format!("{seconds}s {what} {} {}", wait.attempts, wait.deferrals)
            }
            Next::Panicked => "panicked".to_owned(),
        }
    }

    fn history(attempts: u32, deferrals: u32) -> RetryHistory {
        RetryHistory {
            attempts,
            deferrals,
            ..RetryHistory::default()
        }
    }

    fn in_context<R>(
        left: u64,
        history: &RetryHistory,
        then: impl FnOnce(AttemptContext<'_>) -> R,
    ) -> R {
        let lane = Name::parse("default").unwrap();
        let terms = terms(left);
        let id = EventId::derived(&[0; 32]);
        let event = control::EventKeys {
            app: &lane,
            id: &id,
            group: None,
            label: None,
            created_at: terms.created_at,
        };
        let recipient = control::RecipientKeys::default();
        let keys = control::Keys { event, recipient };
        then(AttemptContext::new(
            Service::Fcm,
            &lane,
            &terms,
            history,
            keys,
        ))
    }

    #[test]
    fn a_429_waits_as_long_as_it_asks_until_the_attempts_or_the_lifetime_end() {
        for (after, attempts, left, expected) in [
            (None, 0, 3600, "8s throttled 1 0"),
            (None, 1, 3600, "16s throttled 2 0"),
            (Some(30), 0, 3600, "30s throttled 1 0"),
            (Some(7200), 0, 36_000, "3600s throttled 1 0"),
            (Some(30), 0, 20, "ttl_elapsed 1"),
            (Some(30), 2, 3600, "throttled 3"),
        ] {
            let next = in_context(left, &history(attempts, 0), |context| {
                let round_trip = round_trip(retryable(after), 429);
                decide(&POLICY, round_trip, &context, noon(), 1.0)
            });
            assert_eq!(outline(&next), expected, "{after:?} {attempts} {left}");
        }
    }

    #[test]
    fn an_expired_recipient_keeps_the_fault_of_its_last_attempt() {
        let verdict = Verdict {
            detail: Some(TlsFault::NotTls.to_string().into()),
            ..Verdict::of(Meaning::Retryable, Reason::Tls)
        };
        let next = in_context(5, &history(0, 0), |context| {
            decide(&POLICY, round_trip(verdict, 0), &context, noon(), 1.0)
        });
        let Next::Settled(record) = next else {
            panic!("it waits");
        };
        assert_eq!(
            record.detail.as_deref(),
            Some(
                "its time runs out before it could be tried again (tls): the server does not speak \
                 TLS on this port"
            )
        );
    }

    #[test]
    fn a_deferral_counts_no_attempt_and_ends_at_the_deadline() {
        let paused = |seconds| Deferral::of(DeferralReason::Paused, Duration::from_secs(seconds));
        for (deferral, left, expected) in [
            (paused(60), 3600, "60s busy 1 3"),
            (paused(60), 60, "ttl_elapsed 0"),
        ] {
            let next = in_context(left, &history(1, 2), |context| {
                defer(deferral, &context, noon(), 0.0)
            });
            assert_eq!(outline(&next), expected);
        }
    }

    #[test]
    fn a_wait_for_a_key_takes_at_most_half_of_the_lifetime_and_no_attempt() {
        for (cause, wait, left, expected) in [
            (SuspensionCause::Mismatch, 60, 3600, "60s key_mismatch 1 0"),
            (SuspensionCause::Refusal, 60, 80, "40s vapid_rejected 1 0"),
            (SuspensionCause::Refusal, 60, 1, "ttl_elapsed 0"),
        ] {
            let next = in_context(left, &history(1, 0), |context| {
                wait_for_key(cause, Duration::from_secs(wait), &context, noon(), 0.0)
            });
            assert_eq!(outline(&next), expected, "{cause:?} {left}");
        }
    }

    #[test]
    fn an_end_without_a_request_keeps_what_earlier_requests_brought() {
        let history = RetryHistory {
            requests: 4,
            last_status: Some(503),
            ..RetryHistory::default()
        };
        let Next::Settled(record) = in_context(60, &history, |context| too_late(&context, noon()))
        else {
            panic!("it waits");
        };
        assert_eq!((record.requests, record.status), (4, Some(503)));
        assert_eq!(record.sent_at, None);
    }

    #[test]
    fn a_status_without_a_word_is_explained() {
        for status in 200..=999 {
            let refused = Verdict::of(Meaning::Rejected, Reason::BadRequest);
            let detail = detail(Reason::BadRequest, refused, Some(status)).unwrap();
            assert!(detail.starts_with(&format!("the push service answered {status}: ")));
        }
        let accepted = Verdict::of(Meaning::Accepted, Reason::Accepted);
        assert_eq!(detail(Reason::Accepted, accepted, Some(201)), None);
        let expired = detail(Reason::TtlElapsed, retryable(None), Some(503)).unwrap();
        assert!(
            expired.ends_with("503: it has trouble of its own"),
            "{expired}"
        );
    }
}
