//! Apple: a reason in JSON, and rules of its own about topics and contacts (classify/README.md §1.3).

use http::header::HeaderMap;
use serde_json::json;

use super::behaviour::{Dialect, Taken, named};
use super::service_answer::ServiceAnswer;
use crate::sandbox::push::{Head, shown};
use crate::sandbox::refusal::Refusal;
use crate::sandbox::vapid::VapidError;

pub(super) static DIALECT: Dialect = Dialect {
    path: |token| format!("/{token}"),
    accept,
    answers,
    refuse,
    demand: Some(demand),
};

/// There is no `Location`.
fn accept(taken: &Taken<'_>) -> ServiceAnswer {
    ServiceAnswer::new(201).header("apns-id", apns_id(taken.id))
}

/// A UUID that counts up.
fn apns_id(id: u64) -> String {
    format!("5A9DB0C5-0000-4000-8000-{:012X}", id & 0xffff_ffff_ffff)
}

const REASONS: [(&str, u16, &str); 19] = [
    ("gone", 410, "Unregistered"),
    ("expired", 410, "ExpiredToken"),
    ("not_found", 404, "BadPath"),
    ("bad_request", 400, "BadWebPushRequest"),
    ("bad_token", 400, "BadDeviceToken"),
    ("key_mismatch", 400, "VapidPkHashMismatch"),
    ("vapid_header", 400, "BadAuthorizationHeader"),
    ("vapid_rejected", 403, "BadJwtToken"),
    ("vapid_key", 403, "BadVapidPublicKey"),
    ("bad_ttl", 400, "BadTtl"),
    ("bad_urgency", 400, "BadUrgency"),
    ("bad_topic", 400, "BadWebPushTopic"),
    ("method", 405, "MethodNotAllowed"),
    ("payload_too_large", 413, "PayloadTooLarge"),
    ("throttled", 429, "TooManyRequests"),
    ("internal_error", 500, "InternalServerError"),
    ("unavailable", 503, "ServiceUnavailable"),
    ("shutdown", 503, "Shutdown"),
    ("idle_timeout", 400, "IdleTimeout"),
];

fn answers() -> Vec<(&'static str, ServiceAnswer)> {
    let answer = |(name, status, reason)| {
        let answer = ServiceAnswer::new(status).json(&json!({ "reason": reason }));
        (name, answer.header("apns-id", apns_id(0)))
    };
    REASONS.map(answer).into()
}

/// Wants topics that base64url can decode, and a contact that could be reached.
fn demand(headers: &HeaderMap, head: &Head) -> Result<(), Refusal> {
    if let Some(topic) = shown(headers, "topic").filter(|topic| topic.len() % 4 == 1) {
        return Err(Refusal::TopicUndecodable(topic));
    }
    match &head.credential.claims.sub {
        Some(subject) if is_contact(subject) => Ok(()),
        subject => Err(Refusal::Subject(subject.clone().unwrap_or_default())),
    }
}

fn is_contact(subject: &str) -> bool {
    const NOWHERE: [&str; 3] = ["@localhost", ".local", ".invalid"];
    let scheme = subject.starts_with("mailto:") || subject.starts_with("https://");
    let nowhere = NOWHERE.iter().any(|end| subject.ends_with(end));
    scheme && !nowhere && !subject.contains([' ', '<', '>'])
}

fn refuse(refusal: &Refusal) -> Option<ServiceAnswer> {
    let name = match refusal {
        Refusal::Decrypt(_) | Refusal::SharedKey | Refusal::LengthMissing => return None,
        Refusal::NotFound => "bad_token",
        Refusal::Method => "method",
        Refusal::TtlMissing | Refusal::Ttl(_) => "bad_ttl",
        Refusal::Topic(_) | Refusal::TopicUndecodable(_) => "bad_topic",
        Refusal::Urgency(_) => "bad_urgency",
        Refusal::TooLarge(_) => "payload_too_large",
        Refusal::Vapid(error) => of_vapid(error),
        Refusal::Subject(_) => "vapid_rejected",
        _ => "bad_request",
    };
    named(answers(), name)
}

fn of_vapid(error: &VapidError) -> &'static str {
    match error {
        VapidError::KeyMismatch => "key_mismatch",
        VapidError::Key => "vapid_key",
        VapidError::Several
        | VapidError::CredentialLength(_)
        | VapidError::Scheme
        | VapidError::Missing(_)
        | VapidError::Repeated => "vapid_header",
        _ => "vapid_rejected",
    }
}
