//! UnifiedPush and its kin (classify/README.md §1.5): servers that anybody may run.
//!
//! They are unlisted unless an operator has named them, so only a plain "no such token" ends a subscription
//! besides 410 and a 404 that is confirmed.

use std::time::Duration;

use serde_json::Value;

use crate::outcome::Reason;

use super::answer_view::AnswerView;
use super::diagnosis::{Cooldown, Diagnosis, Throttle};

/// row 7: false in the answer to an unknown token, which comes with 401
const NEXT_PUSH_SUCCESS: &str = "success";

/// row 29: nobody listens to the topic; a 5xx on purpose, for some senders delete on any 4xx
const NTFY_NO_SUBSCRIBER: u64 = 50_701;

const NOBODY_LISTENS: Throttle = Throttle {
    pause: None,
    cooldown: Cooldown::Doubling {
        first: Duration::from_secs(300),
        cap: Duration::from_secs(6 * 3600),
    },
};

/// Returns what ntfy says, if it is one of its ways to say it.
pub(super) fn ntfy(view: &AnswerView<'_>) -> Option<Diagnosis> {
    let code = view.number("code");
    if view.status == 507 && code == Some(NTFY_NO_SUBSCRIBER) {
        return Some(Diagnosis::Throttled(NOBODY_LISTENS));
    }
    // 400xx, 413xx and the like repeat their status in the first three digits.
    let known = code.is_some_and(|code| code / 100 == u64::from(view.status));
    (known && view.status == 400).then_some(Diagnosis::BadRequest)
}

/// Returns whether a 404 is ntfy's own.
pub(super) fn ntfy_says_not_found(view: &AnswerView<'_>) -> bool {
    view.number("code").is_some_and(|code| code / 100 == 404)
}

/// Returns ntfy's error, after its code.
pub(super) fn ntfy_text(view: &AnswerView<'_>) -> Option<String> {
    let error = view.text("error")?;
    let code = view.number("code")?;
    Some(format!("code {code}: {error}"))
}

/// Returns what NextPush says, if it is one of its ways to say it.
pub(super) fn next_push(view: &AnswerView<'_>) -> Option<Diagnosis> {
    let failed = view.member(NEXT_PUSH_SUCCESS) == Some(&Value::Bool(false));
    (view.status == 401 && failed).then_some(Diagnosis::Gone(Reason::NotFound))
}

/// Returns what a relay to another service says, if it is one of its ways to say it.
pub(super) fn relay(view: &AnswerView<'_>) -> Option<Diagnosis> {
    // row 26
    (view.status == 415).then_some(Diagnosis::CodingRefused)
}

#[cfg(test)]
mod tests {
    use crate::classify::Context;
    use crate::classify::tests::{check, context};
    use crate::origin::{Listing, Service};
    use crate::outcome::Again;

    const GUARDED: &str = "rejected bad_request unfamiliar: the server lets us in only with \
                           credentials of its own";

    fn unlisted(service: Service) -> Context {
        Context {
            listing: Listing::Unlisted,
            ..context(service)
        }
    }

    // classify/README.md §1.5, ntfy
    #[test]
    fn ntfy_is_understood() {
        let limit = r#"{"code":42901,"http":429,"error":"limit reached: too many requests"}"#;
        let nobody = r#"{"code":50701,"http":507,"error":"cannot publish to UnifiedPush topic"}"#;
        check(
            unlisted(Service::Ntfy),
            &[
                (
                    200,
                    &[],
                    r#"{"id":"x","event":"message"}"#,
                    "accepted accepted",
                ),
                (
                    400,
                    &[],
                    r#"{"code":40009,"http":400,"error":"invalid topic"}"#,
                    "rejected bad_request",
                ),
                (403, &[], r#"{"code":40301,"http":403}"#, GUARDED),
                (
                    413,
                    &[],
                    "",
                    "rejected payload_too_large: the request's body had 4096 bytes",
                ),
                (429, &[], limit, "retryable throttled pause origin"),
                (507, &[], nobody, "retryable throttled after 300s"),
                (
                    507,
                    &[],
                    "",
                    "retryable service_unavailable down unfamiliar",
                ),
            ],
        );
        let late = Context {
            attempt: 9,
            ..unlisted(Service::Ntfy)
        };
        check(
            late,
            &[(507, &[], nobody, "retryable throttled after 21600s")],
        );
    }

    #[test]
    fn the_words_of_a_named_ntfy_are_repeated() {
        check(
            context(Service::Ntfy),
            &[
                (
                    429,
                    &[],
                    r#"{"code":42908,"http":429,"error":"limit reached: daily message quota"}"#,
                    "retryable throttled pause origin: code 42908: limit reached: daily message \
                     quota",
                ),
                (
                    502,
                    &[],
                    "<title>502 Bad Gateway</title>",
                    "retryable service_unavailable down: 502 Bad Gateway",
                ),
            ],
        );
    }

    // classify/README.md §1.5, NextPush
    #[test]
    fn next_push_is_understood() {
        check(
            unlisted(Service::NextPush),
            &[
                (200, &[], r#"{"success":true}"#, "accepted accepted"),
                (401, &[], r#"{"success":false}"#, "gone not_found"),
                (401, &[], r#"{"success":true}"#, GUARDED),
                (401, &[], "<p>success false</p>", GUARDED),
                (403, &[], r#"{"success":false}"#, GUARDED),
                (429, &[], "", "retryable throttled pause origin"),
                (503, &[], "", "retryable service_unavailable down"),
            ],
        );
        let other = unlisted(Service::Other);
        check(other, &[(401, &[], r#"{"success":false}"#, GUARDED)]);
    }

    // classify/README.md §1.5, webpush-fcm-relay
    #[test]
    fn relays_are_understood() {
        check(
            unlisted(Service::Other),
            &[
                (201, &[], "", "accepted accepted"),
                (415, &[], "", "rejected bad_request again other_coding"),
                (502, &[], "", "retryable service_unavailable down"),
            ],
        );
        let second = Context {
            tried: Some(Again::OtherCoding),
            ..unlisted(Service::Other)
        };
        check(second, &[(415, &[], "", "rejected bad_request")]);
    }
}
