//! Windows Notification Service: everything is said in headers (classify/README.md §1.4).

use http::header::HeaderMap;

use super::behaviour::{Dialect, Taken, named};
use super::service_answer::ServiceAnswer;
use crate::sandbox::push::{Head, shown};
use crate::sandbox::refusal::Refusal;
use crate::sandbox::vapid::VapidError;

pub(super) static DIALECT: Dialect = Dialect {
    // The escapes are part of the token, in lower case.
    path: |token| format!("/w/?token=BQYAAAB%2b{token}%3d"),
    accept,
    answers,
    refuse,
    demand: Some(demand),
};

fn accept(taken: &Taken<'_>) -> ServiceAnswer {
    actual(201, "received")
        .header("x-wns-deviceconnectionstatus", "connected")
        .header("x-wns-msg-id", format!("{:016X}", taken.id))
}

/// Adds the headers that describe what became of the notification.
fn actual(status: u16, what: &'static str) -> ServiceAnswer {
    ServiceAnswer::new(status)
        .header("x-wns-status", what)
        .header("x-wns-notificationstatus", what)
        .header("x-wns-debug-trace", "SANDBOX00000001")
        .header("ms-cv", "sandbox0000000000000.0")
}

const STATUSES: [(&str, u16); 10] = [
    ("gone", 410),
    ("not_found", 404),
    ("key_mismatch", 403),
    ("method", 405),
    ("payload_too_large", 413),
    ("throttled", 406),
    ("too_many_requests", 429),
    ("internal_error", 500),
    ("unavailable", 503),
    ("bad_gateway", 502),
];

/// Errors with a description.
const DESCRIBED: [(&str, u16, &str); 4] = [
    ("bad_request", 400, "The request was invalid"),
    (
        "ttl_conflict",
        400,
        "Ttl value conflicts with X-WNS-Cache-Policy.",
    ),
    ("vapid_rejected", 401, "JWT Authentication Failed"),
    (
        "channel_key",
        401,
        "The public key does not match the key of the channel",
    ),
];

const NOT_DELIVERED: [(&str, u16, &str); 3] = [
    ("dropped", 201, "dropped"),
    ("channel_throttled", 200, "channelthrottled"),
    ("app_throttled", 200, "appthrottled"),
];

fn answers() -> Vec<(&'static str, ServiceAnswer)> {
    let bare = STATUSES.map(|(name, status)| (name, actual(status, "dropped")));
    let described = DESCRIBED.map(|(name, status, description)| {
        let answer = actual(status, "dropped").header("x-wns-error-description", description);
        let challenged = answer.clone().header("www-authenticate", CHALLENGE);
        (name, if status == 401 { challenged } else { answer })
    });
    let actual = NOT_DELIVERED.map(|(name, status, what)| (name, actual(status, what)));
    bare.into_iter().chain(described).chain(actual).collect()
}

const CHALLENGE: &str = "Bearer error=\"invalid_token\"";

/// A push that may be kept needs a time to be kept.
fn demand(headers: &HeaderMap, head: &Head) -> Result<(), Refusal> {
    let policy = shown(headers, "x-wns-cache-policy");
    if head.ttl == 0 && policy.as_deref() != Some("no-cache") {
        return Err(Refusal::TtlConflict);
    }
    Ok(())
}

fn refuse(refusal: &Refusal) -> Option<ServiceAnswer> {
    let name = match refusal {
        // Neither is documented to be looked at.
        Refusal::Decrypt(_) | Refusal::SharedKey | Refusal::Topic(_) | Refusal::Urgency(_) => {
            return None;
        }
        Refusal::NotFound => "not_found",
        Refusal::Method => "method",
        Refusal::TtlConflict => "ttl_conflict",
        // 5000 bytes is Microsoft's limit.
        Refusal::TooLarge(length) if *length <= 5000 => return None,
        Refusal::TooLarge(_) => "payload_too_large",
        Refusal::Vapid(VapidError::KeyMismatch) => "key_mismatch",
        Refusal::Vapid(_) | Refusal::Subject(_) => "vapid_rejected",
        _ => "bad_request",
    };
    named(answers(), name)
}
