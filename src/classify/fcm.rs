//! Firebase Cloud Messaging (classify/README.md §1.2): plain text, of old in HTML.

use crate::outcome::{Reason, Scope};

use super::answer_view::AnswerView;
use super::diagnosis::{Cooldown, Diagnosis, Marker, Throttle};

/// What it says with which status; where texts share words, the first one wins.
const MARKERS: &[Marker] = &[
    // row 9
    Marker(
        &[400],
        "InvalidRegistration",
        Diagnosis::Gone(Reason::NotFound),
    ),
    Marker(
        &[400],
        "InvalidTokenFormat",
        Diagnosis::Gone(Reason::NotFound),
    ),
    // row 11
    Marker(&[403], "do not correspond", Diagnosis::KeyMismatch),
    Marker(&[403], "does not correspond", Diagnosis::KeyMismatch),
    Marker(&[400, 403], "MismatchSenderId", Diagnosis::KeyMismatch),
    // row 15
    Marker(
        &[403],
        "invalid push subscription endpoint",
        Diagnosis::EndpointDoubted,
    ),
    // row 17
    Marker(&[403], "token has expired", Diagnosis::TokenExpired),
    Marker(&[403], "more than 24 hours", Diagnosis::TokenExpired),
    // row 20
    Marker(&[400], "UnauthorizedRegistration", Diagnosis::TokenRefused),
    // row 21
    Marker(&[403], "invalid JWT provided", Diagnosis::TokenRefused),
    Marker(&[403], "aud claim", Diagnosis::TokenRefused),
    Marker(&[403], "exp claim", Diagnosis::TokenRefused),
    Marker(&[403], "public key must be", Diagnosis::TokenRefused),
    Marker(&[403], "base64url-encoded", Diagnosis::TokenRefused),
    Marker(&[403], "crypto-key header", Diagnosis::TokenRefused),
    Marker(&[403], "authorization header", Diagnosis::TokenRefused),
    Marker(
        &[403],
        "sender is not authenticated",
        Diagnosis::TokenRefused,
    ),
    Marker(
        &[401],
        "Authorization header must be specified",
        Diagnosis::TokenRefused,
    ),
    // row 22
    Marker(&[400], "less than 4096 bytes", Diagnosis::TooLarge),
    // row 34
    Marker(&[400], "InvalidTtlParameter", Diagnosis::BadRequest),
    Marker(&[400], "bad request", Diagnosis::BadRequest),
];

/// Google limits the site that is disruptive, hence the key, and not the whole host (row 28).
const THROTTLE: Throttle = Throttle {
    pause: Some(Scope::Key),
    cooldown: Cooldown::AsAsked,
};

/// What it says of a subscription that it does not know (row 6).
const NOT_FOUND: [&str; 2] = ["a valid push subscription endpoint", "NotRegistered"];

/// Returns whether a 404 is FCM's own, and not a page of the front end before it.
pub(super) fn says_not_found(view: &AnswerView<'_>) -> bool {
    NOT_FOUND.iter().any(|text| view.holds(text))
}

/// Returns what FCM says, if it is one of its ways to say it.
pub(super) fn diagnose(view: &AnswerView<'_>) -> Option<Diagnosis> {
    match view.status {
        429 => Some(Diagnosis::Throttled(THROTTLE)),
        _ => Marker::in_body(MARKERS, view),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::classify::tests::{check, context};
    use crate::origin::Service;
    use crate::outcome::Answer;

    // classify/README.md §1.2
    #[test]
    fn its_texts_are_understood() {
        let page = "<HTML>\n<HEAD>\n<TITLE>UnauthorizedRegistration</TITLE>\n</HEAD>\n<BODY \
                    BGCOLOR=\"#FFFFFF\">\n<H1>UnauthorizedRegistration</H1>\n<H2>Error 400</H2>\n\
                    </BODY>\n</HTML>\n";
        check(
            context(Service::Fcm),
            &[
                (
                    201,
                    &[("location", "https://fcm.googleapis.com/0:1%2")],
                    "",
                    "accepted accepted",
                ),
                (
                    410,
                    &[],
                    "push subscription has unsubscribed or expired.\n",
                    "gone unsubscribed: push subscription has unsubscribed or expired.",
                ),
                (
                    404,
                    &[],
                    "A valid push subscription endpoint should be specified in the URL as such: \
                     https://fcm.googleapis.com/wp/dHIoDxE7Hdg:APA91bH1Zj0kNa\n",
                    "gone not_found: A valid push subscription endpoint should be specified in \
                     the URL as such: https://fcm.googleapis.com/[…]",
                ),
                (
                    403,
                    &[],
                    "the VAPID credentials in the authorization header do not correspond to the \
                     credentials used to create the subscriptions.\n",
                    "rejected key_mismatch again another_key: the VAPID credentials in the \
                     authorization header do not correspond to the credentials used to create \
                     the subscriptions.",
                ),
                (
                    403,
                    &[],
                    "the key in the authorization header does not correspond to the sender ID \
                     used to subscribe this user.",
                    "rejected key_mismatch again another_key: the key in the authorization \
                     header does not correspond to the sender ID used to subscribe this user.",
                ),
                (
                    403,
                    &[],
                    "invalid push subscription endpoint.",
                    "retryable service_unavailable after 1200s: invalid push subscription \
                     endpoint.",
                ),
                (
                    403,
                    &[],
                    "permission denied: invalid JWT provided\n",
                    "retryable vapid_rejected again fresh_token: permission denied: invalid JWT \
                     provided",
                ),
                (
                    403,
                    &[],
                    "aud claim in the token MUST include the origin of the push resource URL",
                    "retryable vapid_rejected again fresh_token: aud claim in the token MUST \
                     include the origin of the push resource URL",
                ),
                (
                    403,
                    &[],
                    "exp claim MUST NOT be more than 24 hours from the time of the request",
                    "retryable vapid_rejected again fresh_token: exp claim MUST NOT be more than \
                     24 hours from the time of the request",
                ),
                (
                    403,
                    &[],
                    "public key must be 65 bytes long",
                    "retryable vapid_rejected again fresh_token: public key must be 65 bytes long",
                ),
                (
                    403,
                    &[],
                    "crypto-key header had invalid format",
                    "retryable vapid_rejected again fresh_token: crypto-key header had invalid \
                     format",
                ),
                (
                    403,
                    &[],
                    "sender is not authenticated",
                    "retryable vapid_rejected again fresh_token: sender is not authenticated",
                ),
                (
                    401,
                    &[],
                    "Authorization header must be specified.",
                    "retryable vapid_rejected again fresh_token: Authorization header must be \
                     specified.",
                ),
                (
                    400,
                    &[],
                    "binary data passed in the request must be less than 4096 bytes\n",
                    "rejected payload_too_large: binary data passed in the request must be less \
                     than 4096 bytes (the request's body had 4096 bytes)",
                ),
                (
                    400,
                    &[],
                    page,
                    "retryable vapid_rejected again fresh_token: UnauthorizedRegistration",
                ),
                (
                    403,
                    &[],
                    "<HTML>\n<HEAD>\n<TITLE>MismatchSenderId</TITLE>\n</HEAD>\n<BODY \
                     BGCOLOR=\"#FFFFFF\" TEXT=\"#000000\">\n<H1>MismatchSenderId</H1>\n<H2>Error \
                     403</H2>\n</BODY>\n</HTML>\n",
                    "rejected key_mismatch again another_key: MismatchSenderId",
                ),
                (
                    400,
                    &[],
                    "<HTML><TITLE>InvalidTokenFormat</TITLE></HTML>",
                    "gone not_found: InvalidTokenFormat",
                ),
                (
                    400,
                    &[],
                    "Error=InvalidRegistration",
                    "gone not_found: Error=InvalidRegistration",
                ),
                (
                    400,
                    &[],
                    "<HTML><TITLE>InvalidTtlParameter</TITLE></HTML>",
                    "rejected bad_request: InvalidTtlParameter",
                ),
                (
                    400,
                    &[],
                    "Bad Request\n",
                    "rejected bad_request: Bad Request",
                ),
                (
                    400,
                    &[],
                    "something new",
                    "rejected bad_request unfamiliar: something new",
                ),
                (429, &[], "", "retryable throttled pause key"),
                (
                    429,
                    &[("retry-after", "60")],
                    "",
                    "retryable throttled after 60s pause key",
                ),
                (502, &[], "", "retryable service_unavailable down"),
                // The text is FCM's with 403 only; a page of an error may hold anything.
                (
                    503,
                    &[],
                    "InvalidRegistration",
                    "retryable service_unavailable down: InvalidRegistration",
                ),
            ],
        );
    }

    #[test]
    fn no_marker_hides_another() {
        for Marker(statuses, text, meant) in MARKERS {
            for status in *statuses {
                let answer = Answer {
                    status: StatusCode::from_u16(*status).unwrap(),
                    headers: HeaderMap::new(),
                    excerpt: text.to_uppercase().into(),
                };
                assert_eq!(
                    diagnose(&AnswerView::new(&answer)),
                    Some(*meant),
                    "{status} {text}"
                );
            }
        }
    }
}
