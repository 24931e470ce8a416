//! What an attempt means.
//!
//! Push services agree on little: only 2xx, 404 and 410 mean the same everywhere, and the meaning of the
//! rest is the service's own. So each family has a module, which recognizes its service's answers by markers
//! that are data at the top of the file. What follows from a [`Diagnosis`] is decided once for all of them,
//! and an answer that no module recognizes is judged by its status alone. The table is classify/README.md §2,
//! in its order, and "row" is a row of it.
//!
//! Three asymmetries are on purpose. First, a subscription ends only on a plain statement of its service,
//! because a wrong `gone` deletes a subscriber and a wrong retry costs a request. A 404 that is not in the
//! service's own words may come from a proxy or a failing front end, and counts only when it is repeated.
//! Second, the 401 and 403 of an unlisted host concern its own access control rather than the VAPID token,
//! and its text is not repeated. Third, a refused token pauses nothing: even the large services have paths
//! that are not made for VAPID and refuse every key, and a subscription with such a path must not stop the
//! messages of others. Whether a key is at fault is judged over several subscriptions (`sender::keys`).

mod answer_view;
mod apple;
mod context;
mod diagnosis;
mod fcm;
mod mozilla;
mod redact;
mod retry_after;
mod unifiedpush;
mod wns;

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::origin::{Listing, Service};
use crate::outcome::{
    Again, Answer, Attempt, Failure, Meaning, ProxyFailure, Reason, Scope, TlsFault, Verdict,
};

pub use self::context::{Context, EarlierAnswers};

use self::answer_view::AnswerView;
use self::diagnosis::{Cooldown, Diagnosis, Throttle, offered};

/// How long after the first a 404 must be said again to be believed.
const NOT_FOUND_AGAIN: Duration = Duration::from_secs(600);

/// The headers that may tell answers of one status apart.
const EVIDENCE: [&str; 8] = [
    "content-type",
    "server",
    "via",
    "www-authenticate",
    "x-wns-error-description",
    "x-wns-status",
    "x-wns-notificationstatus",
    "retry-after",
];

/// Statuses that mean the same wherever they come from, so that no marker is missed.
const PLAIN: [u16; 10] = [405, 408, 413, 421, 425, 429, 500, 502, 503, 504];

/// How long a service is left alone whose TLS is at fault: an operator must see to it (row 37).
const TLS_COOLDOWN: Cooldown = Cooldown::Doubling {
    first: Duration::from_secs(60),
    cap: Duration::from_secs(3600),
};

/// Returns what an attempt means.
///
/// `now` is this machine's clock, by which a service is understood that asks for patience until a
/// date and does not say what its own clock shows.
#[must_use]
pub fn classify(attempt: &Attempt, context: Context, now: SystemTime) -> Verdict {
    match attempt {
        Attempt::Answered(answer) => of_answer(answer, context, now),
        Attempt::Failed(failure) => of_failure(failure, context),
    }
}

/// Describes an answer that should be recognized in a later version: the headers that may tell
/// it from others and the beginning of its body, in at most 512 bytes, without secrets.
#[must_use]
pub fn evidence(answer: &Answer) -> Box<str> {
    let view = AnswerView::new(answer);
    let header = |name: &&str| {
        let value = redact::plain(view.header(name)?.as_bytes())?;
        Some(format!("{name}: {value}"))
    };
    let body = redact::plain(view.body).map(|body| format!("body: {body}"));
    let lines: Vec<_> = EVIDENCE.iter().filter_map(header).chain(body).collect();
    redact::cut(&lines.join("; ")).into()
}

fn of_answer(answer: &Answer, context: Context, now: SystemTime) -> Verdict {
    let view = AnswerView::new(answer);
    let service = answering_service(&view, context);
    let retry_after = retry_after(&view, service, context, now);
    let mut verdict = match view.status {
        300..=399 => Verdict {
            unfamiliar: true,
            ..Verdict::of(Meaning::Rejected, Reason::Redirected)
        },
        404 => not_found(&view, service, context, retry_after),
        410 => Verdict::of(Meaning::Gone, ended(&view, service)),
        status => match recognized(&view, service) {
            Some(diagnosis) => diagnosis.verdict(context, retry_after),
            None => by_status(status, service, context, retry_after),
        },
    };
    let ours = verdict.detail.take();
    verdict.detail = redact::joined(service_text(&view, service, context.listing), ours);
    verdict
}

/// Says what a status means that comes without a word, for the detail of a result.
#[must_use]
pub fn meaning_of(status: u16) -> String {
    let meaning = match status {
        300..=399 => "it redirects, and redirects are not followed",
        400 => "it takes the request for malformed",
        401 | 403 => "it refuses the VAPID token, or this sender",
        404 => "it knows no such subscription, or the path is wrong",
        405 => "it takes no POST here; the endpoint may not be one of a push service",
        406 => "it limits this sender, or cannot answer as asked",
        410 => "the subscription has ended",
        411 => "it wants a Content-Length",
        413 => "the message is too large for it",
        421 => "it does not answer for this host on the connection that was used",
        429 => "it asks for fewer requests",
        500..=599 => "it has trouble of its own",
        _ => "it gives no reason",
    };
    format!("the push service answered {status}: {meaning}")
}

/// Returns the service that answered: autopush is recognized behind any unlisted name (§2).
fn answering_service(view: &AnswerView<'_>, context: Context) -> Service {
    if !context.listing.is_listed() && !view.is_taken() && mozilla::is_from_it(view) {
        return Service::Mozilla;
    }
    context.service
}

fn retry_after(
    view: &AnswerView<'_>,
    service: Service,
    context: Context,
    now: SystemTime,
) -> Option<Duration> {
    if service == Service::Wns {
        return wns::pause(view, now, context.retry_after_cap);
    }
    view.retry_after(now, context.retry_after_cap)
}

/// Returns the diagnosis of the service's module.
fn recognized(view: &AnswerView<'_>, service: Service) -> Option<Diagnosis> {
    if view.is_taken() && service != Service::Wns {
        return None;
    }
    match service {
        Service::Fcm => fcm::diagnose(view),
        Service::Mozilla => mozilla::diagnose(view),
        Service::Apple => apple::diagnose(view),
        Service::Wns => wns::diagnose(view),
        Service::Ntfy => unifiedpush::ntfy(view),
        Service::NextPush => unifiedpush::next_push(view),
        Service::Other => unifiedpush::relay(view),
    }
}

/// Judges an answer that no module recognizes (rows 3, 21, 21b, 23, 28, 30, 33 and 34).
fn by_status(
    status: u16,
    service: Service,
    context: Context,
    retry_after: Option<Duration>,
) -> Verdict {
    let diagnosis = match status {
        200..=299 => return Verdict::of(Meaning::Accepted, Reason::Accepted),
        401 | 403 => unauthorized(service, context.listing),
        408 | 425 => Diagnosis::PartlyDown,
        413 => Diagnosis::TooLarge,
        421 => Diagnosis::Misdirected,
        429 => Diagnosis::Throttled(HOST),
        500..=599 => Diagnosis::Down,
        _ => Diagnosis::BadRequest,
    };
    Verdict {
        unfamiliar: !PLAIN.contains(&status),
        ..diagnosis.verdict(context, retry_after)
    }
}

/// A throttle concerns the whole host, unless a service's module says otherwise (row 28).
const HOST: Throttle = Throttle {
    pause: Some(Scope::Origin),
    cooldown: Cooldown::AsAsked,
};

/// The large services check VAPID and nothing else. The server of an unlisted host may have access control
/// of its own, and autopush is recognized by its known errors.
fn unauthorized(service: Service, listing: Listing) -> Diagnosis {
    match service {
        Service::Fcm | Service::Apple | Service::Wns => Diagnosis::TokenRefused,
        Service::Mozilla if listing.is_listed() => Diagnosis::TokenRefused,
        Service::Mozilla | Service::Ntfy | Service::NextPush | Service::Other => Diagnosis::Guarded,
    }
}

fn not_found(
    view: &AnswerView<'_>,
    service: Service,
    context: Context,
    retry_after: Option<Duration>,
) -> Verdict {
    let is_own_word = context.listing.is_listed() && says_not_found(view, service);
    let said_before = context.last_status == Some(StatusCode::NOT_FOUND.as_u16());
    let age = context
        .earlier_answers
        .map_or(Duration::ZERO, |word| word.age);
    if is_own_word || said_before || age >= NOT_FOUND_AGAIN {
        return Verdict::of(Meaning::Gone, Reason::NotFound);
    }
    Verdict {
        after: retry_after.max(Some(NOT_FOUND_AGAIN.saturating_sub(age))),
        unconfirmed: true,
        unfamiliar: context.listing.is_listed() && !may_be_silent(view, service),
        ..Verdict::of(Meaning::Retryable, Reason::ServiceUnavailable)
    }
}

/// Returns whether a 404 is in the service's own words, and not a page of something before it.
fn says_not_found(view: &AnswerView<'_>, service: Service) -> bool {
    match service {
        Service::Fcm => fcm::says_not_found(view),
        Service::Mozilla => mozilla::is_from_it(view),
        Service::Apple => apple::service_text(view).is_some(),
        Service::Wns => wns::is_from_it(view),
        Service::Ntfy => unifiedpush::ntfy_says_not_found(view),
        Service::NextPush | Service::Other => false,
    }
}

/// Returns whether a 404 of the service has no words of its own.
fn may_be_silent(view: &AnswerView<'_>, service: Service) -> bool {
    match service {
        Service::Mozilla => view.body.is_empty(),
        Service::NextPush | Service::Other => true,
        Service::Fcm | Service::Apple | Service::Wns | Service::Ntfy => false,
    }
}

/// Returns which end a 410 speaks of (row 6): most services say only that there was one.
fn ended(view: &AnswerView<'_>, service: Service) -> Reason {
    match (service, recognized(view, service)) {
        (Service::Wns, _) => Reason::ExpiredSubscription,
        (Service::Apple, Some(Diagnosis::Gone(reason))) => reason,
        _ => Reason::Unsubscribed,
    }
}

fn of_failure(failure: &Failure, context: Context) -> Verdict {
    let (reason, detail) = match failure {
        Failure::ForbiddenAddress if context.listing.is_listed() => (Reason::Dns, PRIVATE_ANSWER),
        Failure::ForbiddenAddress => return forbidden_address(),
        Failure::Timeout => (Reason::Timeout, "no answer before the deadline"),
        Failure::Dns => (Reason::Dns, "the host's name has no address"),
        Failure::Connect => (Reason::Network, "no connection could be made"),
        Failure::Tls(failure) => return of_tls(&failure.fault, context),
        Failure::Proxy(failure) => return of_proxy(failure),
        Failure::Interrupted => (Reason::Network, "the connection broke before the answer"),
        Failure::NotProcessed => (Reason::Network, "the service refused to begin the request"),
        Failure::Protocol => (Reason::Network, "the answer was not HTTP within our limits"),
    };
    let mut verdict = Verdict::of(Meaning::Retryable, reason);
    if *failure == Failure::NotProcessed {
        verdict.again = offered(Again::AsItWas, context.tried);
    }
    verdict.down = true;
    verdict.detail = Some(detail.into());
    verdict
}

/// Without its proxy a push service cannot be reached, and is left alone as if it were down itself: what
/// waits for its breaker uses up no attempt.
fn of_proxy(failure: &ProxyFailure) -> Verdict {
    Verdict {
        down: true,
        detail: Some(failure.to_string().into()),
        ..Verdict::of(Meaning::Retryable, Reason::Network)
    }
}

/// Nobody mends a certificate within seconds. A server that is overloaded closes connections too, so
/// that alone is tried again as soon as what breaks otherwise.
fn of_tls(fault: &TlsFault, context: Context) -> Verdict {
    let cooldown = || TLS_COOLDOWN.after(None, context.attempt);
    Verdict {
        after: (*fault != TlsFault::Closed).then(cooldown).flatten(),
        down: true,
        detail: Some(fault.to_string().into()),
        ..Verdict::of(Meaning::Retryable, Reason::Tls)
    }
}

/// A known service is not at a private address: DNS is in trouble, or its answers are replaced.
const PRIVATE_ANSWER: &str = "DNS gives only private or special addresses for the host, which is not \
                              connected to; where a service of your own is there, guard.allow must \
                              name its network";

fn forbidden_address() -> Verdict {
    let detail = "the host's addresses are private or special, and guard.allow does not name them";
    Verdict {
        detail: Some(detail.into()),
        ..Verdict::of(Meaning::Rejected, Reason::EndpointForbidden)
    }
}

/// Returns what the service says itself, if its host is one whose words are repeated.
fn service_text(view: &AnswerView<'_>, service: Service, listing: Listing) -> Option<Box<str>> {
    if !listing.is_listed() {
        return None;
    }
    if view.is_taken() && service != Service::Wns {
        return view.identifier("apns-id");
    }
    let words = match service {
        Service::Mozilla => mozilla::service_text(view),
        Service::Apple => apple::service_text(view),
        Service::Wns => wns::service_text(view),
        Service::Ntfy => unifiedpush::ntfy_text(view),
        Service::Fcm | Service::NextPush | Service::Other => None,
    };
    match words {
        Some(words) => redact::plain(words.as_bytes()),
        None if view.is_taken() => view.identifier("x-wns-msg-id"),
        None => redact::plain(view.body),
    }
}
