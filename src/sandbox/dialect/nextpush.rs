//! NextPush, a Nextcloud app: success or none, in JSON (classify/README.md §1.5).

use serde_json::json;

use super::{Dialect, Said, Taken, named};
use crate::sandbox::push::Refusal;

pub(super) static DIALECT: Dialect = Dialect {
    path: |token| format!("/index.php/apps/uppush/push/{token}"),
    accept,
    answers,
    refuse,
    demand: None,
};

fn accept(_: &Taken<'_>) -> Said {
    Said::new(200).json(&json!({ "success": true }))
}

/// A token that is not known is answered with 401; the rest is Nextcloud's own.
fn answers() -> Vec<(&'static str, Said)> {
    vec![
        ("gone", Said::new(401).json(&json!({ "success": false }))),
        ("not_found", Said::new(404)),
        ("method", Said::new(405)),
        ("throttled", Said::new(429)),
        ("unavailable", Said::new(503)),
        ("internal_error", Said::new(500)),
    ]
}

/// Nothing of a push is looked at but its token.
fn refuse(refusal: &Refusal) -> Option<Said> {
    match refusal {
        Refusal::NotFound => named(answers(), "gone"),
        Refusal::Method => named(answers(), "method"),
        Refusal::TtlMissing
        | Refusal::Ttl(_)
        | Refusal::TtlConflict
        | Refusal::Vapid(_)
        | Refusal::Subject(_)
        | Refusal::LengthMissing
        | Refusal::Topic(_)
        | Refusal::TopicUndecodable(_)
        | Refusal::Urgency(_)
        | Refusal::TooLarge(_)
        | Refusal::CodingMissing
        | Refusal::Coding(_)
        | Refusal::LegacyHeader(_)
        | Refusal::SharedKey
        | Refusal::Decrypt(_)
        | Refusal::Repeated(_)
        | Refusal::NotText(_) => None,
    }
}
