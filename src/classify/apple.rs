//! Apple (classify/README.md §1.3): a `reason` as JSON, with statuses that vary between reports.
//!
//! A reason counts only where it is the reason: a page of HTML in which the word stands ends no
//! subscription.

use crate::outcome::Reason;

use super::answer_view::AnswerView;
use super::diagnosis::{Cooldown, Diagnosis, Throttle};

/// What its reasons mean, whatever the status.
const REASONS: &[(&str, Diagnosis)] = &[
    // row 10
    ("BadDeviceToken", Diagnosis::Gone(Reason::NotFound)),
    ("Unregistered", Diagnosis::Gone(Reason::Unsubscribed)),
    ("ExpiredToken", Diagnosis::Gone(Reason::ExpiredSubscription)),
    // row 12
    ("VapidPkHashMismatch", Diagnosis::KeyMismatch),
    // row 18
    ("BadJwtToken", Diagnosis::TokenRefused),
    // row 19
    ("BadAuthorizationHeader", Diagnosis::KeyRefused),
    ("BadVapidPublicKey", Diagnosis::KeyRefused),
    // row 23
    ("PayloadTooLarge", Diagnosis::TooLarge),
    // row 24
    ("BadWebPushTopic", Diagnosis::TopicRefused),
    // row 28
    ("TooManyRequests", Diagnosis::Throttled(THROTTLE)),
    // row 33
    ("IdleTimeout", Diagnosis::PartlyDown),
    ("InternalServerError", Diagnosis::Down),
    ("ServiceUnavailable", Diagnosis::Down),
    ("Shutdown", Diagnosis::Down),
    // row 34
    ("BadTtl", Diagnosis::BadRequest),
    ("BadUrgency", Diagnosis::BadRequest),
    ("BadWebPushRequest", Diagnosis::BadRequest),
    ("MethodNotAllowed", Diagnosis::BadRequest),
];

/// Apple counts per device, so nobody else need wait (row 28).
const THROTTLE: Throttle = Throttle {
    pause: None,
    cooldown: Cooldown::AsAsked,
};

/// Returns what Apple says, if it is one of its ways to say it.
pub(super) fn diagnose(view: &AnswerView<'_>) -> Option<Diagnosis> {
    let reason = view.text("reason").unwrap_or_default();
    let known = REASONS
        .iter()
        .find(|(name, _)| reason.eq_ignore_ascii_case(name));
    let throttled = (view.status == 429).then_some(Diagnosis::Throttled(THROTTLE));
    known.map(|(_, diagnosis)| *diagnosis).or(throttled)
}

/// Returns its reason.
pub(super) fn service_text(view: &AnswerView<'_>) -> Option<String> {
    view.text("reason").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::classify::Context;
    use crate::classify::tests::{check, context};
    use crate::origin::Service;

    // classify/README.md §1.3
    #[test]
    fn its_reasons_are_understood_whatever_the_status() {
        let fault = "retryable vapid_rejected";
        for (status, reason, expected) in [
            (410, "Unregistered", "gone unsubscribed"),
            (410, "ExpiredToken", "gone expired_subscription"),
            (410, "SomethingNew", "gone unsubscribed"),
            (400, "BadDeviceToken", "gone not_found"),
            (403, "Unregistered", "gone unsubscribed"),
            (
                400,
                "VapidPkHashMismatch",
                "rejected key_mismatch again another_key",
            ),
            (
                403,
                "VapidPkHashMismatch",
                "rejected key_mismatch again another_key",
            ),
            (
                403,
                "BadJwtToken",
                "retryable vapid_rejected again fresh_token",
            ),
            (400, "BadAuthorizationHeader", fault),
            (403, "BadVapidPublicKey", fault),
            (400, "BadVapidPublicKey", fault),
            (400, "BadTtl", "rejected bad_request"),
            (400, "BadUrgency", "rejected bad_request"),
            (
                400,
                "BadWebPushTopic",
                "rejected bad_request again without_topic",
            ),
            (400, "BadWebPushRequest", "rejected bad_request"),
            (404, "BadPath", "gone not_found"),
            (405, "MethodNotAllowed", "rejected bad_request"),
            (429, "TooManyRequests", "retryable throttled"),
            (
                500,
                "InternalServerError",
                "retryable service_unavailable down",
            ),
            (
                503,
                "ServiceUnavailable",
                "retryable service_unavailable down",
            ),
            (503, "Shutdown", "retryable service_unavailable down"),
            (400, "IdleTimeout", "retryable service_unavailable"),
            (400, "SomethingNew", "rejected bad_request unfamiliar"),
            (
                403,
                "SomethingNew",
                "retryable vapid_rejected again fresh_token unfamiliar",
            ),
        ] {
            let body = format!(r#"{{"reason":"{reason}"}}"#);
            let actual = format!("{expected}: {reason}");
            check(context(Service::Apple), &[(status, &[], &body, &actual)]);
        }
    }

    #[test]
    fn the_rest_of_its_answers_is_understood() {
        check(
            context(Service::Apple),
            &[
                (
                    201,
                    &[("apns-id", "3C1A2B4D-0000-4E5F-8A9B-0C1D2E3F4A5B")],
                    "",
                    "accepted accepted: apns-id: 3C1A2B4D-0000-4E5F-8A9B-0C1D2E3F4A5B",
                ),
                (201, &[("apns-id", "not an id")], "", "accepted accepted"),
                (429, &[], "", "retryable throttled"),
                (
                    413,
                    &[],
                    r#"{"reason":"PayloadTooLarge"}"#,
                    "rejected payload_too_large: PayloadTooLarge (the request's body had 4096 \
                     bytes)",
                ),
                // A word in a page is no reason.
                (
                    400,
                    &[],
                    "<title>Unregistered</title>",
                    "rejected bad_request unfamiliar: Unregistered",
                ),
            ],
        );
    }

    #[test]
    fn a_young_token_that_is_refused_is_not_signed_anew() {
        let young = Context {
            token_age: Duration::from_secs(60),
            ..context(Service::Apple)
        };
        check(
            young,
            &[(
                403,
                &[],
                r#"{"reason":"BadJwtToken"}"#,
                "retryable vapid_rejected: BadJwtToken",
            )],
        );
    }
}
