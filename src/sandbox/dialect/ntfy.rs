//! ntfy as a UnifiedPush distributor: takes nearly everything, and cuts off what is too long
//! (classify/README.md §1.5).

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::behaviour::{Dialect, Taken, named};
use super::service_answer::ServiceAnswer;
use crate::sandbox::refusal::{BODY_LIMIT, Refusal};

pub(super) static DIALECT: Dialect = Dialect {
    path: |token| format!("/up{}?up=1", token.get(..12).unwrap_or(token)),
    accept,
    answers,
    refuse,
    demand: None,
};

/// How long messages are kept: twelve hours, whatever `TTL` says.
const CACHE: Duration = Duration::from_secs(12 * 60 * 60);

fn accept(taken: &Taken<'_>) -> ServiceAnswer {
    let time = taken.now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let topic = taken.path.trim_start_matches('/').split('?').next();
    let kept = &taken.body[..taken.body.len().min(BODY_LIMIT)];
    ServiceAnswer::new(200).json(&json!({
        "id": format!("{:012}", taken.id), "time": time.as_secs(),
        "expires": (time + CACHE).as_secs(), "event": "message", "topic": topic,
        "message": STANDARD.encode(kept), "encoding": "base64",
    }))
}

const ERRORS: [(&str, u32, &str); 9] = [
    (
        "no_subscriber",
        50701,
        "cannot publish to UnifiedPush topic without previously active subscriber",
    ),
    ("throttled", 42901, "limit reached: too many requests"),
    (
        "daily_quota",
        42908,
        "limit reached: daily message quota reached",
    ),
    ("bad_request", 40009, "invalid request: topic invalid"),
    (
        "topic_disallowed",
        40010,
        "invalid request: topic name is not allowed",
    ),
    ("unauthorized", 40101, "unauthorized"),
    ("forbidden", 40301, "forbidden"),
    (
        "payload_too_large",
        41301,
        "attachment too large, or bandwidth limit reached",
    ),
    ("internal_error", 50001, "internal server error"),
];

fn answers() -> Vec<(&'static str, ServiceAnswer)> {
    let actual = ERRORS.map(|(name, code, message)| (name, error(code, message)));
    let bare = [("not_found", 404), ("unavailable", 503)];
    let bare = bare.map(|(name, status)| (name, ServiceAnswer::new(status)));
    actual.into_iter().chain(bare).collect()
}

/// The first three digits of a code are the status.
fn error(code: u32, message: &str) -> ServiceAnswer {
    let status = u16::try_from(code / 100).unwrap_or(500);
    ServiceAnswer::new(status).json(&json!({
        "code": code, "http": status, "error": message, "link": "https://ntfy.sh/docs/publish/",
    }))
}

/// A topic without a subscriber is the only thing that ntfy minds; what is over the limit is cut
/// off in silence, and no browser can decrypt the rest.
fn refuse(refusal: &Refusal) -> Option<ServiceAnswer> {
    match refusal {
        Refusal::NotFound => named(answers(), "no_subscriber"),
        Refusal::Method => named(answers(), "not_found"),
        _ => None,
    }
}
