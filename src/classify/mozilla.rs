//! Mozilla's autopush, hosted or self-hosted (classify/README.md §1.1 and §11): JSON with an `errno`.
//!
//! Its 404s have an empty body, as those of a proxy may have, and all its 410s mean the same.

use serde_json::Value;

use crate::outcome::Reason;

use super::answer_view::AnswerView;
use super::diagnosis::{Cooldown, Diagnosis, Marker, Throttle};

/// Messages that say more than their `errno`.
const MARKERS: &[Marker] = &[
    // row 13
    Marker(&[401], "public key mismatch", Diagnosis::KeyMismatch),
    // row 16
    Marker(&[401], "ExpiredSignature", Diagnosis::TokenExpired),
    // row 23: the bridge to Android takes less
    Marker(&[413], "constrained device", Diagnosis::TooLargeForDevice),
];

/// What its numbers mean, by status.
const NUMBERS: &[(u16, &[u64], Diagnosis)] = &[
    // row 8: the bridge no longer knows the user
    (400, &[106], Diagnosis::Gone(Reason::NotFound)),
    // row 21
    (401, &[109], Diagnosis::TokenRefused),
    // row 34
    (
        400,
        &[101, 108, 110, 111, 112, 113, 114],
        Diagnosis::BadRequest,
    ),
    (429, &[BRIDGE], Diagnosis::Throttled(BRIDGE_THROTTLE)),
    (503, &[BRIDGE], Diagnosis::PartlyDown),
];

/// The number of what the bridge to Android could not hand on to FCM.
const BRIDGE: u64 = 201;

/// How the messages begin that repeat FCM's own status. They concern one Android endpoint, not the
/// subscriptions of desktop browsers at the same origin (classify/README.md §1.1).
const BRIDGE_MARKERS: [&str; 2] = [
    "Upstream error, RESOURCE_EXHAUSTED: ",
    "Upstream error, UNAVAILABLE: ",
];

const BRIDGE_THROTTLE: Throttle = Throttle {
    pause: None,
    cooldown: Cooldown::AsAsked,
};

/// Returns whether the body is one of autopush's errors, which shows it behind any host name.
pub(super) fn is_from_it(view: &AnswerView<'_>) -> bool {
    view.member("errno").is_some() && view.member("more_info").is_some()
}

/// Returns what autopush says, if it is one of its ways to say it.
pub(super) fn diagnose(view: &AnswerView<'_>) -> Option<Diagnosis> {
    // row 32: one of the bridges behind it, which is no matter of the other subscriptions
    if view.status == 502 && is_from_it(view) {
        return Some(Diagnosis::PartlyDown);
    }
    of_bridge(view)
        .or_else(|| Marker::in_body(MARKERS, view))
        .or_else(|| by_number(view))
}

/// Recognises the bridge to Android by the beginning of its message.
fn of_bridge(view: &AnswerView<'_>) -> Option<Diagnosis> {
    let diagnosis = match view.status {
        429 => Diagnosis::Throttled(BRIDGE_THROTTLE),
        503 => Diagnosis::PartlyDown,
        _ => return None,
    };
    let message = view.text("message")?;
    let is_of_bridge = BRIDGE_MARKERS
        .iter()
        .any(|marker| message.starts_with(marker));
    is_of_bridge.then_some(diagnosis)
}

fn by_number(view: &AnswerView<'_>) -> Option<Diagnosis> {
    if view.status == 400 && view.member("errno").is_some_and(Value::is_null) {
        return Some(Diagnosis::BadRequest);
    }
    let errno = view.number("errno")?;
    let meant = |(status, numbers, _): &&(u16, &[u64], Diagnosis)| {
        *status == view.status && numbers.contains(&errno)
    };
    NUMBERS
        .iter()
        .find(meant)
        .map(|(_, _, diagnosis)| *diagnosis)
}

/// Returns its message, after its number.
pub(super) fn service_text(view: &AnswerView<'_>) -> Option<String> {
    let message = view.text("message")?;
    Some(view.number("errno").map_or_else(
        || message.to_owned(),
        |errno| format!("errno {errno}: {message}"),
    ))
}

#[cfg(test)]
mod tests {
    use crate::classify::tests::{Row, check, context};
    use crate::origin::Service;

    /// Makes one of its errors as it was measured (classify/README.md §11).
    fn error(status: u16, errno: &str, message: &str) -> String {
        let message = serde_json::to_string(message).unwrap();
        format!(
            r#"{{"code":{status},"errno":{errno},"error":"Reason","message":{message},
            "more_info":"http://autopush.readthedocs.io/en/latest/http.html#error-codes"}}"#
        )
    }

    fn check_errors(errors: &[(u16, &str, &str, &str)]) {
        for (status, errno, message, expected) in errors {
            let body = error(*status, errno, message);
            let actual = match *errno {
                "null" => format!("{expected}: {message}"),
                _ => format!("{expected}: errno {errno}: {message}"),
            };
            let row: Row<'_> = (*status, &[], &body, &actual);
            check(context(Service::Mozilla), &[row]);
        }
    }

    // classify/README.md §11
    #[test]
    fn what_was_measured_is_understood() {
        let again = "retryable vapid_rejected again fresh_token";
        let bad = "rejected bad_request";
        check_errors(&[
            (401, "109", "Invalid VAPID audience", again),
            (
                401,
                "109",
                "Invalid VAPID token: Missing required aud",
                again,
            ),
            (401, "109", "ExpiredSignature", again),
            (401, "109", "The VAPID token expiration is too long", again),
            (
                401,
                "109",
                "Invalid VAPID token: A value in the vapid claims is either missing or \
                 incorrectly specified (e.g. \"exp\":\"12345\" or \"sub\":null). Please correct \
                 and retry.",
                again,
            ),
            (
                401,
                "109",
                "VAPID public key mismatch",
                "rejected key_mismatch again another_key",
            ),
            (401, "109", "InvalidSignature", again),
            (401, "109", "InvalidAlgorithm", again),
            (401, "109", "InvalidEcdsaKey", again),
            (401, "109", "InvalidToken", again),
            (401, "109", "Missing VAPID public key", again),
            (401, "109", "Unknown auth scheme", again),
            (400, "111", "Missing TTL value", bad),
            (400, "114", "ttl: TTL must be greater than 0", bad),
            (
                400,
                "113",
                "topic: Topic must be no greater than 32 characters",
                bad,
            ),
            (400, "110", "Missing Content-Encoding header", bad),
            (400, "110", "Unknown Content-Encoding header", bad),
            (400, "110", "Missing Encryption header", bad),
            (400, "110", "Missing salt value in Encryption header", bad),
            (400, "110", "Missing dh value in Crypto-Key header", bad),
            (
                400,
                "110",
                "Do not include 'dh' header in aes128gcm Crypto-Key header",
                bad,
            ),
            (
                400,
                "113",
                "topic: Topic must be URL and Filename safe Base64 alphabet",
                bad,
            ),
            (
                400,
                "110",
                "Do not include 'salt' header in aes128gcm Encryption header",
                bad,
            ),
            (
                400,
                "null",
                "payload reached EOF before completing: Some(Custom { kind: InvalidInput, \
                 error: \"invalid gzip header\" })",
                bad,
            ),
            (410, "106", "No such subscription", "gone unsubscribed"),
        ]);
        check(
            context(Service::Mozilla),
            &[
                (
                    201,
                    &[("location", "https://updates.example/m/x"), ("ttl", "60")],
                    "",
                    "accepted accepted",
                ),
                (404, &[], "", "retryable service_unavailable after 600s"),
                (405, &[("allow", "POST")], "", "rejected bad_request"),
                (
                    413,
                    &[],
                    &error(413, "104", "payload reached size limit"),
                    "rejected payload_too_large: errno 104: payload reached size limit (the \
                     request's body had 4096 bytes)",
                ),
            ],
        );
    }

    // classify/README.md §1.1
    #[test]
    fn what_its_source_says_is_understood() {
        check_errors(&[
            (400, "106", "Invalid user", "gone not_found"),
            (400, "108", "Invalid router type", "rejected bad_request"),
            (
                401,
                "110",
                "?",
                "retryable vapid_rejected again fresh_token unfamiliar",
            ),
            (400, "999", "?", "rejected bad_request unfamiliar"),
            (
                502,
                "901",
                "Bridge authentication error",
                "retryable service_unavailable",
            ),
            (
                502,
                "902",
                "Bridge unavailable",
                "retryable service_unavailable",
            ),
            (
                502,
                "903",
                "Bridge timeout",
                "retryable service_unavailable",
            ),
            (
                502,
                "null",
                "Upstream error",
                "retryable service_unavailable",
            ),
            (
                500,
                "null",
                "IO error",
                "retryable service_unavailable down",
            ),
            (
                500,
                "201",
                "Could not save",
                "retryable service_unavailable down",
            ),
        ]);
        let device = "This message is intended for a constrained device and is limited in size. \
                      Converted buffer is too long by 12 bytes";
        check(
            context(Service::Mozilla),
            &[
                (
                    413,
                    &[],
                    &error(413, "104", device),
                    "rejected payload_too_large: errno 104: This message is intended for a \
                     constrained device and is limited in size. Converted buffer is too long by \
                     12 bytes (the request's body had 4096 bytes; a payload of at most 2744 \
                     reaches every device: apps.<app>.payload_limits = { mozilla = \"2744B\" })",
                ),
                (
                    503,
                    &[("retry-after", "120")],
                    &error(503, "null", "Service unavailable"),
                    "retryable service_unavailable after 120s down: Service unavailable",
                ),
                (
                    503,
                    &[("retry-after", "30")],
                    "",
                    "retryable service_unavailable after 30s down",
                ),
                (503, &[], "", "retryable service_unavailable down"),
                (
                    503,
                    &[],
                    "<html><head><title>503 Service Temporarily Unavailable</title></head></html>",
                    "retryable service_unavailable down: 503 Service Temporarily Unavailable",
                ),
                (
                    429,
                    &[("retry-after", "600")],
                    "",
                    "retryable throttled after 600s pause origin",
                ),
                (
                    502,
                    &[],
                    "<html><head><title>502 Bad Gateway</title></head></html>",
                    "retryable service_unavailable down: 502 Bad Gateway",
                ),
            ],
        );
    }

    // classify/README.md §1.1: the quota and the outages of FCM, by which Firefox for Android is
    // reached.
    #[test]
    fn trouble_of_the_bridge_to_android_is_of_one_endpoint() {
        let quota = "Upstream error, RESOURCE_EXHAUSTED: Quota exceeded for quota metric";
        let outage = "Upstream error, UNAVAILABLE: The service is currently unavailable";
        for (status, errno, message, wait, expected) in [
            (429, "201", quota, "3600", "throttled after 3600s"),
            (429, "null", quota, "10", "throttled after 10s"),
            (
                429,
                "201",
                "Too Many Requests",
                "600",
                "throttled after 600s",
            ),
            (503, "201", outage, "120", "service_unavailable after 120s"),
            (503, "null", outage, "30", "service_unavailable after 30s"),
            (
                503,
                "201",
                "Unavailable",
                "30",
                "service_unavailable after 30s",
            ),
        ] {
            let words = match errno {
                "null" => message.to_owned(),
                _ => format!("errno {errno}: {message}"),
            };
            let actual = format!("retryable {expected}: {words}");
            let body = error(status, errno, message);
            let row: Row<'_> = (status, &[("retry-after", wait)], &body, &actual);
            check(context(Service::Mozilla), &[row]);
        }
        let elsewhere = error(
            503,
            "null",
            "Overloaded; not an Upstream error, UNAVAILABLE: x",
        );
        let actual = "retryable service_unavailable down: Overloaded; not an Upstream error, \
                    UNAVAILABLE: x";
        check(context(Service::Mozilla), &[(503, &[], &elsewhere, actual)]);
    }
}
