//! A service of no family: RFC 8030, and a sentence for whatever is wrong.

use super::behaviour::{Dialect, Taken};
use super::service_answer::ServiceAnswer;
use crate::sandbox::refusal::Refusal;

pub(super) static DIALECT: Dialect = Dialect {
    path: |token| format!("/push/{token}"),
    accept,
    answers,
    refuse: |refusal| Some(refuse(refusal)),
    demand: None,
};

/// Names the message and the TTL (RFC 8030 §5).
fn accept(taken: &Taken<'_>) -> ServiceAnswer {
    ServiceAnswer::new(201)
        .header("location", format!("{}/message/{}", taken.origin, taken.id))
        .header("ttl", taken.ttl.to_string())
}

fn answers() -> Vec<(&'static str, ServiceAnswer)> {
    [
        ("gone", 410),
        ("not_found", 404),
        ("vapid_rejected", 403),
        ("payload_too_large", 413),
        ("bad_request", 400),
        ("throttled", 429),
        ("unavailable", 503),
        ("internal_error", 500),
    ]
    .map(|(name, status)| (name, ServiceAnswer::new(status)))
    .into()
}

fn refuse(refusal: &Refusal) -> ServiceAnswer {
    let answer = ServiceAnswer::new(refusal.status().as_u16()).text(format!("{refusal}\n"));
    if *refusal == Refusal::Method {
        return answer.header("allow", "POST");
    }
    answer
}
