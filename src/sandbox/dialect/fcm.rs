//! Firebase Cloud Messaging: sentences in plain text, and pages from older days
//! (classify/README.md §1.2).

use super::behaviour::{Dialect, Taken, named};
use super::service_answer::ServiceAnswer;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::vapid::VapidError;

pub(super) static DIALECT: Dialect = Dialect {
    path: |token| format!("/fcm/send/{token}"),
    accept,
    answers,
    refuse,
    demand: None,
};

/// `Location` is no URL of percent escapes, and there is no TTL.
fn accept(taken: &Taken<'_>) -> ServiceAnswer {
    let location = format!("{}/0:{:016}%31bd5c9df9fd7ecd", taken.origin, taken.id);
    ServiceAnswer::new(201).header("location", location)
}

const TEXTS: [(&str, u16, &str); 19] = [
    (
        "gone",
        410,
        "push subscription has unsubscribed or expired.",
    ),
    (
        "not_found",
        404,
        "A valid push subscription endpoint should be specified in the URL as such: \
         https://fcm.googleapis.com/wp/dHIoDxE7Hdg:APA91bH1Zj0kNa...",
    ),
    (
        "vapid_rejected",
        403,
        "permission denied: invalid JWT provided",
    ),
    (
        "key_mismatch",
        403,
        "the VAPID credentials in the authorization header do not correspond to the credentials \
         used to create the subscriptions.",
    ),
    (
        "sender_mismatch",
        403,
        "the key in the authorization header does not correspond to the sender ID used to \
         subscribe this user.",
    ),
    (
        "invalid_endpoint",
        403,
        "invalid push subscription endpoint.",
    ),
    (
        "vapid_audience",
        403,
        "permission denied: invalid aud claim. The aud claim in the token MUST include the origin \
         of the push resource URL.",
    ),
    (
        "vapid_too_long",
        403,
        "permission denied: the exp claim MUST NOT be more than 24 hours from the time of the \
         request.",
    ),
    (
        "vapid_expired",
        403,
        "permission denied: the token has expired.",
    ),
    (
        "vapid_no_expiry",
        403,
        "permission denied: the exp claim is missing.",
    ),
    (
        "vapid_key",
        403,
        "the public key must be 65 bytes long and base64url-encoded.",
    ),
    (
        "vapid_header",
        403,
        "the authorization header has an invalid format.",
    ),
    (
        "crypto_key_missing",
        403,
        "the crypto-key header is missing.",
    ),
    ("unauthenticated", 403, "sender is not authenticated."),
    (
        "vapid_missing",
        401,
        "Authorization header must be specified.",
    ),
    ("bad_request", 400, "bad request"),
    (
        "payload_too_large",
        400,
        "the binary data passed in the request must be less than 4096 bytes.",
    ),
    ("invalid_registration", 400, "InvalidRegistration"),
    ("invalid_token", 400, "InvalidTokenFormat"),
];

const PAGES: [(&str, u16, &str); 3] = [
    ("bad_ttl", 400, "InvalidTtlParameter"),
    ("unauthorized", 400, "UnauthorizedRegistration"),
    ("sender_page", 403, "MismatchSenderId"),
];

/// The page of Google's front end, in trouble or at a path that it does not know.
const FRONT_PAGE: &str = "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n  <title>Error \
                          404 (Not Found)!!1</title>\n  <p><b>404.</b>\n";

fn answers() -> Vec<(&'static str, ServiceAnswer)> {
    let front = ("front_page", ServiceAnswer::new(404).html(FRONT_PAGE));
    let texts = TEXTS.map(|(name, status, text)| {
        let answer = ServiceAnswer::new(status).text(format!("{text}\n"));
        (name, answer)
    });
    let pages = PAGES.map(|(name, status, error)| {
        let page = format!(
            "<HTML>\n<HEAD>\n<TITLE>{error}</TITLE>\n</HEAD>\n<BODY>\n<H1>{error}</H1>\n<H2>Error \
             {status}</H2>\n</BODY>\n</HTML>\n"
        );
        (name, ServiceAnswer::new(status).html(page))
    });
    let bare = [
        ("throttled", 429),
        ("unavailable", 503),
        ("internal_error", 500),
        ("bad_gateway", 502),
    ]
    .map(|(name, status)| (name, ServiceAnswer::new(status)));
    texts
        .into_iter()
        .chain(pages)
        .chain(bare)
        .chain([front])
        .collect()
}

fn refuse(refusal: &Refusal) -> Option<ServiceAnswer> {
    let name = match refusal {
        // The body is not looked into.
        Refusal::Decrypt(_) | Refusal::SharedKey => return None,
        Refusal::NotFound => "not_found",
        Refusal::TooLarge(_) => "payload_too_large",
        Refusal::TtlMissing | Refusal::Ttl(_) => "bad_ttl",
        Refusal::Vapid(error) => of_vapid(error),
        _ => "bad_request",
    };
    named(answers(), name)
}

fn of_vapid(error: &VapidError) -> &'static str {
    match error {
        VapidError::Absent => "vapid_missing",
        VapidError::KeyMismatch => "key_mismatch",
        VapidError::Audience { .. } => "vapid_audience",
        VapidError::TooLong => "vapid_too_long",
        VapidError::Expired => "vapid_expired",
        VapidError::Claim("exp", _) => "vapid_no_expiry",
        VapidError::Key => "vapid_key",
        VapidError::Missing("p256ecdsa") => "crypto_key_missing",
        VapidError::Several
        | VapidError::CredentialLength(_)
        | VapidError::Scheme
        | VapidError::Missing(_)
        | VapidError::Repeated => "vapid_header",
        _ => "vapid_rejected",
    }
}
