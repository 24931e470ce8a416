//! NextPush, a Nextcloud app: success or none, in JSON (classify/README.md §1.5).

use serde_json::json;

use super::behaviour::{Dialect, Taken, named};
use super::service_answer::ServiceAnswer;
use crate::sandbox::refusal::Refusal;

pub(super) static DIALECT: Dialect = Dialect {
    path: |token| format!("/index.php/apps/uppush/push/{token}"),
    accept,
    answers,
    refuse,
    demand: None,
};

fn accept(_: &Taken<'_>) -> ServiceAnswer {
    ServiceAnswer::new(200).json(&json!({ "success": true }))
}

/// A token that is not known is answered with 401; the rest is Nextcloud's own.
fn answers() -> Vec<(&'static str, ServiceAnswer)> {
    vec![
        (
            "gone",
            ServiceAnswer::new(401).json(&json!({ "success": false })),
        ),
        ("not_found", ServiceAnswer::new(404)),
        ("method", ServiceAnswer::new(405)),
        ("throttled", ServiceAnswer::new(429)),
        ("unavailable", ServiceAnswer::new(503)),
        ("internal_error", ServiceAnswer::new(500)),
    ]
}

/// Nothing of a push is looked at but its token.
fn refuse(refusal: &Refusal) -> Option<ServiceAnswer> {
    match refusal {
        Refusal::NotFound => named(answers(), "gone"),
        Refusal::Method => named(answers(), "method"),
        _ => None,
    }
}
