//! UnifiedPush and its kin (classify/README.md §1.5): servers that anybody may run.
//!
//! Strangers, unless an operator has named them, so only a plain "no such token" ends a subscription
//! besides 410 and a 404 that is confirmed.

use std::time::Duration;

use serde_json::Value;

use crate::outcome::Reason;

use super::said::Said;
use super::sign::{Rest, Sign, Throttle};

/// row 7: false in the answer to an unknown token, which comes with 401
const NEXT_PUSH_SUCCESS: &str = "success";

/// row 29: nobody listens to the topic; a 5xx on purpose, for some senders delete on any 4xx
const NTFY_NO_SUBSCRIBER: u64 = 50_701;

const NOBODY_LISTENS: Throttle = Throttle {
    pause: None,
    rest: Rest::Doubling {
        first: Duration::from_secs(300),
        cap: Duration::from_secs(6 * 3600),
    },
};

/// Tells what ntfy says, if it is one of its ways to say it.
pub(super) fn ntfy(said: &Said<'_>) -> Option<Sign> {
    let code = said.number("code");
    if said.status == 507 && code == Some(NTFY_NO_SUBSCRIBER) {
        return Some(Sign::Throttled(NOBODY_LISTENS));
    }
    // 400xx, 413xx and the like repeat their status in the first three digits.
    let known = code.is_some_and(|code| code / 100 == u64::from(said.status));
    (known && said.status == 400).then_some(Sign::BadRequest)
}

/// Tells whether a 404 is ntfy's own.
pub(super) fn ntfy_says_not_found(said: &Said<'_>) -> bool {
    said.number("code").is_some_and(|code| code / 100 == 404)
}

/// Returns ntfy's error, after its code.
pub(super) fn ntfy_words(said: &Said<'_>) -> Option<String> {
    let error = said.text("error")?;
    let code = said.number("code")?;
    Some(format!("code {code}: {error}"))
}

/// Tells what NextPush says, if it is one of its ways to say it.
pub(super) fn next_push(said: &Said<'_>) -> Option<Sign> {
    let failed = said.member(NEXT_PUSH_SUCCESS) == Some(&Value::Bool(false));
    (said.status == 401 && failed).then_some(Sign::Gone(Reason::NotFound))
}

/// Tells what a relay to another service says, if it is one of its ways to say it.
pub(super) fn relay(said: &Said<'_>) -> Option<Sign> {
    // row 26
    (said.status == 415).then_some(Sign::CodingRefused)
}

#[cfg(test)]
mod tests {
    use crate::classify::Context;
    use crate::classify::tests::{check, context};
    use crate::origin::{Listing, Service};
    use crate::outcome::Again;

    const GUARDED: &str = "rejected bad_request unfamiliar: the server lets us in only with \
                           credentials of its own";

    fn stranger(service: Service) -> Context {
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
            stranger(Service::Ntfy),
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
            ..stranger(Service::Ntfy)
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
            stranger(Service::NextPush),
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
        let other = stranger(Service::Other);
        check(other, &[(401, &[], r#"{"success":false}"#, GUARDED)]);
    }

    // classify/README.md §1.5, webpush-fcm-relay
    #[test]
    fn relays_are_understood() {
        check(
            stranger(Service::Other),
            &[
                (201, &[], "", "accepted accepted"),
                (415, &[], "", "rejected bad_request again other_coding"),
                (502, &[], "", "retryable service_unavailable down"),
            ],
        );
        let second = Context {
            tried: Some(Again::OtherCoding),
            ..stranger(Service::Other)
        };
        check(second, &[(415, &[], "", "rejected bad_request")]);
    }
}
